"""Tickets are decided once; a repeat gets the same answer."""

from __future__ import annotations

import pytest

from tenuto.errors import AlreadyDecided, Invalid, RunTerminal, TicketMissing
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import StartRun
from tests.unit.services.harness import ASK, until


async def asked(engine: Engine) -> tuple[str, str]:
    run = await engine.runs.submit(StartRun(definition=ASK, input={}))
    await until(engine, run.id, "ticket.opened")
    (ticket,) = (await engine.tickets.list(kind="approval", state="open", run=run.id)).items
    assert ticket.choices == ["approve", "reject"]
    return run.id, ticket.id


async def test_a_decision_moves_its_run_and_is_kept(engine: Engine):
    run, ticket = await asked(engine)
    decided = await engine.tickets.decide(ticket, "approve", reason="ok", data={"x": 1}, by="ann")
    assert (decided.state, decided.decision, decided.by, decided.answer) == ("decided", "approve", "ann", {"x": 1})
    view = await engine.runs.result(run, timeout_s=10)
    assert view.status == "completed"
    assert view.steps[1].output["by"] == "ann"
    assert (await engine.tickets.get(ticket)).reason == "ok"


async def test_an_identical_repeat_is_answered_alike_and_another_refused(engine: Engine):
    _, ticket = await asked(engine)
    first = await engine.tickets.decide(ticket, "approve", reason="ok", by="ann")
    again = await engine.tickets.decide(ticket, "approve", reason="ok", by="bob")
    assert (again.decision, again.by) == (first.decision, "ann")
    with pytest.raises(AlreadyDecided, match="approve by ann"):
        await engine.tickets.decide(ticket, "reject", reason="no")


async def test_what_does_not_answer_is_refused(engine: Engine):
    _, ticket = await asked(engine)
    with pytest.raises(Invalid, match="did you mean 'approve'"):
        await engine.tickets.decide(ticket, "aprove")
    with pytest.raises(Invalid, match="needs a reason"):
        await engine.tickets.decide(ticket, "reject", reason=" ")
    with pytest.raises(TicketMissing):
        await engine.tickets.decide("tk-nothing", "approve")
    with pytest.raises(Invalid, match="not a kind"):
        await engine.tickets.list(kind="aproval")


async def test_a_ticket_closes_with_its_run(engine: Engine):
    run, ticket = await asked(engine)
    await engine.runs.cancel(run)
    await engine.runs.result(run, timeout_s=10)
    assert (await engine.tickets.get(ticket)).state == "closed"
    with pytest.raises(RunTerminal):
        await engine.tickets.decide(ticket, "approve")
