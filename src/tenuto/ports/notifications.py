"""What people are told of questions: what there is to tell, and what was sent of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

Told = Literal["", "opened", "expiring", "decided", "closed"]
SendState = Literal["due", "sent", "failed"]


class News(msgspec.Struct, frozen=True):
    """A ticket of which something is to be told.

    Attributes:
        asked: When it was opened; one that is asked anew under its id is another question.
        told: What was planned to be told of it so far; each of `Told` comes after those before it.
        next: What there is to tell by the state of the ticket and the clock.
    """

    ticket: str
    asked: int
    told: Told
    next: Told


class NotificationRow(msgspec.Struct, kw_only=True):
    """One message to one place.

    Attributes:
        id: Stable: whoever gets the message twice knows it by this.
        event: What it tells: `opened`, `expiring`, `escalated`, `decided`, `closed`.
        lane: Those of one lane are sent one at a time, in the order they were planned.
        body: To whom, JSON; what it says is made of the ticket when it is sent.
        state: `due` until it was taken there, or was given up.
        attempts: How often it was tried; also tells one holder from the next.
        due_at: Not before this.
        error: Why the last try failed.
        ended_at: When it was sent or given up.
    """

    id: str
    ns: str
    ticket: str
    run_id: str
    asked: int
    event: str
    channel: str
    lane: str
    body: bytes = b"{}"
    state: SendState = "due"
    attempts: int = 0
    due_at: int = 0
    error: str = ""
    created_at: int = 0
    ended_at: int = 0


class Notifications(Protocol):
    """The part of a store that keeps what people are to be told until they were."""

    async def ticket_news(self, ns: str, *, ahead_ms: int, limit: int = 100) -> list[News]:
        """Return tickets of which something is to be told, the oldest first.

        Args:
            ahead_ms: How long before its expiry an open ticket is about to expire; never more than a quarter of its time.
        """
        ...

    async def tell(self, ns: str, news: News, told: Told, rows: Sequence[NotificationRow]) -> bool:
        """Keep what is to be sent of some news, and that it was planned: both or neither.

        Returns:
            `False`, and nothing was kept, when the ticket was asked anew or somebody else has planned it meanwhile.
        """
        ...

    async def take_notifications(self, ns: str, limit: int, hold_ms: int) -> list[NotificationRow]:
        """Return due messages, the first of each lane only, and keep others off them for `hold_ms`.

        `attempts` of each counts this try.
        """
        ...

    async def settle_notification(
        self, row: NotificationRow, state: SendState, *, wait_ms: int = 0, error: str = ""
    ) -> bool:
        """Say what came of a try; `due` tries again after `wait_ms`. `False` when others hold it by now, or it is gone."""
        ...

    async def notifications(
        self, ns: str, *, state: str | None = None, ticket: str | None = None, after: str = "", limit: int = 100
    ) -> list[NotificationRow]:
        """Return messages, newest first; `after` is the id of the last one seen."""
        ...

    async def resend_notification(self, ns: str, id: str) -> NotificationRow | None:
        """Make a message due again that was sent or given up, and return it; one that is due stays as it is."""
        ...
