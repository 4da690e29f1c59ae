"""Workflows that start each other for ever, or one that starts too many others, stop at a person, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tenuto import App
from tenuto.domain.graph.limits import Most
from tenuto.domain.runs.check import check_run
from tenuto.runtime.services.requests import Replay
from tenuto.runtime.services.results import TicketView
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, start_runtime


@asynccontextmanager
async def running(url: str, most: Most, **definitions: dict[str, Any]) -> AsyncGenerator[Runtime]:
    options = WorkerOptions(lease_ms=2000, most=most)
    runtime = await start_runtime(url, App("t").catalog(), options=options)
    try:
        for name, definition in definitions.items():
            await runtime.engine.workflows.publish({"name": name, **definition})
        yield runtime
    finally:
        await runtime.close()


def calls(name: str) -> dict[str, Any]:
    return {"nodes": [{"id": "again", "kind": "subflow", "config": {"workflow": name}}]}


async def the_breaker(runtime: Runtime, *told: str) -> TicketView:
    """Return the question of a breaker, of whichever run, that is not among those told before."""
    async with asyncio.timeout(15):
        while True:  # nothing tells of other runs' tickets but their stream, whose place a fresh look would have to know
            for ticket in (await runtime.engine.tickets.list(kind="breaker", state="open")).items:
                if ticket.id not in told:
                    return ticket
            await asyncio.sleep(0.02)


async def sound(runtime: Runtime, run: str) -> None:
    _, plan, _ = await runtime.engine.context.load(run)
    assert check_run(run, await runtime.store.records(run, 0, 1000), lambda _: plan) == []


async def all_runs(runtime: Runtime) -> list[Any]:
    return (await runtime.engine.runs.list()).items


async def test_workflows_that_start_each_other_are_stopped_by_their_depth(url: str) -> None:
    """A starts b, b starts a: the fifth below the first is not started; where a person lets it, four more are."""
    async with running(url, Most(depth=4), a=calls("b"), b=calls("a")) as runtime:
        engine = runtime.engine
        first = (await engine.runs.start("a", None)).id
        ticket = await the_breaker(runtime)
        assert ticket.data == {"what": "depth", "count": 4, "limit": 4}
        assert len(await all_runs(runtime)) == 5
        assert ticket.run != first
        await engine.tickets.decide(ticket.id, "resume", by="grace")
        deeper = await the_breaker(runtime, ticket.id)
        assert deeper.data == {"what": "depth", "count": 8, "limit": 4}
        assert len(await all_runs(runtime)) == 9
        await engine.tickets.decide(deeper.id, "fail", by="grace", reason="that is no end")
        view = await engine.runs.result(first, timeout_s=15)
        assert view.status == "failed"
        assert "the run reached its limit of depth, and grace did not let it go on: that is no end" in view.error.message
        last = await engine.runs.result(deeper.run, timeout_s=15)
        assert last.error is not None
        assert last.error.code == "limit.depth"
        for run in await all_runs(runtime):
            await sound(runtime, run.id)


async def test_sub_flows_in_a_map_in_a_loop_count_together(url: str) -> None:
    """Three passes over two items are six sub-flows; a limit of the workflow's own of four asks before the fifth."""
    body = {"nodes": [{"id": "one", "kind": "subflow", "config": {"workflow": "leaf"}}]}
    each = {"id": "each", "kind": "map", "config": {"over": "${input}", "body": body}}
    loop = {
        "nodes": [each, {"id": "turn", "kind": "join"}], "limits": {"children": 4},
        "edges": [
            {"from": "each", "to": "turn"}, {"from": "turn", "to": "each", "when": "iteration < 3", "max_iterations": 3},
        ],
    }  # fmt: skip
    async with running(url, Most(), w=loop, leaf={"nodes": [{"id": "x", "kind": "join"}]}) as runtime:
        engine = runtime.engine
        run = (await engine.runs.start("w", [1, 2])).id
        ticket = await the_breaker(runtime)
        assert ticket.run == run
        assert ticket.data == {"what": "children", "count": 4, "limit": 4}
        assert len(await all_runs(runtime)) == 5
        assert (await engine.runs.get(run)).status == "paused"
        assert ticket.id in (await engine.runs.why(run)).summary
        await engine.tickets.decide(ticket.id, "resume", by="grace")
        view = await engine.runs.result(run, timeout_s=15)
        assert view.status == "completed", view.error
        assert len(await all_runs(runtime)) == 7
        await sound(runtime, run)


@pytest.mark.parametrize("mode", ["freeze", "live", "shadow"])
async def test_what_a_replay_takes_over_does_not_count(url: str, mode: Any) -> None:
    """A replay of a run that was let go on asks nobody again for what it takes from it."""
    loop = {
        "nodes": [{"id": "a", "kind": "join"}, {"id": "b", "kind": "join"}],
        "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "a", "when": "iteration < 4", "max_iterations": 6}],
    }
    async with running(url, Most(steps=5), w=loop) as runtime:
        origin = (await runtime.engine.runs.start("w", None)).id
        await runtime.engine.tickets.decide((await the_breaker(runtime)).id, "resume", by="grace")
        await runtime.engine.runs.result(origin, timeout_s=15)
        request = Replay(mode=mode) if mode == "freeze" else Replay(mode=mode, from_step=6)
        again = await runtime.engine.runs.replay(origin, request)
        view = await runtime.engine.runs.get(again.id, wait_s=10)
        assert view.status == "completed"
        await sound(runtime, again.id)


async def test_a_question_about_a_run_away_outlives_the_worker(url: str) -> None:
    """The run is paused for whoever owns it next; its steps begin once, the one that was too many only when it may."""
    if url == "memory:":
        pytest.skip("nothing in memory outlives its process")
    loop = {
        "nodes": [{"id": "a", "kind": "join"}, {"id": "b", "kind": "join"}],
        "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "a", "when": "iteration < 6", "max_iterations": 6}],
    }
    async with running(url, Most(steps=5), w=loop) as runtime:
        run = (await runtime.engine.runs.start("w", None)).id
        ticket = await the_breaker(runtime)
    async with running(url, Most(steps=5)) as runtime:
        assert (await runtime.engine.runs.get(run)).status == "paused"
        await runtime.engine.tickets.decide(ticket.id, "resume", by="grace")
        again = await the_breaker(runtime, ticket.id)
        assert again.data == {"what": "steps", "count": 10, "limit": 5}
        await runtime.engine.tickets.decide(again.id, "resume", by="grace")
        view = await runtime.engine.runs.result(run, timeout_s=15)
        assert view.status == "completed", view.error
        assert len(view.steps) == 12
        await sound(runtime, run)
