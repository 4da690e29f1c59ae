"""Results kept for others, and who computes them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.ports.cache import CacheBounds, CacheCount, CacheEntry, CacheSize, Place
from tenuto.ports.lists import StepRow


class Cache:
    """The cache's side of the store."""

    tables: Tables

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return what is kept under some keys, and a stamp."""
        found = {key: entry for key in keys if (entry := self._kept(ns, key)) is not None}
        return str(self.tables.cache_stamps.get(ns, 0)), found

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a result, unless something was invalidated since it was begun."""
        tables, now = self.tables, self.tables.clock()
        if str(tables.cache_stamps.get(entry.ns, 0)) != stamp:
            return False
        for place in [place for place, (_, ends) in tables.cache.items() if ends and ends <= now]:
            del tables.cache[place]
        tables.cache.pop((entry.ns, entry.key), None)
        tables.cache[entry.ns, entry.key] = (replace(entry, created_at=now), now + ttl_ms if ttl_ms else 0)
        kept = [(place, one.size) for place, (one, _) in tables.cache.items() if place[0] == entry.ns]
        size = sum(size for _, size in kept)
        for n, (place, least) in enumerate(kept):
            if len(kept) - n <= bounds.max_entries and size <= bounds.max_bytes:
                break
            size -= least
            del tables.cache[place]
        return True

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results, and let none be kept that was begun before now."""
        tables = self.tables
        tables.cache_stamps[ns] = tables.cache_stamps.get(ns, 0) + 1
        gone = [
            place for place, (entry, _) in tables.cache.items()
            if place[0] == ns and (not key or entry.key == key) and (not workflow or entry.workflow == workflow)
            and (not node or entry.node == node)
        ]
        for place in gone:
            del tables.cache[place]
        return len(gone)

    async def cache_sizes(self, ns: str) -> list[CacheSize]:
        """Return what is kept, by workflow and node."""
        found: dict[tuple[str, str], list[int]] = {}
        for place in list(self.tables.cache):
            entry = self._kept(*place)
            if entry is not None and entry.ns == ns:
                found.setdefault((entry.workflow, entry.node), []).append(entry.size)
        return [
            CacheSize(workflow=workflow, node=node, entries=len(sizes), bytes=sum(sizes))
            for (workflow, node), sizes in sorted(found.items())
        ]

    async def cache_counts(self, ns: str) -> list[CacheCount]:
        """Return what the cache had to do with steps."""
        found: dict[tuple[str, str, str], list[StepRow]] = {}
        for _, row in self.tables.steps.values():
            if row.ns == ns and row.cache:
                found.setdefault((self.tables.runs[row.run_id].workflow, row.node, row.cache), []).append(row)
        return [
            CacheCount(
                workflow=workflow, node=node, how=how, steps=len(rows), stored=sum(row.stored for row in rows),
                saved_ms=sum(row.saved_ms for row in rows), saved_usd_micros=sum(row.saved_usd_micros for row in rows),
            )
            for (workflow, node, how), rows in sorted(found.items())
        ]  # fmt: skip

    async def take_flights(self, worker: str, places: Sequence[Place]) -> set[Place]:
        """Take what nobody with a living lease computes."""
        flights = self.tables.flights
        taken: set[Place] = set()
        for place in places if self.tables.alive(worker) else ():
            holder = flights.get(place)
            if holder == worker or not self.tables.alive(holder):
                flights[place] = worker
                taken.add(place)
        return taken

    async def busy_flights(self, places: Sequence[Place]) -> set[Place]:
        """Return what somebody with a living lease computes."""
        return {place for place in places if self.tables.alive(self.tables.flights.get(place))}

    async def end_flights(self, worker: str, places: Sequence[Place]) -> None:
        """Give back what is ours, and wake whoever waits."""
        flights = self.tables.flights
        for place, holder in list(flights.items()):
            if (holder == worker and place in places) or not self.tables.alive(holder):
                del flights[place]
        self.tables.wake()

    def _kept(self, ns: str, key: str) -> CacheEntry | None:
        entry, ends = self.tables.cache.get((ns, key), (None, 0))
        return entry if not ends or ends > self.tables.clock() else None
