"""A cache around another one, in which every result is sealed and no key tells what a step was given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from msgspec.structs import replace

from tenuto.adapters.stores.sealed.envelope import Envelopes
from tenuto.adapters.stores.sealed.ring import KeyRing
from tenuto.errors import TenutoError
from tenuto.ports.cache import CacheBounds, CacheEntries, CacheEntry, CacheSize, Place
from tenuto.ports.store import Store

T = TypeVar("T")
log = logging.getLogger("tenuto.cache")


class Keys(Protocol):
    """What seals results."""

    def name(self, ns: str, digest: str) -> str:
        """Return the name under which a value is kept."""
        ...

    async def cache_name(self, ns: str, key: str) -> str:
        """Return the name under which a result is kept."""
        ...

    def seal_result(self, ns: str, name: str, body: bytes) -> bytes:
        """Seal a result for its name."""
        ...

    async def open_result(self, ns: str, name: str, body: bytes) -> bytes:
        """Return a result that was sealed for a name."""
        ...


class SealedCache:
    """Seals on the way in and opens on the way out; a result that cannot be opened is a miss.

    Args:
        inner: Where the results are.
        store: Whose keys are used.
    """

    def __init__(self, inner: CacheEntries, store: Keys) -> None:
        self.inner = inner
        self._store = store

    def health(self) -> str:
        """Return what is wrong with what is inside."""
        return self.inner.health()

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return what is kept under some keys, and a stamp."""
        names = {name: key for key in keys for name in [await self._store.cache_name(ns, key)]}
        stamp, found = await self.inner.cache_get(ns, list(names))
        opened: dict[str, CacheEntry] = {}
        for name, entry in found.items():
            try:
                body = await self._store.open_result(ns, name, entry.body)
            except TenutoError as error:
                log.warning("a kept result of node %r is not used: %s", entry.node, error.message)
            else:
                opened[names[name]] = replace(entry, key=names[name], body=body)
        return stamp, opened

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a sealed result, unless something was invalidated since it was begun."""
        name = await self._store.cache_name(entry.ns, entry.key)
        sealed = replace(
            entry, key=name, body=self._store.seal_result(entry.ns, name, entry.body),
            names=tuple(self._store.name(entry.ns, artifact) for artifact in entry.names),
        )  # fmt: skip
        return await self.inner.cache_put(sealed, stamp, ttl_ms, bounds)

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results, and let none be kept that was begun before now."""
        name = await self._store.cache_name(ns, key) if key else ""
        return await self.inner.cache_drop(ns, key=name, workflow=workflow, node=node)

    async def cache_sizes(self, ns: str) -> list[CacheSize]:
        """Return what is kept, by workflow and node."""
        return await self.inner.cache_sizes(ns)


class SealedResults:
    """The side of a sealed store that keeps results and knows who computes them."""

    inner: Store
    ring: KeyRing
    _envelopes: Envelopes

    def name(self, ns: str, digest: str) -> str:
        """Return the name under which a value is kept."""
        raise NotImplementedError

    async def _opened(self, work: Callable[[], T]) -> T:
        raise NotImplementedError

    async def cache_name(self, ns: str, key: str) -> str:
        """Return the name under which a result is kept, which does not tell what its step was given."""
        await self.ring.ready([ns])
        return self.name(ns, key)

    def seal_result(self, ns: str, name: str, body: bytes) -> bytes:
        """Seal a result for its name."""
        return self._envelopes.seal(ns, body, "cache", name)

    async def open_result(self, ns: str, name: str, body: bytes) -> bytes:
        """Return a result that was sealed for a name."""
        return await self._opened(lambda: self._envelopes.open(body, "cache", name, ns=ns))

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return what is kept under some keys, and a stamp."""
        return await SealedCache(self.inner, self).cache_get(ns, keys)

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a sealed result."""
        return await SealedCache(self.inner, self).cache_put(entry, stamp, ttl_ms, bounds)

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results."""
        return await SealedCache(self.inner, self).cache_drop(ns, key=key, workflow=workflow, node=node)

    async def take_flights(self, worker: str, places: Sequence[Place]) -> set[Place]:
        """Take what nobody with a living lease computes."""
        names = await self._flights(places)
        return {names[place] for place in await self.inner.take_flights(worker, list(names))}

    async def busy_flights(self, places: Sequence[Place]) -> set[Place]:
        """Return what somebody with a living lease computes."""
        names = await self._flights(places)
        return {names[place] for place in await self.inner.busy_flights(list(names))}

    async def end_flights(self, worker: str, places: Sequence[Place]) -> None:
        """Give back what is ours."""
        await self.inner.end_flights(worker, list(await self._flights(places)))

    async def _flights(self, places: Sequence[Place]) -> dict[Place, Place]:
        return {(ns, await self.cache_name(ns, key)): (ns, key) for ns, key in places}
