"""The store without a disk: for tests and simulations, deterministic, on the caller's own clock and loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tenuto.adapters.stores.memory.artifacts import Artifacts
from tenuto.adapters.stores.memory.cache import Cache
from tenuto.adapters.stores.memory.checkpoints import Checkpoints
from tenuto.adapters.stores.memory.data_keys import DataKeys
from tenuto.adapters.stores.memory.findings import Findings
from tenuto.adapters.stores.memory.journal import Journal
from tenuto.adapters.stores.memory.lineage import Lineage
from tenuto.adapters.stores.memory.messages import Messages
from tenuto.adapters.stores.memory.notifications import Notifications
from tenuto.adapters.stores.memory.ownership import Ownership
from tenuto.adapters.stores.memory.plugins import Plugins
from tenuto.adapters.stores.memory.proposals import Proposals
from tenuto.adapters.stores.memory.reading import Definitions, Projections, Reading
from tenuto.adapters.stores.memory.reports import Reports
from tenuto.adapters.stores.memory.starts import Starts
from tenuto.adapters.stores.memory.tables import Tables
from tenuto.adapters.stores.memory.upkeep import Upkeep
from tenuto.adapters.stores.memory.usage import Usage


def wall_clock() -> int:
    """Return the machine's time in ms since 1970."""
    return int(time.time() * 1000)


class MemoryStore(
    Journal, Messages, Ownership, Definitions, Reading, Projections, Upkeep, Artifacts, Checkpoints,
    DataKeys, Usage, Reports, Findings, Lineage, Starts, Proposals, Plugins, Cache,
    Notifications,
):  # fmt: skip
    """All that would outlive a process, lost with this one. No threads, and no real time but by the given clock.

    Args:
        clock: The store's clock, in ms since 1970.
    """

    url = "memory:"

    def __init__(self, clock: Callable[[], int] = wall_clock, *, tables: Tables | None = None) -> None:
        self.tables = tables or Tables(clock)
        self.tables.views += 1
        self.writer = self.tables.views
        self.heard = asyncio.Event()
        self._is_open = False

    def view(self) -> MemoryStore:
        """Return another store over the same data, as another process would have."""
        return MemoryStore(tables=self.tables)

    async def open(self, *, migrate: bool = True) -> None:
        """Begin to hear what other views do. Idempotent."""
        if not self._is_open:
            self._is_open = True
            self.tables.waiters.append(self.heard)

    async def close(self) -> None:
        """Stop hearing; the data stays with the other views."""
        if self._is_open:
            self._is_open = False
            self.tables.waiters.remove(self.heard)

    async def migrations(self) -> list[tuple[str, bool]]:
        """Return nothing: there is no schema."""
        return []

    def health(self) -> str:
        """Return an empty string: memory always answers."""
        return "" if self._is_open else "the store is not open"

    async def now(self) -> int:
        """Return the store's clock."""
        return self.tables.clock()
