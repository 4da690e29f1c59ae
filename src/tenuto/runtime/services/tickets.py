"""Questions to people, and their answers."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.runs import breaker
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.state import ENDED
from tenuto.domain.runs.views import instant
from tenuto.errors import AlreadyDecided, Conflict, Invalid, RunTerminal, TicketMissing, Unserialisable
from tenuto.ports.store import TicketRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Page, TicketView

DEAD_LETTER = "dead_letter"
CHOICES: dict[str, tuple[str, ...]] = {
    "approval": ("approve", "reject"),
    "escalation": ("retry", "skip", "fail"),
    "review": ("accept", "retry", "fail"),
    "unknown_outcome": ("retry", "succeeded", "failed"),
    "budget": ("retry", "fail"),
    "patch": ("approve", "reject"),
    breaker.KIND: breaker.CHOICES,
    "integrity": (),
    DEAD_LETTER: (),
}
_NEEDS_REASON = ("reject",)


class Tickets:
    """Every use case of tickets, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, *, kind: str | None = None, state: str | None = None, run: str | None = None,
        after: str = "", limit: int = 100,
    ) -> Page[TicketView]:
        """Return tickets, newest first; dead letters are listed apart unless `kind` asks for them."""
        _known("kind", kind, tuple(CHOICES))
        _known("state", state, ("open", "decided", "closed"))
        found: list[TicketRow] = []
        while len(found) <= limit:
            rows = await self._c.store.tickets(
                self._c.ns, kind=kind, state=state, run_id=run, after=after, limit=limit + 1
            )
            found.extend(row for row in rows if kind is not None or row.kind != DEAD_LETTER)
            if len(rows) <= limit:
                break
            after = rows[-1].id
        more = len(found) > limit
        return Page(items=[ticket_view(row) for row in found[:limit]], next=found[limit - 1].id if more else None)

    async def get(self, ticket: str) -> TicketView:
        """Return one ticket.

        Raises:
            TicketMissing: There is none.
        """
        return ticket_view(await self._row(ticket))

    async def decide(
        self, ticket: str, decision: str, *, reason: str = "", data: Any = None, by: str = ""
    ) -> TicketView:
        """Answer a ticket, atomically with the message to its run. An identical repeat gets the same answer.

        Raises:
            TicketMissing: There is none.
            AlreadyDecided: It was answered otherwise before.
            RunTerminal: It was closed because its run ended.
            Conflict: It was closed because its question lost its point.
            Invalid: The decision is not one of the ticket's, or a rejection has no reason.
        """
        row = await self._row(ticket)
        if row.state == "open" or row.kind == DEAD_LETTER:
            _check(row, decision, reason)  # what came of a ticket is told before what is wrong with a second answer
        answer = _encode({"decision": decision, "reason": reason, "data": data, "by": by})
        if row.state == "open":
            message = msg.Decision(by=by, ticket=ticket, decision=decision, reason=reason, data=data)
            decided = await self._c.store.decide_ticket(
                self._c.ns, ticket, answer, f"decision/{ticket}", msg.encode_message(message)
            )
            if decided is None:
                raise TicketMissing(f"there is no ticket {ticket!r}", ticket=ticket)
            row = decided
        if row.state == "closed":
            raise await self._closed(row)
        if not _same(row.answer, answer):
            given = _answer_of(row)
            raise AlreadyDecided(
                f"ticket {ticket!r} was already decided: {given.get('decision')} by {given.get('by') or 'somebody'}",
                ticket=ticket, decision=given.get("decision"), by=given.get("by"),
            )
        return ticket_view(row)

    async def _row(self, ticket: str) -> TicketRow:
        row = await self._c.store.get_ticket(self._c.ns, ticket)
        if row is None:
            open_now = await self._c.store.tickets(self._c.ns, state="open", limit=200)
            hint = did_you_mean(ticket, [item.id for item in open_now])
            raise TicketMissing(f"there is no ticket {ticket!r}{hint}", ticket=ticket)
        return row

    async def _closed(self, row: TicketRow) -> Conflict:
        run = await self._c.store.get_run(row.run_id)
        if run is None or run.status in ENDED:
            status = run.status if run is not None else "deleted"
            return RunTerminal(f"ticket {row.id!r} is closed: run {row.run_id} is {status}", run=row.run_id, status=status)
        return Conflict(f"ticket {row.id!r} is closed: its step no longer waits for it", code="ticket.closed")


def ticket_view(row: TicketRow) -> TicketView:
    """Return a ticket as the API shows it."""
    body: Any = msgspec.json.decode(row.body) if row.body else {}
    view = TicketView(
        id=row.id, kind=row.kind, state=row.state, run=row.run_id, step=row.step, message=row.message,
        data=cast("dict[str, Any]", body) if isinstance(body, dict) else {"value": body},
        choices=list(CHOICES.get(row.kind, ())) if row.state == "open" else [],
        created_at=instant(row.created_at), expires_at=instant(row.expires_at), decided_at=instant(row.decided_at),
    )
    given = _answer_of(row)
    if given:
        view.decision, view.reason, view.by = given.get("decision"), given.get("reason"), given.get("by")
        view.answer = given.get("data")
    return view


def _answer_of(row: TicketRow) -> dict[str, Any]:
    return msgspec.json.decode(row.answer) if row.answer else {}


def _encode(answer: dict[str, Any]) -> bytes:
    try:
        return canonical_json(answer)
    except Unserialisable as exc:
        raise Invalid(f"the data of the decision cannot be kept: {exc}", code="ticket.data") from exc


def _same(stored: bytes, asked: bytes) -> bool:
    """Return whether two answers decide the same: decision, reason and data; who asks again does not matter."""
    if stored == asked:
        return True
    if not stored:
        return False
    left, right = msgspec.json.decode(stored), msgspec.json.decode(asked)
    return all(left.get(name) == right.get(name) for name in ("decision", "reason", "data"))


def _check(row: TicketRow, decision: str, reason: str) -> None:
    """Refuse a decision the ticket's kind does not know."""
    choices = CHOICES.get(row.kind, ())
    if row.kind == DEAD_LETTER:
        raise Invalid(f"ticket {row.id!r} is a dead letter: redrive it instead of deciding it", code="ticket.kind")
    if decision not in choices:
        allowed = ", ".join(choices) or "none: repair the store, then resume the run"
        hint = did_you_mean(decision, choices)
        raise Invalid(f"{decision!r} does not answer a ticket of kind {row.kind}{hint}; allowed: {allowed}",
                      code="ticket.decision")
    if decision in _NEEDS_REASON and not reason.strip():
        raise Invalid("a rejection needs a reason", code="ticket.reason")


def _known(what: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        hint = did_you_mean(value, allowed)
        raise Invalid(f"{value!r} is not a {what} of tickets{hint}; allowed: {', '.join(allowed)}", code=f"ticket.{what}")
