"""Calls and what many runs share: waiting for room under a cap, being told of some, and warnings."""

from __future__ import annotations

from typing import Any

from tenuto.domain.budgets.escrow import NOW, Short
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.failure import open_ticket
from tenuto.domain.runs.state import Call, Ticket

CHOICES = ("retry", "fail")


def no_room(d: Draft, inp: io.Refused) -> None:
    """Know, for the inputs that follow, that the store has no room for a call."""
    if d.shorts is None:
        d.shorts = {}
    d.shorts[inp.short.step, inp.short.call] = inp.short


def wait_for_room(d: Draft, inp: io.CallAsked, short: Short) -> None:
    """Let a call wait; where only the next window or a higher cap helps, a person is asked too."""
    before = d.st.steps[inp.step].calls.get(inp.call)
    d.out.money = True
    d.emit(
        ev.FundsRefused(
            step=inp.step, call=inp.call, scope=short.scope, period=short.period, limit=short.limit, spent=short.spent,
            held=short.held, ask=short.ask, final=short.final, until=short.until,
            since=before.since if before is not None and before.since else d.t, digest=inp.digest,
            usd=inp.hold.cost_usd_micros if inp.hold is not None else 0, slot=inp.slot,
        )
    )
    if short.final and short.period != NOW and _open_ticket(d, inp.step, inp.call) is None:
        open_ticket(
            d, inp.step, "budget", f"funds/{inp.call}/{len(d.st.tickets)}", describe(short),
            {"scope": short.scope, "period": short.period, "limit": short.limit, "spent": short.spent,
             "held": short.held, "ask": short.ask, "choices": list(CHOICES)}, call=inp.call,
        )
    d.reply(inp.token, io.Waiting())


def heard(d: Draft, m: msg.Funds, key: str) -> None:
    """Let a call that waits ask again, now that there is room."""
    call = _waiting(d, m.step, m.call)
    if call is None:
        d.out.heard.append((m.step, m.call))
        d.out.money = True
        return
    _go_on(d, m.step, m.call, "", None)
    ticket = _open_ticket(d, m.step, m.call)
    if ticket is not None:
        d.emit(ev.TicketClosed(ticket=ticket, reason="there is room again"))


def decided(d: Draft, ticket: Ticket, decision: str, by: str, reason: str) -> None:
    """Follow a person's answer: ask again at once, or let the call fail."""
    if _waiting(d, ticket.step, ticket.call) is None:
        return
    failure = None
    if decision not in ("retry", "approve"):
        message = f"{ticket.message} {by or 'Somebody'} decided not to wait" + (f": {reason}" if reason else ".")
        failure = ev.Failure(code="budget.refused", type="BudgetRefused", message=message, retryable=False)
    _go_on(d, ticket.step, ticket.call, by, failure)


def settled(d: Draft, m: msg.MoneySettled, key: str) -> None:
    """Count what a lost call did cost, now that somebody knows."""
    if m.grant in d.st.ledger.lost:
        used = ev.Charge(tokens=m.tokens, cost_usd_micros=m.cost_usd_micros)
        d.emit(ev.MoneyResolved(grant=m.grant, used=used, by=m.by))


def warn(d: Draft, inp: io.Warned) -> None:
    """Say that a shared cap is used to its warning share."""
    place = inp.warn.place
    d.out.money = True
    d.emit(
        ev.BudgetWarned(
            cap=place.period, limit=inp.warn.limit, spent=inp.warn.spent, scope=place.scope, window=place.window
        )
    )


def describe(short: Any) -> str:
    """Return a refusal as a sentence; takes a `Short` or a `FundsRefused`."""
    if short.period == NOW:
        return f"{short.scope} has {short.held} of {short.limit} calls under way."
    whose = f"{short.scope} " if short.scope else ""
    return (
        f"The {whose}{short.period} cap of {usd(short.limit)} has no room: {usd(short.spent)} spent, "
        f"{usd(short.held)} held for calls under way, {usd(short.ask)} asked for."
    )


def usd(micros: int) -> str:
    """Return millionths of a US dollar as dollars, to the last digit that counts."""
    text = f"{micros / 1_000_000:,.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"


def _go_on(d: Draft, step: str, call: str, by: str, failure: ev.Failure | None) -> None:
    d.out.money = True
    d.emit(ev.FundsReturned(step=step, call=call, by=by, failure=failure))
    d.out.wake.append((step, call))


def _waiting(d: Draft, step: str, call: str) -> Call | None:
    found = d.st.steps.get(step)
    waits = found.calls.get(call) if found is not None else None
    return waits if waits is not None and waits.kind == "funds" and waits.status == "waiting" else None


def _open_ticket(d: Draft, step: str, call: str) -> str | None:
    """Return the id of the open question about a call without room."""
    return next(
        (name for name, item in d.st.tickets.items()
         if item.kind == "budget" and item.step == step and item.call == call and item.status == "open"), None,
    )  # fmt: skip
