"""What people are told of questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.notifications import News, NotificationRow, SendState, Told


class Notifications(Part):
    """The side of the store that keeps what people are to be told."""

    async def ticket_news(self, ns: str, *, ahead_ms: int, limit: int = 100) -> list[News]:
        """Return tickets of which something is to be told."""
        return [News(**row) for row in await self.parts.pool.fetch("ticket_news", ns, ahead_ms, limit)]

    async def tell(self, ns: str, news: News, told: Told, rows: Sequence[NotificationRow]) -> bool:
        """Keep what is to be sent of some news."""
        columns = [
            [getattr(row, name) for row in rows]
            for name in ("id", "ticket", "run_id", "asked", "event", "channel", "lane", "body")
        ]
        return bool(await self.parts.pool.value("ticket_told", ns, news.ticket, news.asked, news.told, told, *columns))

    async def take_notifications(self, ns: str, limit: int, hold_ms: int) -> list[NotificationRow]:
        """Return due messages, the first of each lane only."""
        found = await self.parts.pool.fetch("take_notifications", ns, limit, hold_ms)
        return [_row(row) for row in sorted(found, key=_number)]

    async def settle_notification(
        self, row: NotificationRow, state: SendState, *, wait_ms: int = 0, error: str = ""
    ) -> bool:
        """Say what came of a try."""
        values = (row.ns, row.id, row.attempts, state, wait_ms, error)
        return bool(await self.parts.pool.fetch("settle_notification", *values))

    async def notifications(
        self, ns: str, *, state: str | None = None, ticket: str | None = None, after: str = "", limit: int = 100
    ) -> list[NotificationRow]:
        """Return messages, newest first."""
        return [_row(row) for row in await self.parts.pool.fetch("notifications", ns, state, ticket, after, limit)]

    async def resend_notification(self, ns: str, id: str) -> NotificationRow | None:
        """Make a message due again."""
        row = await self.parts.pool.first("resend_notification", ns, id)
        return None if row is None else _row(row)


def _row(row: Any) -> NotificationRow:
    named: dict[str, Any] = {name: value for name, value in row.items() if name != "n"}
    named["run_id"] = str(named["run_id"])
    return NotificationRow(**named)


def _number(row: Any) -> int:
    return row["n"]
