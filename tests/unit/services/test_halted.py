"""A run the engine cannot go on with is paused wherever one looks, with its ticket and the way out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import ListRuns, StartRun
from tenuto.runtime.worker import actor
from tests.unit.services.harness import ASK, until


async def halted(engine: Engine, run: str) -> Any:
    async with asyncio.timeout(10):
        while (view := await engine.runs.get(run)).status != "paused":
            await asyncio.sleep(0)
    return view


async def test_a_run_the_engine_fails_on_is_paused_and_resumes_once_it_is_mended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    run = (await engine.runs.submit(StartRun(definition=ASK, input={}))).id
    await until(engine, run, "ticket.opened")
    (question,) = (await engine.tickets.list(kind="approval", run=run)).items

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("the engine divided by nothing")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "tenuto.worker"):
        patch.setattr(actor, "decide", broken)
        await engine.tickets.decide(question.id, "approve", by="ann")
        view = await halted(engine, run)
        (ticket,) = (await engine.tickets.list(kind="integrity", state="open")).items
    assert (view.error.code, view.waiting_for.kind, view.waiting_for.name) == ("run.halted", "integrity", ticket.id)
    (row,) = (await engine.runs.list(ListRuns(status=("paused",)))).items
    assert row.id == run
    assert "ZeroDivisionError" in row.error
    why = await engine.runs.why(run)
    assert why.status == "paused"
    assert why.running == []
    for told in (ticket.id, "divided by nothing", "worker's log", f"tenuto run resume {run}"):
        assert told in why.summary
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1
    assert "broken" in (caplog.handler.format(traces[0]))

    await engine.runs.resume(run, by="ann")
    done = await engine.runs.result(run, timeout_s=10)
    assert (done.status, done.error) == ("completed", None)
    async with asyncio.timeout(10):
        while (await engine.tickets.get(ticket.id)).state != "closed":
            await asyncio.sleep(0)


async def test_a_message_that_comes_while_a_run_is_halted_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """The run is given to whoever reads the message next; nobody owns it for ever."""
    run = (await engine.runs.submit(StartRun(definition=ASK, input={}))).id
    await until(engine, run, "ticket.opened")
    tickets = engine.store.tickets
    sent = asyncio.Event()

    async def slow(*given: Any, **named: Any) -> Any:
        if named.get("kind") == "integrity" and not sent.is_set():
            sent.set()
            await engine.runs.resume(run)
        return await tickets(*given, **named)

    real, calls = actor.decide, 0

    def broken_once(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return real(*given)

    monkeypatch.setattr(engine.store, "tickets", slow)
    monkeypatch.setattr(actor, "decide", broken_once)
    await engine.runs.signal(run, "anything")
    await asyncio.wait_for(sent.wait(), 10)
    (question,) = (await engine.tickets.list(kind="approval", run=run)).items
    await engine.tickets.decide(question.id, "approve")
    assert (await engine.runs.result(run, timeout_s=10)).status == "completed"


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("the engine divided by nothing")


async def open_tickets(engine: Engine) -> list[str]:
    return [ticket.id for ticket in (await engine.tickets.list(kind="integrity", state="open")).items]


async def halt(engine: Engine, monkeypatch: pytest.MonkeyPatch, run: str) -> str:
    """Let the engine fail on a run that takes a message; return the ticket."""
    with monkeypatch.context() as patch:
        patch.setattr(actor, "decide", broken)
        await engine.runs.signal(run, "anything")
        await halted(engine, run)
    (ticket,) = await open_tickets(engine)
    return ticket


async def test_any_message_that_makes_a_stopped_run_go_on_closes_the_ticket(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    run = (await engine.runs.submit(StartRun(definition=ASK, input={}))).id
    await until(engine, run, "ticket.opened")
    await halt(engine, monkeypatch, run)
    (question,) = (await engine.tickets.list(kind="approval", run=run)).items
    await engine.tickets.decide(question.id, "approve")
    assert (await engine.runs.result(run, timeout_s=10)).status == "completed"
    assert await open_tickets(engine) == []


async def test_a_run_that_cannot_go_on_after_all_asks_again(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    run = (await engine.runs.submit(StartRun(definition=ASK, input={}))).id
    await until(engine, run, "ticket.opened")
    first = await halt(engine, monkeypatch, run)
    with monkeypatch.context() as patch:
        patch.setattr(actor, "decide", broken)
        await engine.runs.resume(run)
        async with asyncio.timeout(10):
            while (await engine.tickets.get(first)).state == "open":
                await asyncio.sleep(0)
        view = await halted(engine, run)
    assert await open_tickets(engine) == [view.waiting_for.name] != [first]
    await engine.runs.cancel(run)
    assert (await engine.runs.result(run, timeout_s=10)).status == "cancelled"
    assert await open_tickets(engine) == []
