"""Results kept for others, and who computes them."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.ports.cache import CacheBounds, CacheCount, CacheEntry, CacheSize, Place

_NAMES = ("key", "workflow", "node", "body", "size", "took_ms", "cost_usd_micros", "created_at")


class Cache(Part):
    """The cache's side of the store."""

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return what is kept under some keys, and a stamp."""

        async def read(connection: Connection, again: bool) -> tuple[str, dict[str, CacheEntry]]:
            # The stamp first: a result that is invalidated in between is then refused, never the other way round.
            stamp = await _stamp(connection, ns)
            rows = await connection.fetch(SQL["cache_get"], ns, list(keys))
            return stamp, {row["key"]: CacheEntry(ns=ns, **{name: row[name] for name in _NAMES}) for row in rows}

        return await self.parts.pool.call(read)

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a result, unless something was invalidated since it was begun."""

        async def put(connection: Connection, again: bool) -> bool:
            async with connection.transaction():
                await connection.execute(SQL["cache_lock_shared"], entry.ns)
                if await _stamp(connection, entry.ns) != stamp:
                    return False
                await connection.execute(SQL["cache_expire"])
                await connection.execute(
                    SQL["cache_put"], entry.ns, entry.key, entry.workflow, entry.node, entry.body, entry.size,
                    entry.took_ms, entry.cost_usd_micros, ttl_ms, ",".join(entry.names),
                )  # fmt: skip
                total = await connection.fetchrow(SQL["cache_total"], entry.ns)
                assert total is not None
                if total["entries"] > bounds.max_entries or total["bytes"] > bounds.max_bytes:
                    await connection.execute(SQL["cache_evict"], entry.ns, bounds.max_entries, bounds.max_bytes)
                return True

        return await self.parts.pool.call(put)

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results, and let none be kept that was begun before now."""

        async def drop(connection: Connection, again: bool) -> int:
            async with connection.transaction():
                await connection.execute(SQL["cache_lock"], ns)
                await connection.execute(SQL["cache_stamp_next"], ns)
                return len(await connection.fetch(SQL["cache_drop"], ns, key, workflow, node))

        return await self.parts.pool.call(drop)

    async def cache_sizes(self, ns: str) -> list[CacheSize]:
        """Return what is kept, by workflow and node."""
        return [
            CacheSize(workflow=row["workflow"], node=row["node"], entries=row["entries"], bytes=row["bytes"])
            for row in await self.parts.pool.fetch("cache_sizes", ns)
        ]

    async def cache_counts(self, ns: str) -> list[CacheCount]:
        """Return what the cache had to do with steps."""
        return [CacheCount(**dict(row)) for row in await self.parts.pool.fetch("cache_counts", ns)]

    async def take_flights(self, worker: str, places: Sequence[Place]) -> set[Place]:
        """Take what nobody with a living lease computes."""
        found = await self.parts.pool.fetch("flight_take", *_columns(places), worker)
        return {(row["ns"], row["key"]) for row in found}

    async def busy_flights(self, places: Sequence[Place]) -> set[Place]:
        """Return what somebody with a living lease computes."""
        return {(row["ns"], row["key"]) for row in await self.parts.pool.fetch("flights", *_columns(places))}

    async def end_flights(self, worker: str, places: Sequence[Place]) -> None:
        """Give back what is ours, and wake whoever waits."""
        await self.parts.pool.fetch("flight_end", *_columns(places), worker)
        self.parts.hints.poke()
        await self.parts.pool.fetch("flights_of_dead")


def _columns(places: Sequence[Place]) -> tuple[list[str], list[str]]:
    return [ns for ns, _ in places], [key for _, key in places]


async def _stamp(connection: Connection, ns: str) -> str:
    return str(await connection.fetchval(SQL["cache_stamp"], ns) or 0)
