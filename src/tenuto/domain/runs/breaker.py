"""The breaker: a run that does too much of something is paused, and a person says whether it goes on.

Once a person lets it go on, the run may do as much again before the breaker trips anew.
"""

from __future__ import annotations

from hashlib import sha256

from tenuto.domain.runs import events as ev
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.state import RunState, Ticket

KIND = "breaker"
CHOICES = ("resume", "fail", "cancel")


def open_for(st: RunState, what: str) -> str:
    """Return the open ticket of a run's breaker for something; empty when it has not tripped."""
    return next((name for name, one in st.tickets.items() if _is(one, what) and one.status == "open"), "")


def is_open(st: RunState) -> bool:
    """Say whether a person is asked about anything that a run does too much of; until all is answered it stays paused."""
    return any(one.kind == KIND and one.status == "open" for one in st.tickets.values())


def is_over(st: RunState, what: str, count: int, limit: int) -> bool:
    """Say whether a run has done something more often than it may, since a person last let it go on."""
    return count - let_go_on(st, what) > limit


def let_go_on(st: RunState, what: str) -> int:
    """Return how often a run had done something when a person last let it go on; 0 while nobody has."""
    return max((one.data["count"] for one in st.tickets.values() if _is(one, what)), default=0)


def trip(d: Draft, what: str, count: int, limit: int, message: str) -> None:
    """Pause the run and ask a person.

    Args:
        what: What it did too much of; one question is open for each at a time.
        count: How often it has done so, since it began.
    """
    ticket = "tk-" + sha256(f"{d.st.id}/{KIND}/{what}/{count}".encode()).hexdigest()[:20]
    if d.st.status in ("queued", "running"):
        d.emit(ev.PauseRequested(by=KIND, reason=f"{message}; a person decides in ticket {ticket}"))
    question = f"{message[:1].upper()}{message[1:]}. Is it to go on?"
    data = {"what": what, "count": count, "limit": limit}
    d.emit(ev.TicketOpened(ticket=ticket, kind=KIND, step="", message=question, data=data))


def close(d: Draft, why: str) -> None:
    """Close the breaker's questions: somebody has let the run go on, or it has ended."""
    for name in [name for name, one in d.st.tickets.items() if one.kind == KIND and one.status == "open"]:
        d.emit(ev.TicketClosed(ticket=name, reason=why))


def _is(ticket: Ticket, what: str) -> bool:
    return ticket.kind == KIND and ticket.data["what"] == what
