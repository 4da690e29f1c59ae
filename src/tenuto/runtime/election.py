"""Which of the live workers does the work that needs doing once: the one with the smallest id.

Nobody votes. For a moment after workers came or went two may lead, or none; such work must bear both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tenuto.errors import TenutoError
from tenuto.ports.store import Store

log = logging.getLogger("tenuto.worker")
LOOK_S = 2.0


class Election:
    """Says whether this process leads, as of the last look."""

    def __init__(self, store: Store, me: Callable[[], str]) -> None:
        """Stand for election; nobody leads before the first look.

        Args:
            me: The id of this process's worker, which changes when its lease was lost.
        """
        self._store, self._me = store, me
        self._leader = ""

    def leads(self) -> bool:
        """Return whether this process does the work now."""
        return self._leader == self._me()

    async def look(self) -> None:
        """Find out who leads."""
        now = await self._store.now()
        self._leader = min((row.id for row in await self._store.workers() if row.lease_until > now), default="")

    async def run(self, interval_s: float = LOOK_S) -> None:
        """Look for ever; while the store does not answer, things stay as they were."""
        while True:
            try:
                await self.look()
            except (TenutoError, OSError):
                log.warning("who leads is not known: the store does not answer")
            await asyncio.sleep(interval_s)
