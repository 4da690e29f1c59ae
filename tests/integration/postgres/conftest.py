"""A server that may be stopped, a store on a fresh database, and journals to write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from postgres_journals import Journals
from postgres_proxy import Proxy

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.bundled.postgres import LocalPostgres
from tenuto.ports.store import WorkerRow


@pytest.fixture(scope="module")
def fragile_server(request: pytest.FixtureRequest) -> Iterator[LocalPostgres]:
    """A server of the module's own, so that stopping it disturbs nobody."""
    if request.config.getoption("--no-postgres"):
        pytest.skip("left out by --no-postgres")
    with LocalPostgres.start() as server:
        yield server


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """An open store on an empty database, with a few live workers."""
    opened = PostgresStore(postgres_url)
    await opened.open()
    for worker in ("w", "a", "b", "other", "zombie"):
        await opened.register(WorkerRow(id=worker), 60_000)
    yield opened
    await opened.close()


@pytest.fixture
async def direct(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection to the same database."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    """A way to the same database that can be cut."""
    async with Proxy(postgres_url) as between:
        yield between


@pytest.fixture
async def distant(proxy: Proxy, store: PostgresStore) -> AsyncIterator[PostgresStore]:
    """A store that reaches the database through the proxy; its schema is there already."""
    opened = PostgresStore(proxy.url)
    await opened.open()
    yield opened
    proxy.mend()
    await asyncio.wait_for(opened.close(), 20)


@pytest.fixture
def journals() -> Journals:
    """Journals to write and to check."""
    return Journals()
