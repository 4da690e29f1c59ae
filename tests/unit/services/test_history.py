"""A run's past and its live stream: complete, in order, without gaps; any point of it can be seen again."""

from __future__ import annotations

import asyncio

import pytest

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.errors import Invalid
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import ListEvents, StartRun
from tenuto.wiring import Runtime, running
from tests.unit.services.harness import ASK, CALC, FLAKY, broken, make_app, until


async def ended(engine: Engine) -> str:
    await engine.workflows.publish(CALC)
    run = await engine.runs.start("calc", {"n": 4})
    await engine.runs.result(run.id, timeout_s=10)
    return run.id


async def test_events_are_paged_by_id_without_gaps(engine: Engine):
    run = await ended(engine)
    whole = (await engine.history.events(run, limit=1000)).items
    paged = []
    after = ""
    while True:
        page = await engine.history.events(run, after=after, limit=2)
        paged += page.items
        if page.next is None:
            break
        after = page.next
    assert paged == whole
    assert whole[0].type == "run.created"
    assert whole[-1].type == "run.completed"


@pytest.mark.parametrize("cut", range(0, 8, 2))
async def test_a_stream_resumes_after_any_event_and_ends_with_the_run(engine: Engine, cut: int):
    run = await ended(engine)
    whole = [event async for event in engine.history.stream(run)]
    rest = [event async for event in engine.history.stream(run, after=whole[cut].id)]
    assert rest == whole[cut + 1 :]
    assert [event async for event in engine.history.stream(run, after=whole[-1].id)] == []


async def test_a_live_stream_has_every_event_the_journal_has(engine: Engine):
    run = await engine.runs.submit(StartRun(definition=ASK, input={}))
    following = asyncio.ensure_future(collect(engine, run.id))
    await until(engine, run.id, "ticket.opened")
    (ticket,) = (await engine.tickets.list(state="open")).items
    await engine.tickets.decide(ticket.id, "approve")
    live = await asyncio.wait_for(following, 10)
    assert live == (await engine.history.events(run.id, limit=1000)).items


async def collect(engine: Engine, run_id: str):
    return [event async for event in engine.history.stream(run_id)]


async def test_another_process_sees_the_same_stream(runtime: Runtime):
    assert isinstance(runtime.store, MemoryStore)
    run = await runtime.engine.runs.submit(StartRun(definition=ASK, input={}))
    async with running("memory:", make_app().catalog(), worker=False, store=runtime.store.view()) as other:
        following = asyncio.ensure_future(collect(other.engine, run.id))
        await until(runtime.engine, run.id, "ticket.opened")
        await other.engine.runs.cancel(run.id)
        far = await asyncio.wait_for(following, 20)
        assert (await other.engine.runs.result(run.id, timeout_s=5)).status == "cancelled"
    assert far == (await runtime.engine.history.events(run.id, limit=1000)).items


async def test_filters_let_through_what_they_name(engine: Engine):
    broken.add("flaky")
    run = await engine.runs.submit(StartRun(definition=FLAKY, input={}))
    await engine.runs.result(run.id, timeout_s=10)
    errors = await engine.history.events(run.id, where=ListEvents(errors=True))
    assert [event.type for event in errors.items] == ["step.dead_lettered", "run.failed"]
    steps = await engine.history.events(run.id, where=ListEvents(types=("step.",)))
    assert {event.type for event in steps.items} == {"step.started", "step.dead_lettered"}
    of_node = [event.step async for event in engine.history.stream(run.id, where=ListEvents(node="a"))]
    assert set(of_node) == {"a"}
    with pytest.raises(Invalid, match="no type of event"):
        await engine.history.events(run.id, where=ListEvents(types=("nope",)))


async def test_the_state_and_graph_of_any_record_can_be_seen(engine: Engine):
    run = await ended(engine)
    last = await engine.history.state(run)
    first = await engine.history.state(run, at=1)
    assert (first.at, first.head, last.at) == (1, last.head, last.head)
    assert "last" not in first.state.get("steps", {})
    assert last.state["status"] == "completed"
    graph = await engine.history.graph(run, at=last.head)
    assert [(item.id, item.status) for item in graph.nodes] == [("double", "completed"), ("last", "completed")]
    with pytest.raises(Invalid, match="records 1 to"):
        await engine.history.state(run, at=99)


async def test_the_stream_over_all_runs_resumes_by_cursor(engine: Engine):
    await engine.workflows.publish(CALC)
    ids = [(await engine.runs.start("calc", {"n": n})).id for n in range(3)]
    for run in ids:
        await engine.runs.result(run, timeout_s=10)
    seen = []
    done: set[str] = set()
    cursors: dict[int, int] = {}
    async for item in engine.history.stream_all(cursors={}):
        seen.append((item.event.run, item.event.id))
        cursors = item.cursors
        if item.event.type == "run.completed":
            done.add(item.event.run)
        if done == set(ids):
            break
    assert len(set(seen)) == len(seen)
    assert {run for run, _ in seen} == set(ids)
    more = await engine.runs.start("calc", {"n": 9})
    async for item in engine.history.stream_all(cursors=cursors):
        assert item.event.run == more.id
        if item.event.type == "run.completed":
            break


async def test_a_run_that_ends_while_its_stream_catches_up_is_told_to_its_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    engine = runtime.engine
    run = await engine.runs.submit(StartRun(definition=ASK, input={}))
    await until(engine, run.id, "ticket.opened")
    get_run, ended = runtime.store.get_run, asyncio.Event()

    async def late(run_id: str):
        if not ended.is_set() and asyncio.current_task() is following:
            if caught.done():
                ended.set()
                await engine.runs.cancel(run.id)
                await engine.runs.result(run.id, timeout_s=10)
            else:
                caught.set_result(None)
        return await get_run(run_id)

    caught: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    following = asyncio.ensure_future(collect(engine, run.id))
    monkeypatch.setattr(runtime.store, "get_run", late)
    live = await asyncio.wait_for(following, 20)
    assert ended.is_set()
    assert live == (await engine.history.events(run.id, limit=1000)).items
