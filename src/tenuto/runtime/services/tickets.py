"""Questions to people, and their answers."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, cast

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.people import Escalate, Terms
from tenuto.domain.runs import breaker
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.events_tickets import Vote
from tenuto.domain.runs.people import TERMS, misfits, outcome, refusal, shown_digest, spoken_for, terms_in
from tenuto.domain.runs.state import ENDED
from tenuto.domain.runs.views import instant
from tenuto.errors import (
    AlreadyDecided,
    Conflict,
    Denied,
    Invalid,
    RunTerminal,
    TicketMissing,
    TicketStale,
    Unserialisable,
)
from tenuto.ports.store import TicketRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Page, TicketView, VoteView

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
NEEDS_REASON = {"reject": "a rejection", "push_back": "a push-back"}


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
        self, ticket: str, decision: str, *, reason: str = "", data: Any = None, by: str = "", digest: str = "",
        to: str = "", once: bool = False,
    ) -> TicketView:
        """Answer a ticket, atomically with the message to its run. An identical repeat gets the same answer.

        Where several people have to answer, the ticket stays open until enough of them have.

        Args:
            by: The person who answers.
            digest: Of what the person was shown; empty binds the answer to what the ticket says now.
            to: For `push_back`: the earlier step the run goes back to; not needed where there is one only.
            once: Refuse an identical repeat too.

        Raises:
            TicketMissing: There is none.
            AlreadyDecided: It was answered otherwise before, by everybody it takes or by the same person.
            TicketStale: What the person was shown is not what the ticket asks.
            Denied: The person may not decide it.
            RunTerminal: It was closed because its run ended.
            Conflict: It was closed because its question lost its point.
            Invalid: The decision is not one of the ticket's, a rejection has no reason, or the data does not fit.
        """
        while True:
            row = await self._row(ticket)
            if row.state == "open" or row.kind == DEAD_LETTER:
                _check(row, decision, reason)  # what came of a ticket is told before what is wrong with a second answer
            if row.state == "closed":
                raise await self._closed(row)
            to = _back_to(row, decision, to)
            mine = {"decision": decision, "reason": reason, "data": data, **({"to": to} if to else {})}
            _encode(mine)
            earlier = _given(row, by)
            if earlier is not None:
                if once or _encode(mine) != _encode({name: earlier.get(name) for name in mine}):
                    raise AlreadyDecided(
                        f"ticket {ticket!r} was already decided: {earlier.get('decision')} by "
                        f"{earlier.get('by') or 'somebody'}",
                        ticket=ticket, decision=earlier.get("decision"), by=earlier.get("by"),
                    )
                return ticket_view(row)
            vote = Vote(decision=decision, by=by, reason=reason, data=data, to=to)
            answered = await self._answer(row, vote, digest, mark=token_hex(8) if once else "")
            if answered is not None:
                return ticket_view(answered)

    async def _answer(self, row: TicketRow, vote: Vote, digest: str, *, mark: str = "") -> TicketRow | None:
        """Add somebody's answer to an open ticket; `None` when others have answered meanwhile.

        Args:
            mark: Tells this answer from an identical one that is given at the same time.
        """
        shown = shown_digest(row.kind, row.message, row.body)
        if digest and digest != shown:
            raise TicketStale(
                f"ticket {row.id!r} no longer asks what was shown ({digest[:15]}…); read it again, then decide",
                ticket=row.id, shown=digest, now=shown,
            )
        terms, votes = terms_in(msgspec.json.decode(row.body)), votes_of(row)
        role = spoken_for(terms, vote.by, self._c.groups)
        vote = msgspec.structs.replace(vote, role=role or "")
        if refused := refusal(row.kind, terms, votes, vote):
            raise Denied(f"ticket {row.id!r}: {refused}", code="ticket.denied", ticket=row.id)
        if problems := misfits(terms, vote.decision, vote.data):
            raise Invalid(f"the data does not fit the form of ticket {row.id!r}", problems=problems, code="ticket.data")
        votes.append(vote)
        several = terms.quorum > 1 or terms.reject_quorum > 1
        came_to = outcome(terms, votes) if several else vote.decision
        answer: dict[str, Any] = {
            "decision": came_to, "reason": vote.reason, "data": vote.data, "by": vote.by,
            **({"to": vote.to} if vote.to else {}), **({"votes": votes} if several else {}), **({"mark": mark} if mark else {}),
        }
        message = msg.Decision(
            by=vote.by, ticket=row.id, decision=vote.decision, reason=vote.reason, data=vote.data, role=vote.role, digest=shown,
            to=vote.to,
        )
        key = f"decision/{row.id}" + (f"/{row.votes}" if row.votes else "")
        body, encoded = msg.encode_message(message), _encode(msgspec.to_builtins(answer))
        stored = await self._c.store.decide_ticket(
            self._c.ns, row.id, encoded, key, body, votes=row.votes, closes=bool(came_to)
        )
        return stored if stored is not None and stored.answer == encoded else None

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
    data = cast("dict[str, Any]", body) if isinstance(body, dict) else {"value": body}
    terms = terms_in(data)
    view = TicketView(
        id=row.id, kind=row.kind, state=row.state, run=row.run_id, step=row.step, message=row.message,
        data={name: value for name, value in data.items() if name != TERMS}, digest=shown_digest(row.kind, row.message, row.body),
        approvers=list(terms.approvers), quorum=terms.quorum, reject_quorum=terms.reject_quorum,
        not_by=terms.requester, form=terms.schema, votes=[_vote_view(vote) for vote in votes_of(row)],
        on_timeout=_rule(terms) if row.expires_at else None,
        choices=list(_choices(row.kind, terms)) if row.state == "open" else [], push_back=list(terms.push_back),
        created_at=instant(row.created_at), expires_at=instant(row.expires_at), decided_at=instant(row.decided_at),
    )
    given = _answer_of(row)
    if given and row.state != "open":
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


def votes_of(row: TicketRow) -> list[Vote]:
    """Return the answers an open ticket has got so far, where several are needed."""
    return msgspec.convert(_answer_of(row).get("votes", []), list[Vote])


def _vote_view(vote: Vote) -> VoteView:
    return VoteView(decision=vote.decision, by=vote.by, role=vote.role, reason=vote.reason)


def _rule(terms: Terms) -> str:
    return f"ask {', '.join(terms.on_timeout.escalate)}" if isinstance(terms.on_timeout, Escalate) else terms.on_timeout


def _choices(kind: str, terms: Terms) -> tuple[str, ...]:
    return (*CHOICES.get(kind, ()), *(("push_back",) if terms.push_back else ()))


def _back_to(row: TicketRow, decision: str, to: str) -> str:
    """Return the step a decision sends the run back to; the only one there is where none is named."""
    if decision != "push_back":
        return ""
    places = terms_in(msgspec.json.decode(row.body)).push_back
    return to or (places[0] if len(places) == 1 else "")


def _given(row: TicketRow, by: str) -> dict[str, Any] | None:
    """Return what was answered before that counts for somebody: their own answer, or what all came to."""
    own = next((vote for vote in votes_of(row) if vote.by == by), None)
    if own is not None:
        return {"decision": own.decision, "reason": own.reason, "data": own.data, "by": own.by, "to": own.to or None}
    return _answer_of(row) if row.state == "decided" else None


def _check(row: TicketRow, decision: str, reason: str) -> None:
    """Refuse a decision the ticket's kind does not know."""
    choices = _choices(row.kind, terms_in(msgspec.json.decode(row.body or b"{}")))
    if row.kind == DEAD_LETTER:
        raise Invalid(f"ticket {row.id!r} is a dead letter: redrive it instead of deciding it", code="ticket.kind")
    if decision not in choices:
        allowed = ", ".join(choices) or "none: repair the store, then resume the run"
        hint = did_you_mean(decision, choices)
        raise Invalid(f"{decision!r} does not answer a ticket of kind {row.kind}{hint}; allowed: {allowed}",
                      code="ticket.decision")
    if decision in NEEDS_REASON and not reason.strip():
        raise Invalid(f"{NEEDS_REASON[decision]} needs a reason", code="ticket.reason")


def _known(what: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        hint = did_you_mean(value, allowed)
        raise Invalid(f"{value!r} is not a {what} of tickets{hint}; allowed: {', '.join(allowed)}", code=f"ticket.{what}")
