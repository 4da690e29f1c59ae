"""What people are told of questions."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.notifications import News, NotificationRow, SendState, Told
from tenuto.ports.store import TicketRow


class Notifications:
    """The side of the store that keeps what people are to be told."""

    tables: Tables

    async def ticket_news(self, ns: str, *, ahead_ms: int, limit: int = 100) -> list[News]:
        """Return tickets of which something is to be told."""
        found: list[tuple[int, str, News]] = []
        for row in self.tables.tickets.values():
            told = self._told(row)
            following = _following(row, told, self.tables.clock(), ahead_ms)
            if row.ns == ns and following:
                found.append((row.created_at, row.id, News(row.id, row.created_at, told, following)))
        return [news for _, _, news in sorted(found, key=lambda item: item[:2])[:limit]]

    def _told(self, row: TicketRow) -> Told:
        asked, told = self.tables.told.get((row.ns, row.id), (0, ""))
        return told if asked == row.created_at else ""

    async def tell(self, ns: str, news: News, told: Told, rows: Sequence[NotificationRow]) -> bool:
        """Keep what is to be sent of some news."""
        tables = self.tables
        ticket = tables.tickets.get((ns, news.ticket))
        if ticket is None or ticket.created_at != news.asked or self._told(ticket) != news.told:
            return False
        tables.told[ns, news.ticket] = (news.asked, told)
        for row in rows:
            made = copied(row)
            made.created_at = made.due_at = tables.clock()
            tables.notifications.setdefault((ns, row.id), made)
        return True

    async def take_notifications(self, ns: str, limit: int, hold_ms: int) -> list[NotificationRow]:
        """Return due messages, the first of each lane only."""
        now, lanes, found = self.tables.clock(), set[str](), list[NotificationRow]()
        for name, row in self.tables.notifications.items():
            if row.ns != ns or row.state != "due" or row.lane in lanes:
                continue
            lanes.add(row.lane)
            if len(found) < limit and row.due_at <= now and self.tables.held.get(name, 0) <= now:
                row.attempts += 1
                self.tables.held[name] = now + hold_ms
                found.append(copied(row))
        return found

    async def settle_notification(
        self, row: NotificationRow, state: SendState, *, wait_ms: int = 0, error: str = ""
    ) -> bool:
        """Say what came of a try."""
        kept, now = self.tables.notifications.get((row.ns, row.id)), self.tables.clock()
        if kept is None or kept.state != "due" or kept.attempts != row.attempts:
            return False
        kept.state, kept.error, kept.due_at = state, error, now + wait_ms
        kept.ended_at = 0 if state == "due" else now
        self.tables.held.pop((row.ns, row.id), None)
        return True

    async def notifications(
        self, ns: str, *, state: str | None = None, ticket: str | None = None, after: str = "", limit: int = 100
    ) -> list[NotificationRow]:
        """Return messages, newest first."""
        rows = [row for row in self.tables.notifications.values() if row.ns == ns]
        if after:
            names = [row.id for row in rows]
            rows = rows[: names.index(after)] if after in names else []
        found = [row for row in reversed(rows) if state in (None, row.state) and ticket in (None, row.ticket)]
        return [copied(row) for row in found[:limit]]

    async def resend_notification(self, ns: str, id: str) -> NotificationRow | None:
        """Make a message due again."""
        row = self.tables.notifications.get((ns, id))
        if row is not None and row.state != "due":
            row.state, row.attempts, row.due_at, row.error, row.ended_at = "due", 0, self.tables.clock(), "", 0
        return None if row is None else copied(row)


def _following(row: TicketRow, told: Told, now: int, ahead_ms: int) -> Told:
    """Return what there is to tell of a ticket next; empty for nothing."""
    if told in ("decided", "closed"):
        return ""
    if row.state != "open":
        return "decided" if row.state == "decided" else "closed"
    if not told:
        return "opened"
    soon = row.expires_at - min(ahead_ms, (row.expires_at - row.created_at) // 4)
    return "expiring" if told == "opened" and row.expires_at and soon <= now else ""
