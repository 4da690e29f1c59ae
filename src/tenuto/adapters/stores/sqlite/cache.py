"""Results kept for others, and who computes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.cache import CacheBounds, CacheCount, CacheEntry, CacheSize, Place

_NAMES = ("key", "workflow", "node", "body", "size", "took_ms", "cost_usd_micros", "created_at")


class Cache(Part):
    """The cache's side of the store."""

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return what is kept under some keys, and a stamp."""
        wanted = msgspec.json.encode(list(keys)).decode()

        def read(db: sqlite3.Connection) -> tuple[str, dict[str, CacheEntry]]:
            # The stamp first: a result that is invalidated in between is then refused, never the other way round.
            with sql.one_moment(db):
                stamp = _stamp(db, ns)
                found = sql.rows(db, "cache_get", ns, wanted, self.parts.clock())
            return stamp, {row[0]: CacheEntry(ns=ns, **dict(zip(_NAMES, row, strict=True))) for row in found}

        return await self.parts.readers.run(read)

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a result, unless something was invalidated since it was begun."""

        def put(tx: Tx) -> bool:
            if _stamp(tx.db, entry.ns) != stamp:
                return False
            sql.change(tx.db, "cache_expire", tx.now)
            sql.change(
                tx.db, "cache_put", entry.ns, entry.key, entry.workflow, entry.node, entry.body, entry.size, entry.took_ms,
                entry.cost_usd_micros, tx.now, tx.now + ttl_ms if ttl_ms else 0,
                ",".join(entry.names),
            )
            entries, size = sql.first(tx.db, "cache_total", entry.ns)
            if entries > bounds.max_entries or size > bounds.max_bytes:
                sql.change(tx.db, "cache_evict", entry.ns, bounds.max_entries, bounds.max_bytes)
            return True

        return await self.parts.writer.run(put)

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results, and let none be kept that was begun before now."""

        def drop(tx: Tx) -> int:
            sql.change(tx.db, "cache_stamp_next", ns)
            return sql.change(tx.db, "cache_drop", ns, key, workflow, node)

        return await self.parts.writer.run(drop)

    async def cache_sizes(self, ns: str) -> list[CacheSize]:
        """Return what is kept, by workflow and node."""
        found = await self.parts.readers.rows("cache_sizes", ns, self.parts.clock())
        return [CacheSize(workflow=workflow, node=node, entries=n, bytes=size) for workflow, node, n, size in found]

    async def cache_counts(self, ns: str) -> list[CacheCount]:
        """Return what the cache had to do with steps."""
        names = ("workflow", "node", "how", "steps", "stored", "saved_ms", "saved_usd_micros")
        return [CacheCount(**dict(zip(names, row, strict=True))) for row in await self.parts.readers.rows("cache_counts", ns)]

    async def take_flights(self, worker: str, places: Sequence[Place]) -> set[Place]:
        """Take what nobody with a living lease computes."""

        def take(tx: Tx) -> set[Place]:
            return {place for place in places if sql.change(tx.db, "flight_take", *place, worker, tx.now)}

        return await self.parts.writer.run(take)

    async def busy_flights(self, places: Sequence[Place]) -> set[Place]:
        """Return what somebody with a living lease computes."""
        named = msgspec.json.encode(list(places)).decode()
        return {(ns, key) for ns, key in await self.parts.readers.rows("flights", named, self.parts.clock())}

    async def end_flights(self, worker: str, places: Sequence[Place]) -> None:
        """Give back what is ours, and wake whoever waits."""

        def end(tx: Tx) -> None:
            sql.changes(tx.db, "flight_end", [(*place, worker) for place in places])
            sql.change(tx.db, "flights_of_dead", tx.now)
            tx.woke = True

        await self.parts.writer.run(end)


def _stamp(db: sqlite3.Connection, ns: str) -> str:
    found = sql.first(db, "cache_stamp", ns)
    return str(found[0] if found is not None else 0)
