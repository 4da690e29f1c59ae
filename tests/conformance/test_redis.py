"""A Redis server keeps results as stores do, sealed ones too."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import cast

import pytest
from tests.conftest import RedisServer

from tenuto.adapters.caches.redis import RedisCache
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.sealed import Masters, SealedCache, SealedStore
from tenuto.ports.cache import CacheEntries
from tenuto.ports.store import Store
from tenuto.testing.conformance.cache import ROOM, CacheSuite, entry, kept, put


class TestRedisCache(CacheSuite):
    """One server, several processes."""

    @pytest.fixture
    async def cache(self, redis_server: RedisServer) -> AsyncIterator[CacheEntries]:
        """One process's."""
        opened = RedisCache(redis_server.url, timeout_s=5)
        yield opened
        await opened.close()

    @pytest.fixture
    async def second_cache(self, redis_server: RedisServer) -> AsyncIterator[CacheEntries]:
        """Another's."""
        opened = RedisCache(redis_server.url, timeout_s=5)
        yield opened
        await opened.close()

    async def test_what_was_computed_before_the_server_was_emptied_is_not_kept(
        self, cache: CacheEntries, redis_server: RedisServer
    ) -> None:
        """An invalidation and then a loss of everything bring nothing old back."""
        stamp, _ = await cache.cache_get("default", [])
        await cache.cache_drop("default")
        redis_server.kill()
        redis_server.start()
        await cache.cache_get("default", [])
        assert not await cache.cache_put(entry(1), stamp, 0, ROOM)
        assert await kept(cache, 1) == []


async def test_a_sealed_store_keeps_nothing_readable_in_it(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither results nor keys; the workflow and the node are readable, as everywhere."""
    monkeypatch.setenv("TENUTO_TEST_KEY", base64.b64encode(bytes(range(32))).decode())
    store = SealedStore(MemoryStore(), Masters(["env:TENUTO_TEST_KEY"]))
    await store.open()
    redis = RedisCache(redis_server.url, timeout_s=5)
    cache = SealedCache(redis, store)
    assert await put(cache, entry(1, b"canary-7f3a"))
    assert await kept(cache, 1) == [1]
    dump: list[bytes] = []
    for name in await redis._redis.keys("*"):
        dump.append(name)
        dump += (await redis._redis.hvals(name)) if b":e:" in name else [await redis._redis.get(name)]
    assert not any(b"canary" in text or entry(1).key.encode() in text for text in dump)
    assert cast("Store", store).health() == ""
    await redis.close()
    await store.close()
