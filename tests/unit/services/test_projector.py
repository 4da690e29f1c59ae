"""The projection of steps follows the journals, in small batches or rebuilt, with equal answers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tenuto.ports.store import Store
from tenuto.runtime.projector import Projector
from tenuto.runtime.services.requests import ListSteps, StartRun
from tenuto.runtime.services.results import StepRowView
from tenuto.wiring import Runtime
from tests.unit.services.harness import ASK, CALC, FLAKY, broken, until


async def rows(runtime: Runtime) -> list[StepRowView]:
    return sorted((await runtime.engine.steps.list(limit=1000)).items, key=lambda row: (row.run, row.id))


async def story(runtime: Runtime) -> None:
    """Runs that end, fail, are redriven and wait."""
    engine = runtime.engine
    await engine.workflows.publish(CALC)
    for n in range(3):
        await engine.runs.result((await engine.runs.start("calc", {"n": n})).id, timeout_s=10)
    broken.add("flaky")
    failed = await engine.runs.submit(StartRun(definition=FLAKY, input={}))
    await engine.runs.result(failed.id, timeout_s=10)
    waiting = await engine.runs.submit(StartRun(definition=ASK, input={}))
    await until(engine, waiting.id, "ticket.opened")


async def test_steps_of_all_runs_are_listed_and_filtered(runtime: Runtime):
    await story(runtime)
    projector = Projector(runtime.store, runtime.engine.context.definitions)
    await projector.drain()
    assert await projector.lag() == 0
    found = await rows(runtime)
    assert len(found) == 3 * 2 + 1 + 2
    steps = runtime.engine.steps
    (dead,) = (await steps.list(ListSteps(status=("dead_letter",)))).items
    assert (dead.node, dead.kind, dead.error, dead.attempt) == ("a", "function", "it is broken", 1)
    (asked,) = (await steps.list(ListSteps(kind="approval"))).items
    assert asked.status == "waiting"
    assert len((await steps.list(ListSteps(node="double"))).items) == 3


@pytest.mark.parametrize("groups", [1, 2, 500])
async def test_batches_of_any_size_and_a_rebuild_give_equal_answers(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, groups: int
):
    await story(runtime)
    monkeypatch.setattr("tenuto.runtime.projector.GROUPS", groups)
    projector = Projector(runtime.store, runtime.engine.context.definitions)
    await projector.rebuild()
    first = await rows(runtime)
    broken.clear()
    (letter,) = (await runtime.engine.dead_letters.list()).items
    head = (await runtime.engine.history.events(letter.run, limit=1000)).items[-1].id
    await runtime.engine.dead_letters.redrive(letter.id)
    await until(runtime.engine, letter.run, "run.completed", after=head)
    await projector.drain()
    followed = await rows(runtime)
    assert [row.status for row in followed if row.run == letter.run] == ["completed"]
    assert [row for row in followed if row.run != letter.run] == [row for row in first if row.run != letter.run]
    await Projector(runtime.store, runtime.engine.context.definitions).rebuild()
    assert await rows(runtime) == followed


async def test_a_projector_without_memory_goes_on_where_another_stopped(runtime: Runtime):
    await story(runtime)
    definitions = runtime.engine.context.definitions
    await Projector(runtime.store, definitions).drain()
    (ticket,) = (await runtime.engine.tickets.list(state="open")).items
    await runtime.engine.tickets.decide(ticket.id, "approve")
    await runtime.engine.runs.result(ticket.run, timeout_s=10)
    await Projector(runtime.store, definitions).drain()
    found = [row for row in await rows(runtime) if row.run == ticket.run]
    assert [(row.id, row.status) for row in found] == [("end", "completed"), ("first", "completed"), ("ok", "completed")]
    assert all(row.started_at for row in found)


class Held:
    """A store whose writing of steps waits until it is let go."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def project_steps(self, *args: Any) -> None:
        self.asked.set()
        await self.go.wait()
        await self.store.project_steps(*args)


async def test_a_projector_that_was_held_up_undoes_nothing(runtime: Runtime):
    """What it had read before another went ahead is written late, and leaves the newer rows as they are."""
    await story(runtime)
    definitions, held = runtime.engine.context.definitions, Held(runtime.store)
    late = asyncio.create_task(Projector(cast("Store", held), definitions).step())
    await held.asked.wait()
    (ticket,) = (await runtime.engine.tickets.list(state="open")).items
    await runtime.engine.tickets.decide(ticket.id, "approve")
    await runtime.engine.runs.result(ticket.run, timeout_s=10)
    await Projector(runtime.store, definitions).drain()
    before = await rows(runtime)
    held.go.set()
    await late
    assert await rows(runtime) == before
    assert {row.status for row in before if row.run == ticket.run} == {"completed"}
