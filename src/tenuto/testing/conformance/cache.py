"""What keeps results: lost ones are misses, invalidated ones are never seen again, and one worker at a time computes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenuto.ports.cache import CacheBounds, CacheEntries, CacheEntry
from tenuto.ports.store import Store
from tenuto.testing.conformance import kit

HOUR_MS = 3_600_000
ROOM = CacheBounds()


def key(n: int) -> str:
    """Return a key."""
    return f"sha256:{n:064x}"


def entry(n: int, body: bytes = b"", *, ns: str = "default", workflow: str = "w", node: str = "a", **more: Any) -> CacheEntry:
    """Return an entry that says its number."""
    body = body or b"result %d" % n
    return CacheEntry(ns=ns, key=key(n), workflow=workflow, node=node, body=body, size=len(body), **more)


async def put(cache: CacheEntries, one: CacheEntry, *, ttl_ms: int = HOUR_MS, bounds: CacheBounds = ROOM) -> bool:
    """Keep an entry with a stamp of now."""
    stamp, _ = await cache.cache_get(one.ns, [one.key])
    return await cache.cache_put(one, stamp, ttl_ms, bounds)


async def kept(cache: CacheEntries, *ns_keys: int, ns: str = "default") -> list[int]:
    """Return which of some keys are kept."""
    _, found = await cache.cache_get(ns, [key(n) for n in ns_keys])
    return [n for n in ns_keys if key(n) in found]


class CacheSuite:
    """Keeping and forgetting results. A subclass provides the fixtures `cache` and `second_cache`, on the same data."""

    @pytest.fixture
    def cache(self, store: Store) -> CacheEntries:
        """What keeps results: for a store, itself."""
        return store

    @pytest.fixture
    def second_cache(self, second_store: Store) -> CacheEntries:
        """The same as another process has it."""
        return second_store

    async def test_a_kept_result_is_there_for_every_process_of_its_namespace(
        self, cache: CacheEntries, second_cache: CacheEntries
    ) -> None:
        """What was put comes back as it was; in no other namespace, and under no other key."""
        assert await put(cache, entry(1, b"\x00\xff value", took_ms=12, cost_usd_micros=34))
        _, found = await second_cache.cache_get("default", [key(1), key(2)])
        assert list(found) == [key(1)]
        one = found[key(1)]
        assert (one.body, one.took_ms, one.cost_usd_micros, one.workflow, one.node) == (b"\x00\xff value", 12, 34, "w", "a")
        assert await kept(cache, 1, ns="other") == []

    async def test_a_result_put_again_takes_the_place_of_the_first(self, cache: CacheEntries) -> None:
        """The last one counts, once."""
        await put(cache, entry(1, b"first"))
        await put(cache, entry(1, b"second one"))
        _, found = await cache.cache_get("default", [key(1)])
        assert found[key(1)].body == b"second one"
        assert [(size.entries, size.bytes) for size in await cache.cache_sizes("default")] == [(1, 10)]

    async def test_a_result_expires(self, cache: CacheEntries) -> None:
        """After its time it is a miss and counts no more; one without an end stays."""
        await put(cache, entry(1), ttl_ms=1)
        await put(cache, entry(2), ttl_ms=0)
        # Only the clock of whatever keeps it ends it, and that wakes nobody.
        while await kept(cache, 1):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert await kept(cache, 1, 2) == [2]
        assert sum(size.entries for size in await cache.cache_sizes("default")) == 1

    async def test_results_are_counted_by_workflow_and_node(self, cache: CacheEntries) -> None:
        """How much is kept of each node of a namespace."""
        await put(cache, entry(1, b"12345"))
        await put(cache, entry(2, b"123"))
        await put(cache, entry(3, b"1", node="b"))
        await put(cache, entry(4, b"1", workflow="v", node="b"))
        await put(cache, entry(5, b"1", ns="other"))
        sizes = [(size.workflow, size.node, size.entries, size.bytes) for size in await cache.cache_sizes("default")]
        assert sizes == [("v", "b", 1, 1), ("w", "a", 2, 8), ("w", "b", 1, 1)]

    @pytest.mark.parametrize(("by", "left"), [
        ({"key": key(1)}, [2, 3, 4]), ({"workflow": "w"}, [4]), ({"workflow": "w", "node": "b"}, [1, 2, 4]),
        ({"node": "b"}, [1, 2]), ({}, []),
    ])
    async def test_results_are_forgotten_by_what_was_computed(
        self, cache: CacheEntries, second_cache: CacheEntries, by: dict[str, str], left: list[int]
    ) -> None:
        """By key, workflow, node or all, for every process; other namespaces keep theirs."""
        for one in (entry(1), entry(2), entry(3, node="b"), entry(4, workflow="v", node="b"), entry(1, ns="other")):
            await put(cache, one)
        assert await cache.cache_drop("default", **by) == 4 - len(left)
        assert await kept(second_cache, 1, 2, 3, 4) == left
        assert await kept(cache, 1, ns="other") == [1]

    async def test_what_was_computed_before_an_invalidation_is_not_kept_after_it(
        self, cache: CacheEntries, second_cache: CacheEntries
    ) -> None:
        """A result under way is refused, in its namespace only; one begun after the invalidation is kept."""
        stamp, _ = await cache.cache_get("default", [key(1)])
        elsewhere, _ = await cache.cache_get("other", [key(1)])
        await second_cache.cache_drop("default", key=key(9))
        assert not await cache.cache_put(entry(1), stamp, HOUR_MS, ROOM)
        assert await cache.cache_put(entry(1, ns="other"), elsewhere, HOUR_MS, ROOM)
        assert await kept(cache, 1) == []
        assert await put(cache, entry(1))
        assert await kept(cache, 1) == [1]


class BoundsSuite:
    """Keeping no more than is allowed; for what keeps to bounds itself."""

    def kept_as(self, store: Store, digest: str) -> str:
        """Return the name under which the store keeps a value; one that seals has others."""
        return digest

    async def test_what_was_put_first_leaves_first(self, store: Store) -> None:
        """Beyond either bound the oldest results go, of this namespace alone."""
        await put(store, entry(9, ns="other"))
        for n in range(5):
            await put(store, entry(n, b"x" * 10), bounds=CacheBounds(max_entries=3))
            await _next_ms(store)
        assert await kept(store, *range(5)) == [2, 3, 4]
        await put(store, entry(5, b"x" * 25), bounds=CacheBounds(max_bytes=45))
        assert await kept(store, *range(6)) == [3, 4, 5]
        assert await kept(store, 9, ns="other") == [9]

    async def test_artifacts_of_a_kept_result_are_in_use(self, store: Store) -> None:
        """Upkeep finds their names for as long as the result is kept."""
        await store.cache_put(entry(1, names=(key(77),)), (await store.cache_get("default", []))[0], 0, ROOM)
        named = self.kept_as(store, key(77))
        texts, _ = await store.references()
        assert any(named.encode() in text for text in texts)
        await store.cache_drop("default")
        assert not any(named.encode() in text for text in (await store.references())[0])


class FlightSuite:
    """Who computes what."""

    async def test_one_worker_at_a_time_computes(self, store: Store, second_store: Store) -> None:
        """Of many that ask at once one gets each place; asking again changes nothing; given back, the next one gets it."""
        places = [("default", key(1)), ("default", key(2)), ("other", key(1))]
        await kit.enlist(store, "a")
        await kit.enlist(store, "b")
        both = await asyncio.gather(store.take_flights("a", places), second_store.take_flights("b", places))
        assert both[0] | both[1] == set(places)
        assert not both[0] & both[1]
        assert await store.busy_flights([*places, ("default", key(3))]) == set(places)
        assert await store.take_flights("a", places) == both[0]
        await store.end_flights("a", places)
        assert await store.busy_flights(places) == both[1]
        assert await store.take_flights("b", places) == set(places)

    async def test_the_dead_compute_nothing(self, store: Store) -> None:
        """A place whose worker's lease has ended, or that left, is free; one without a lease gets none."""
        place = ("default", key(1))
        await kit.enlist(store, "a")
        await kit.enlist(store, "b")
        assert await store.take_flights("a", [place]) == {place}
        assert await store.take_flights("b", [place]) == set()
        await store.unregister("a")
        assert await store.busy_flights([place]) == set()
        assert await store.take_flights("a", [place]) == set()
        assert await store.take_flights("b", [place]) == {place}
        await kit.enlist(store, "b", lease_ms=0)
        await kit.enlist(store, "c")
        assert await store.take_flights("c", [place]) == {place}
        await store.end_flights("b", [place])
        assert await store.busy_flights([place]) == {place}

    async def test_giving_a_place_back_wakes_other_processes(self, store: Store, second_store: Store) -> None:
        """Whoever waits for work elsewhere looks again at once."""
        await kit.enlist(store, "a")
        await store.take_flights("a", [("default", key(1))])
        while True:  # hints of what was done so far may still come
            try:
                async with asyncio.timeout(0.1):
                    await second_store.wait_hint(10)
            except TimeoutError:
                break
        waiting = asyncio.create_task(second_store.wait_hint(10))
        async with asyncio.timeout(5):
            while not waiting.done():  # a hint may pass while the wait for it begins
                await store.end_flights("a", [("default", key(1))])
                await asyncio.wait({waiting}, timeout=0.1)


async def _next_ms(store: Store) -> None:
    """Let the store's clock, which nobody can wait for, move on."""
    before = await store.now()
    while await store.now() == before:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
