"""What a step's code asks people and signals, over its attempts: each question open to whoever may answer it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from features.harness import Gate, ended, seen
from tenuto import App, Context, Retry
from tenuto.errors import Conflict


async def test_a_later_attempt_asks_anew_and_can_be_answered(both_url: str):
    app, gate = App("t"), Gate()

    @app.step(retry=Retry(attempts=3, backoff_s=0.01))
    async def work(ctx: Context) -> Any:
        async def fails() -> None:
            await gate()
            raise RuntimeError(f"attempt {ctx.attempt}")

        asked = asyncio.ensure_future(ctx.approve(f"may attempt {ctx.attempt}?"))
        try:
            if ctx.attempt < 3:
                await ctx.call(fails, key="fails", effect="effect")  # code that waits for people alone is evicted
            return {"by": (await asked)["by"], "attempt": ctx.attempt}
        finally:
            asked.cancel()

    app.workflow("w").step(work)
    async with app.engine(both_url) as engine:
        run = (await engine.runs.start("w", {})).id
        await seen(engine, run, "ticket.opened")
        (first,) = (await engine.tickets.list(state="open")).items
        gate.open.set()
        await seen(engine, run, lambda event: event.data.get("message") == "may attempt 3?")
        (last,) = (await engine.tickets.list(state="open")).items
        assert last.message == "may attempt 3?"
        with pytest.raises(Conflict, match="no longer waits"):
            await engine.tickets.decide(first.id, "approve")
        await engine.tickets.decide(last.id, "approve", by="ann")
        view = await ended(engine, run)
        assert (await engine.audit.verify(run)).ok
        states = sorted(ticket.state for ticket in (await engine.tickets.list(run=run)).items)
    assert view.output == {"work": {"by": "ann", "attempt": 3}}
    assert states == ["closed", "closed", "decided"]


async def test_an_answer_given_before_a_failure_is_kept(sqlite_url: str):
    app = App("t")

    @app.step(retry=Retry(attempts=2, backoff_s=0.01))
    async def work(ctx: Context) -> Any:
        answer = await ctx.approve("may I?")
        heard = await ctx.wait_signal("go")
        if ctx.attempt == 1:
            raise RuntimeError("later")
        return [answer["by"], heard]

    app.workflow("w").step(work)
    async with app.engine(sqlite_url) as engine:
        run = (await engine.runs.start("w", {})).id
        opened = await seen(engine, run, "ticket.opened")
        await engine.tickets.decide(opened.data["ticket"], "approve", by="ann")
        await engine.runs.signal(run, "go", 7)
        view = await ended(engine, run)
        assert len((await engine.tickets.list(run=run)).items) == 1
    assert view.output == {"work": ["ann", 7]}


async def test_a_signal_is_waited_for_anew_by_a_later_attempt(sqlite_url: str):
    app, gate = App("t"), Gate()

    @app.step(retry=Retry(attempts=2, backoff_s=0.01))
    async def work(ctx: Context) -> Any:
        waiting = asyncio.ensure_future(ctx.wait_signal("go"))
        try:
            if ctx.attempt == 1:
                await ctx.call(gate.__call__, key="gate", effect="effect")
                raise RuntimeError("later")
            return await waiting
        finally:
            waiting.cancel()

    app.workflow("w").step(work)
    async with app.engine(sqlite_url) as engine:
        run = (await engine.runs.start("w", {})).id
        await seen(engine, run, "step.waiting")
        await gate.wait()
        gate.open.set()
        await seen(engine, run, "step.retrying")
        await engine.runs.signal(run, "go", 7)
        assert (await ended(engine, run)).output == {"work": 7}


async def test_a_question_a_completed_step_left_open_is_closed(sqlite_url: str):
    app, gate = App("t"), Gate()

    @app.step
    async def work(ctx: Context) -> str:
        asked = asyncio.ensure_future(ctx.approve("may I?"))
        await ctx.call(gate.__call__, key="gate", effect="effect")
        asked.cancel()
        return "did not wait"

    app.workflow("w").step(work)
    async with app.engine(sqlite_url) as engine:
        run = (await engine.runs.start("w", {})).id
        await seen(engine, run, "ticket.opened")
        gate.open.set()
        assert (await ended(engine, run)).output == {"work": "did not wait"}
        (ticket,) = (await engine.tickets.list(run=run)).items
    assert ticket.state == "closed"
