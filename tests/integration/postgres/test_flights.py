"""A flight ends although somebody asks for it at that very moment."""

from __future__ import annotations

import asyncio

import asyncpg

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.testing.conformance import kit


async def test_a_flight_whose_row_another_worker_looks_at_ends_all_the_same(postgres_url: str):
    """Who asks for a flight holds its row for a moment; the one that gives it back waits for that, and does not skip it."""
    store, place = PostgresStore(postgres_url), ("default", "sha256:1")
    await store.open()
    other = await asyncpg.connect(postgres_url)
    try:
        await kit.enlist(store, "a")
        await kit.enlist(store, "b")
        assert await store.take_flights("a", [place]) == {place}
        asking = other.transaction()
        await asking.start()
        assert await other.fetch(SQL["flight_take"], [place[0]], [place[1]], "b") == []
        ending = asyncio.create_task(store.end_flights("a", [place]))
        await asyncio.wait({ending}, timeout=0.2)
        await asking.commit()
        async with asyncio.timeout(10):
            await ending
        assert await store.busy_flights([place]) == set()
        assert await store.take_flights("b", [place]) == {place}
    finally:
        await other.close()
        await store.close()
