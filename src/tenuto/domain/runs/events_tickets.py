"""What the journal says of questions to people. Part of `events`."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.facts import Event


class TicketOpened(Event, frozen=True, tag="ticket.opened"):
    """A question to a person is open.

    Attributes:
        kind: `approval`, `escalation`, `review`, `unknown_outcome`, `integrity`, `patch`, `breaker`.
        call: The call that asks, when a step's code did.
    """

    ticket: str
    kind: str
    step: str
    message: str
    call: str = ""
    data: dict[str, Any] = {}
    expires_at: int = 0


class TicketDecided(Event, frozen=True, tag="ticket.decided"):
    """A person, or a time-out by declared rule, answered."""

    ticket: str
    decision: str
    by: str
    reason: str = ""
    data: Any = None


class TicketClosed(Event, frozen=True, tag="ticket.closed"):
    """A question lost its point before it was answered."""

    ticket: str
    reason: str
