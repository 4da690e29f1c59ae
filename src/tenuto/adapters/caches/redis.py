"""Results in a server that speaks the protocol of Redis. It may be slow, away or emptied at any moment: then they are misses.

An entry is a hash `tenuto:{NS}:e:KEY` of what is known of a result and of the result itself, and expires by itself. How much
is kept, and what leaves first, is the server's own affair (`maxmemory`). The stamp `tenuto:{NS}:stamp` is a random text, so
that one made after the server was emptied is no other's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from tenuto.ports.cache import CacheAway, CacheBounds, CacheEntry, CacheSize

T = TypeVar("T")
log = logging.getLogger("tenuto.cache")
AWAY_S = 5.0
"""So long a server that failed is not asked again, so that steps do not wait for it one after another."""
SCANNED = 500

_PUT = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[2])
redis.call('hset', KEYS[2], 'm', ARGV[2], 'b', ARGV[3])
if ARGV[4] ~= '0' then redis.call('pexpire', KEYS[2], ARGV[4]) end
return 1
"""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a result."""

    workflow: str
    node: str
    size: int
    took_ms: int = 0
    cost_usd_micros: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Meta).decode


class RedisCache:
    """Keeps results in one server, or in a cluster behind one address.

    Args:
        url: `redis://host:port/db`, or `rediss://` over TLS; without a password.
        timeout_s: After which a request counts as failed.
        clock: Seconds that never go backwards; for tests.
    """

    def __init__(
        self, url: str, *, username: str = "", password: str = "", timeout_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._place = url
        self._timeout_s = timeout_s
        self._clock = clock
        self._away_until = 0.0
        self._trouble = ""
        self._redis = cast("Any", Redis).from_url(
            url, username=username or None, password=password or None, socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 1),
        )

    def health(self) -> str:
        """Return an empty string while the server answers, as far as it was asked, else what is wrong."""
        return self._trouble

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()

    async def cache_get(self, ns: str, keys: Sequence[str]) -> tuple[str, dict[str, CacheEntry]]:
        """Return what is kept under some keys, and a stamp; nothing, and no stamp, while the server is away."""

        async def read() -> tuple[str, dict[str, CacheEntry]]:
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(_stamp(ns))
            for key in keys:
                pipe.hmget(_entry(ns, key), "m", "b")
            stamp, *rows = _answers(await pipe.execute(raise_on_error=False))
            if isinstance(stamp, Exception):
                raise stamp
            if stamp is None:
                await self._redis.set(_stamp(ns), secrets.token_hex(16), nx=True)
                stamp = await self._redis.get(_stamp(ns))
            opened = ((key, _opened(ns, key, row)) for key, row in zip(keys, rows, strict=True))
            return stamp.decode("latin-1"), {key: entry for key, entry in opened if entry is not None}

        try:
            return await self._ask(read)
        except CacheAway:
            return "", {}

    async def cache_put(self, entry: CacheEntry, stamp: str, ttl_ms: int, bounds: CacheBounds) -> bool:
        """Keep a result, unless something was invalidated since it was begun; the server sets the bounds.

        Raises:
            CacheAway: The server does not answer, or did not when the result was looked for.
        """
        if not stamp:
            raise CacheAway(self._trouble or "the cache did not answer when the result was looked for")
        meta = Meta(entry.workflow, entry.node, entry.size, entry.took_ms, entry.cost_usd_micros)
        names = (_stamp(entry.ns), _entry(entry.ns, entry.key))
        given = (stamp.encode("latin-1"), _encode(meta), entry.body, ttl_ms)
        kept = await self._ask(lambda: self._redis.eval(_PUT, 2, *names, *given))
        return bool(kept)

    async def cache_drop(self, ns: str, *, key: str = "", workflow: str = "", node: str = "") -> int:
        """Forget results, and let none be kept that was begun before now.

        Raises:
            CacheAway: The server does not answer; nothing, or not all, was forgotten.
        """
        await self._ask(lambda: self._redis.set(_stamp(ns), secrets.token_hex(16)))
        gone = 0
        async for names, metas in self._scan(ns, _entry(ns, key) if key else ""):
            doomed = [
                name for name, meta in zip(names, metas, strict=True)
                if meta is None or ((not workflow or meta.workflow == workflow) and (not node or meta.node == node))
            ]
            if doomed:
                gone += await self._ask(lambda doomed=doomed: self._redis.delete(*doomed))
        return gone

    async def cache_sizes(self, ns: str) -> list[CacheSize]:
        """Return what is kept, by workflow and node; nothing while the server is away."""
        sums: dict[tuple[str, str], list[int]] = {}
        try:
            async for _, metas in self._scan(ns):
                for meta in metas:
                    if meta is None:
                        continue
                    sums.setdefault((meta.workflow, meta.node), []).append(meta.size)
        except CacheAway:
            return []
        return [
            CacheSize(workflow=workflow, node=node, entries=len(sizes), bytes=sum(sizes))
            for (workflow, node), sizes in sorted(sums.items())
        ]

    async def _scan(self, ns: str, only: str = "") -> AsyncIterator[tuple[list[bytes], list[Meta | None]]]:
        """Yield the names of entries with what is known of them, in parts; of one that somebody spoiled nothing is."""
        cursor = 0
        pattern = _escaped(_entry(ns, "")) + "*"
        while True:
            if only:
                names: list[bytes] = [only.encode()]
            else:
                cursor, names = await self._ask(lambda at=cursor: self._redis.scan(at, match=pattern, count=SCANNED))

            async def read(names: list[bytes] = names) -> list[Any]:
                pipe = self._redis.pipeline(transaction=False)
                for name in names:
                    pipe.hget(name, "m")
                return _answers(await pipe.execute(raise_on_error=False))

            metas = await self._ask(read) if names else []
            there = [(name, _known(meta)) for name, meta in zip(names, metas, strict=True) if meta is not None]
            yield [name for name, _ in there], [meta for _, meta in there]
            if not cursor:
                return

    async def _ask(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the server answers in time.

        Raises:
            CacheAway: It does not, or did not a moment ago.
        """
        if self._clock() < self._away_until:
            raise CacheAway(self._trouble)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await work()
        except (RedisError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            self._away_until = self._clock() + AWAY_S
            said = str(error) or f"no answer within {self._timeout_s:g} s"
            if not self._trouble:
                log.warning("the cache at %s is away; steps compute until it is back: %s", self._place, said)
            self._trouble = f"the cache at {self._place} is away: {said}"
            raise CacheAway(self._trouble) from error
        if self._trouble:
            log.warning("the cache at %s answers again", self._place)
            self._trouble = ""
        return answer


def _entry(ns: str, key: str) -> str:
    return f"tenuto:{{{ns}}}:e:{key}"


def _stamp(ns: str) -> str:
    return f"tenuto:{{{ns}}}:stamp"


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "[]*?\\^-" else char for char in text)


def _answers(found: list[Any]) -> list[Any]:
    """Return what a server said to each of several requests; whatever is no answer to one of them is raised."""
    for one in found:
        if isinstance(one, Exception) and not isinstance(one, ResponseError):
            raise one
    return found


def _known(meta: Any) -> Meta | None:
    """Return what is known of an entry; `None` of one that holds something else than it should."""
    try:
        return None if isinstance(meta, Exception) else _decode(meta)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _opened(ns: str, key: str, row: Any) -> CacheEntry | None:
    """Return an entry, or `None` where there is none or somebody spoiled it: it is a miss, and is put anew."""
    if isinstance(row, Exception) or None in row:
        return None
    known = _known(row[0])
    if known is None:
        return None
    return CacheEntry(
        ns=ns, key=key, workflow=known.workflow, node=known.node, body=row[1], size=known.size, took_ms=known.took_ms,
        cost_usd_micros=known.cost_usd_micros,
    )  # fmt: skip
