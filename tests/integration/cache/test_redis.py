"""A cache server that is away, slow or empty costs time, never an outcome."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from redis.asyncio import Redis

from tenuto import App
from tenuto.errors import Unavailable
from tenuto.settings import Settings, load
from tests.conftest import RedisServer
from tests.integration.cache.test_policies import counting, run


@pytest.fixture
def place(redis_server: RedisServer) -> Settings:
    """Settings that name the server, with patience enough for a busy machine."""
    return settings_for(redis_server.url, 5)


def settings_for(url: str, timeout_s: float) -> Settings:
    cache = json.dumps({"url": url, "timeout_s": timeout_s})
    return load(environ={"TENUTO_DATABASE_URL": "memory:", "TENUTO_CACHE": cache})


async def test_results_are_kept_in_the_server_and_not_in_the_store(place: Settings, redis_server: RedisServer):
    app, made = counting("read_through")
    async with app.engine(settings=place) as engine:
        await run(engine, {"n": 1})
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == "hit" and len(made) == 1
        assert await engine.store.cache_sizes("default") == []
        stats = await engine.cache.stats()
        assert stats.totals.entries == 1 and stats.trouble == ""
        redis_server.kill()
        redis_server.start()
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == "miss" and len(made) == 2


async def test_a_server_that_is_away_makes_misses_and_one_warning(
    place: Settings, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
):
    app, made = counting("read_through")
    redis_server.kill()
    caplog.set_level(logging.WARNING, "tenuto.cache")
    async with app.engine(settings=place) as engine:
        for _ in range(3):
            _output, said = await run(engine, {"n": 1})
            assert said["work"]["how"] == "miss" and not said["work"].get("stored")
        assert len(made) == 3
        assert sum("is away; steps compute" in one.getMessage() for one in caplog.records) == 1
        assert "is away" in (await engine.cache.stats()).trouble
        with pytest.raises(Unavailable):
            await engine.cache.invalidate(everything=True)


async def test_equal_steps_compute_once_while_the_server_is_away(place: Settings, redis_server: RedisServer):
    app, made = App("t"), []

    @app.step(effect="pure", cache="read_through")
    async def work(n: int) -> int:
        made.append(n)
        await asyncio.sleep(0)
        return n

    app.workflow("w").map("each", "${input.items}", work)
    redis_server.kill()
    async with app.engine(settings=place) as engine:
        output, _ = await run(engine, {"items": [{"n": 7}] * 200})
    assert output == {"each": [7] * 200} and made == [7]


async def test_a_server_that_never_answers_is_given_up():
    app, made = counting("read_through")
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with app.engine(settings=settings_for(f"redis://127.0.0.1:{port}/0", 0.1)) as engine:
            _, said = await run(engine, {"n": 1})
            assert said["work"]["how"] == "miss"
    finally:
        server.close()
    assert asked.is_set() and made == [1]


@pytest.mark.parametrize("rubbish", ["meta", "kind", "stamp"])
async def test_rubbish_in_the_server_is_a_miss_that_heals(place: Settings, redis_server: RedisServer, rubbish: str):
    """One entry that somebody spoiled neither takes the others away nor keeps anybody from forgetting."""
    app, _made = counting("read_through")
    async with app.engine(settings=place) as engine, Redis.from_url(redis_server.url) as server:
        _, said = await run(engine, {"n": 1})
        await run(engine, {"n": 2})
        (spoiled,) = await server.keys(f"*{said['work']['key']}")
        if rubbish == "meta":
            await server.hset(spoiled, "m", b"\xff{")
        elif rubbish == "kind":
            await server.delete(spoiled)
            await server.set(spoiled, b"\xff")
        else:
            (stamp,) = await server.keys("*:stamp")
            await server.set(stamp, b"\xff")
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == ("hit" if rubbish == "stamp" else "miss")
        _, said = await run(engine, {"n": 2})
        assert said["work"]["how"] == "hit"
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == "hit"
        assert (await engine.cache.stats()).trouble == ""
        await server.hset(spoiled, "m", b"\xff{")
        assert (await engine.cache.stats()).totals.entries == 1
        assert (await engine.cache.invalidate(everything=True)).entries == 2
        assert await server.keys("*:e:*") == []
