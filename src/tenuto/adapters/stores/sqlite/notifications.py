"""What people are told of questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import id_text, stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.notifications import News, NotificationRow, SendState, Told


class Notifications(Part):
    """The side of the store that keeps what people are to be told."""

    async def ticket_news(self, ns: str, *, ahead_ms: int, limit: int = 100) -> list[News]:
        """Return tickets of which something is to be told."""
        return [News(*row) for row in await self.parts.readers.rows("ticket_news", ns, self.parts.clock(), ahead_ms, limit)]

    async def tell(self, ns: str, news: News, told: Told, rows: Sequence[NotificationRow]) -> bool:
        """Keep what is to be sent of some news."""

        def keep(tx: Tx) -> bool:
            if not sql.change(tx.db, "ticket_told", told, ns, news.ticket, news.asked, news.told):
                return False
            sql.changes(tx.db, "notification_add", [
                (ns, row.id, row.ticket, stored_id(row.run_id), row.asked, row.event, row.channel, row.lane, row.body,
                 tx.now, tx.now)
                for row in rows
            ])  # fmt: skip
            return True

        return await self.parts.writer.run(keep)

    async def take_notifications(self, ns: str, limit: int, hold_ms: int) -> list[NotificationRow]:
        """Return due messages, the first of each lane only."""
        if not await self.parts.readers.rows("notification_due", ns, self.parts.clock(), 1):
            return []

        def take(tx: Tx) -> list[NotificationRow]:
            found = [_row(row) for row in sql.rows(tx.db, "notification_due", ns, tx.now, limit)]
            sql.changes(tx.db, "notification_hold", [(tx.now + hold_ms, ns, row.id) for row in found])
            for row in found:
                row.attempts += 1
            return found

        return await self.parts.writer.run(take)

    async def settle_notification(
        self, row: NotificationRow, state: SendState, *, wait_ms: int = 0, error: str = ""
    ) -> bool:
        """Say what came of a try."""

        def settle(tx: Tx) -> bool:
            ended = 0 if state == "due" else tx.now
            values = (state, tx.now + wait_ms, error, ended, row.ns, row.id, row.attempts)
            return bool(sql.change(tx.db, "notification_settle", *values))

        return await self.parts.writer.run(settle)

    async def notifications(
        self, ns: str, *, state: str | None = None, ticket: str | None = None, after: str = "", limit: int = 100
    ) -> list[NotificationRow]:
        """Return messages, newest first."""
        return [_row(row) for row in await self.parts.readers.rows("notification_list", ns, state, ticket, after, limit)]

    async def resend_notification(self, ns: str, id: str) -> NotificationRow | None:
        """Make a message due again."""

        def again(tx: Tx) -> NotificationRow | None:
            sql.change(tx.db, "notification_again", tx.now, ns, id)
            row = sql.first(tx.db, "notification_get", ns, id)
            return None if row is None else _row(row)

        return await self.parts.writer.run(again)


def _row(row: Any) -> NotificationRow:
    """Return a message, in the order of the part `notification_columns`."""
    return NotificationRow(
        id=row[0], ns=row[1], ticket=row[2], run_id=id_text(row[3]), asked=row[4], event=row[5], channel=row[6], lane=row[7],
        body=row[8], state=row[9], attempts=row[10], due_at=row[11], error=row[12], created_at=row[13], ended_at=row[14],
    )  # fmt: skip
