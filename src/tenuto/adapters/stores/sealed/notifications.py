"""What people are told of questions, sealed: to whom it goes, and why it could not be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tenuto.adapters.stores.sealed.ring import KeyRing
from tenuto.adapters.stores.sealed.rows import Rows
from tenuto.ports.notifications import News, NotificationRow, SendState, Told
from tenuto.ports.store import Store

T = TypeVar("T")


class SealedNotifications:
    """The notifications' side of a sealed store."""

    inner: Store
    ring: KeyRing
    _rows: Rows

    async def _opened(self, work: Callable[[], T]) -> T:
        raise NotImplementedError

    async def tell(self, ns: str, news: News, told: Told, rows: Sequence[NotificationRow]) -> bool:
        """Keep, sealed, what is to be sent of some news."""
        await self.ring.ready([ns])
        return await self.inner.tell(ns, news, told, [self._rows.notification(row) for row in rows])

    async def take_notifications(self, ns: str, limit: int, hold_ms: int) -> list[NotificationRow]:
        """Return due messages."""
        found = await self.inner.take_notifications(ns, limit, hold_ms)
        return await self._opened(lambda: [self._rows.open_notification(row) for row in found])

    async def settle_notification(
        self, row: NotificationRow, state: SendState, *, wait_ms: int = 0, error: str = ""
    ) -> bool:
        """Say, sealed, what came of a try."""
        await self.ring.ready([row.ns])
        said = self._rows.notification_error(row, error) if error else ""
        return await self.inner.settle_notification(row, state, wait_ms=wait_ms, error=said)

    async def notifications(
        self, ns: str, *, state: str | None = None, ticket: str | None = None, after: str = "", limit: int = 100
    ) -> list[NotificationRow]:
        """Return messages, newest first."""
        found = await self.inner.notifications(ns, state=state, ticket=ticket, after=after, limit=limit)
        return await self._opened(lambda: [self._rows.open_notification(row) for row in found])

    async def resend_notification(self, ns: str, id: str) -> NotificationRow | None:
        """Make a message due again."""
        found = await self.inner.resend_notification(ns, id)
        return await self._opened(lambda: found and self._rows.open_notification(found))
