"""The cache: results of steps under the digest of all they follow from, and who is computing one just now.

Entries may be lost at any moment; a lost one is a miss. Flights say who computes: they live in the store, whatever keeps
the entries, and last as long as their worker's lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

Place = tuple[str, str]
"""A namespace and a key in it."""


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A kept result.

    Attributes:
        workflow: Whose step it was computed for, with `node`; what it may be invalidated by.
        body: Opaque to whatever keeps it.
        size: Of the body as it was given.
        took_ms: What it took to compute, with `cost_usd_micros`; saved whenever it is taken.
        created_at: By the clock of the store.
        names: Artifacts that the result speaks of: they are kept as long as it is. Not returned by `cache_get`.
    """

    ns: str
    key: str
    workflow: str
    node: str
    body: bytes
    size: int
    took_ms: int = 0
    cost_usd_micros: int = 0
    created_at: int = 0
    names: tuple[str, ...] = ()


class CacheBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much one namespace may keep; what was put first leaves first."""

    max_entries: int = 10_000
    max_bytes: int = 256 * 2**20


class CacheSize(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one node."""

    workflow: str
    node: str
    entries: int
    bytes: int


class CacheCount(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache had to do with the ended steps of one node, as the table of steps knows them.

    Attributes:
        how: `hit`, `joined`, `miss` or `unread`, as in the journal.
        stored: Of `steps`, those whose results were kept.
    """

    workflow: str
    node: str
    how: str
    steps: int
    stored: int = 0
    saved_ms: int = 0
    saved_usd_micros: int = 0


class CacheOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How results are kept where nodes do not say otherwise.

    Attributes:
        enabled: Without it every step computes, whatever its node says.
        ttl_s: So long a result is kept; 0 = until it is evicted or invalidated.
        max_bytes: Longest result that is kept.
    """

    enabled: bool = True
    ttl_s: float = 7 * 86_400.0
    max_bytes: int = 2**20
    bounds: CacheBounds = CacheBounds()


class CacheAway(Exception):
    """What keeps the results does not answer."""


class CacheEntries(Protocol):
    """What keeps results. It may lose them at any time; whoever asks then computes."""

    def health(self) -> str:
        """Return an empty string while it answers, as far as it was asked, else what is wrong, for a person."""
        ...

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return the results under some keys that have not expired, and a stamp to put later ones with."""
        ...

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a result in the place of any other under its key, and let go of what has expired or is too much.

        Args:
            stamp: Of a `cache_get` before the result was computed; nothing is kept when something was invalidated since.
            ttl_ms: So long it is kept, from now; 0 = without end.

        Returns:
            Whether it is kept.
        """
        ...

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results: all that match what is given, and no result computed before now is kept any more.

        Returns:
            How many there were.
        """
        ...

    async def cache_sizes(self, ns: str) -> list[CacheSize]:
        """Return what is kept, by workflow and node."""
        ...


class Flights(Protocol):
    """The part of a store that knows who computes what."""

    async def take_flights(self, worker: str, places: Sequence[Place]) -> set[Place]:
        """Take those places that nobody with a living lease holds; return which of them are ours now.

        One we hold already is ours. Only a worker with a living lease gets any.
        """
        ...

    async def busy_flights(self, places: Sequence[Place]) -> set[Place]:
        """Return those places that somebody with a living lease holds."""
        ...

    async def end_flights(self, worker: str, places: Sequence[Place]) -> None:
        """Give places back that are ours, and wake whoever waits for them."""
        ...


class CacheTable(CacheEntries, Flights, Protocol):
    """The part of a store that keeps results and knows who computes them."""

    async def cache_counts(self, ns: str) -> list[CacheCount]:
        """Return what the cache had to do with steps of runs that are kept; may lag as the table of steps does."""
        ...
