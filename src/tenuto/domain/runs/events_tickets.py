"""What the journal says of questions to people. Part of `events`."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.graph.people import Terms
from tenuto.domain.runs.facts import Event


class Vote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one person said to a question; `role` is the group they spoke for, `to` the step they push it back to."""

    decision: str
    by: str
    role: str = ""
    reason: str = ""
    data: Any = None
    to: str = ""


class TicketOpened(Event, frozen=True, tag="ticket.opened"):
    """A question to a person is open.

    Attributes:
        kind: `approval`, `escalation`, `review`, `unknown_outcome`, `integrity`, `patch`, `breaker`.
        call: The call that asks, when a step's code did.
        terms: Who may answer, and how; `None` is anybody, once.
        after: The question that this one takes the place of.
    """

    ticket: str
    kind: str
    step: str
    message: str
    call: str = ""
    data: dict[str, Any] = {}
    expires_at: int = 0
    terms: Terms | None = None
    after: str = ""


class TicketVoted(Event, frozen=True, tag="ticket.voted"):
    """One of several people whose answers are needed gave theirs.

    Attributes:
        role: The group they spoke for.
        digest: Of what they were shown.
        to: The step they push it back to.
    """

    ticket: str
    step: str
    decision: str
    by: str
    role: str = ""
    reason: str = ""
    data: Any = None
    digest: str = ""
    to: str = ""


class TicketDecided(Event, frozen=True, tag="ticket.decided"):
    """A person, or a time-out by declared rule, answered; `escalate` by `timeout` asks others.

    Attributes:
        role: The group the person spoke for.
        digest: Of what the person was shown.
        to: The step the run goes back to.
    """

    ticket: str
    decision: str
    by: str
    reason: str = ""
    data: Any = None
    role: str = ""
    digest: str = ""
    to: str = ""


class TicketClosed(Event, frozen=True, tag="ticket.closed"):
    """A question lost its point before it was answered."""

    ticket: str
    reason: str
