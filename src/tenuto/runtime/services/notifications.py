"""What people were told of questions, and sending it again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.runs.views import instant
from tenuto.errors import Invalid, Missing
from tenuto.ports.notifications import NotificationRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Page, View

STATES = ("due", "sent", "failed")


class NotificationView(View):
    """A message that tells people of a ticket.

    Attributes:
        event: What it tells: `opened`, `expiring`, `escalated`, `decided`, `closed`.
        channel: By which way, as the settings name it.
        to: The address, for e-mail.
        state: `due`, `sent`, or `failed` when it was given up.
        attempts: How often it was tried.
        error: Why the last try failed.
        due_at: When it is tried next.
    """

    id: str
    ticket: str
    run: str
    event: str
    channel: str
    to: str = ""
    person: str = ""
    state: str = "due"
    attempts: int = 0
    error: str = ""
    created_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None


class Notifications:
    """Every use case of messages to people, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, *, state: str | None = None, ticket: str | None = None, after: str = "", limit: int = 100
    ) -> Page[NotificationView]:
        """Return messages, newest first.

        Raises:
            Invalid: There is no such state.
        """
        if state is not None and state not in STATES:
            hint = did_you_mean(state, STATES)
            message = f"{state!r} is not a state of notifications{hint}; allowed: {', '.join(STATES)}"
            raise Invalid(message, code="notification.state")
        rows = await self._c.store.notifications(self._c.ns, state=state, ticket=ticket, after=after, limit=limit + 1)
        more = len(rows) > limit
        return Page(items=[_view(row) for row in rows[:limit]], next=rows[limit - 1].id if more else None)

    async def resend(self, notification: str) -> NotificationView:
        """Make a message due again that was sent or given up; one that is due stays as it is.

        Raises:
            NotificationMissing: There is none.
        """
        row = await self._c.store.resend_notification(self._c.ns, notification)
        if row is None:
            message = f"there is no notification {notification!r}; see tenuto notifications list"
            raise NotificationMissing(message, notification=notification)
        return _view(row)


class NotificationMissing(Missing):
    """There is no such message."""

    code = "notification.unknown"


def _view(row: NotificationRow) -> NotificationView:
    whom: dict[str, Any] = msgspec.json.decode(row.body)
    return NotificationView(
        id=row.id, ticket=row.ticket, run=row.run_id, event=row.event, channel=row.channel, to=whom.get("to", ""),
        person=whom.get("person", ""), state=row.state, attempts=row.attempts, error=row.error,
        created_at=instant(row.created_at), due_at=instant(row.due_at) if row.state == "due" else None,
        ended_at=instant(row.ended_at),
    )
