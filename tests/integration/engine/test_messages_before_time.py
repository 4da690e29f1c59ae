"""A message accepted in the very moment a wait times out counts, on every store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tenuto import App, Context
from tenuto.ports.store import Commit, Committed
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, start_runtime


def race(runtime: Runtime, message: Callable[[], Awaitable[Any]]) -> list[str]:
    """Send a message once a record of time is on its way; return what became of all such records."""
    commit = runtime.store.commit
    outcomes: list[str] = []

    async def beaten(batch: list[Commit]) -> list[Committed]:
        timed = [n for n, item in enumerate(batch) if item.inbox_seen is not None]
        if timed and not outcomes:
            await message()
        answers = await commit(batch)
        outcomes.extend(answers[n].outcome for n in timed)
        return answers

    runtime.store.commit = beaten  # type: ignore[method-assign]
    return outcomes


async def ended(app: App, url: str, message: Callable[[Runtime, str], Awaitable[Any]]) -> tuple[Any, list[str]]:
    runtime = await start_runtime(url, app.catalog(), options=WorkerOptions(lease_ms=2000))
    try:
        run: list[str] = []
        outcomes = race(runtime, lambda: message(runtime, run[0]))
        run.append((await runtime.engine.runs.start("w", {})).id)
        view = await runtime.engine.runs.get(run[0], wait_s=20)
        return view, outcomes
    finally:
        await runtime.close()


async def approve(runtime: Runtime, run: str) -> None:
    (ticket,) = await runtime.store.tickets("default", run_id=run)
    await runtime.engine.tickets.decide(ticket.id, "approve", by="ann")


async def signal(runtime: Runtime, run: str) -> None:
    await runtime.engine.runs.signal(run, "go", 7)


async def test_an_approval_beats_its_expiry(url: str):
    app = App("t")
    app.workflow("w").approval("ask", message="May I?", timeout_s=0.3)
    view, outcomes = await ended(app, url, approve)
    assert view.status == "completed", view
    assert view.output["ask"]["by"] == "ann"
    assert outcomes[0] == "moved"


async def test_a_signal_beats_the_timeout_of_a_node(url: str):
    app = App("t")
    app.workflow("w").wait_signal("go", id="w", timeout_s=0.3)
    view, outcomes = await ended(app, url, signal)
    assert view.output["w"] == {"signal": "go", "payload": 7, "timed_out": False}
    assert outcomes[0] == "moved"


async def test_a_signal_beats_the_timeout_of_a_step(url: str):
    app = App("t")

    @app.step
    async def wait(ctx: Context) -> Any:
        return await ctx.wait_signal("go", timeout_s=0.3)

    app.workflow("w").step(wait, id="wait")
    view, outcomes = await ended(app, url, signal)
    assert view.output == {"wait": 7}
    assert outcomes[0] == "moved"


async def test_an_answer_beats_the_timeout_of_a_step(url: str):
    app = App("t")

    @app.step
    async def ask(ctx: Context) -> Any:
        return (await ctx.approve("May I?", timeout_s=0.3))["by"]

    app.workflow("w").step(ask, id="ask")
    view, outcomes = await ended(app, url, approve)
    assert view.output == {"ask": "ann"}
    assert outcomes[0] == "moved"


async def test_a_record_of_time_is_stored_where_nothing_came(url: str):
    app = App("t")
    app.workflow("w").wait_signal("go", id="w", timeout_s=0.3)

    async def nothing(_: Runtime, __: str) -> None:
        return None

    view, outcomes = await ended(app, url, nothing)
    assert view.output["w"]["timed_out"] is True
    assert set(outcomes) == {"ok"}
