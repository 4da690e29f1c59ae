"""Statements the database refuses whoever sends them: told at once, blamed on no run, and real outages still waited out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from postgres_journals import Journals

from tenuto import App
from tenuto.adapters.stores.postgres import PostgresStore, faults
from tenuto.domain.runs import wire
from tenuto.errors import StatementRefused, TenutoError
from tenuto.wiring import running

pytestmark = pytest.mark.postgres


@asynccontextmanager
async def without(direct: asyncpg.Connection, table: str) -> AsyncGenerator[None]:
    """Take a table away for as long as the block lasts."""
    await direct.execute(f"alter table {table} rename to {table}_elsewhere")
    try:
        yield
    finally:
        await direct.execute(f"alter table {table}_elsewhere rename to {table}")


async def test_a_missing_table_is_told_at_once_and_no_run_is_blamed(
    store: PostgresStore, direct: asyncpg.Connection, journals: Journals
):
    """Reads and commits fail with one clear sentence; once the table is back, the very same commits stand."""
    await store.commit([journals.create(), journals.create()])
    runs = list(journals.seqs)
    await store.claim("w", 2)
    batch = [journals.append(run) for run in runs]
    async with asyncio.timeout(10):
        async with without(direct, "rec"):
            for refused in (store.commit(batch), store.records(runs[0]), store.create_once(Journals().create(), "k", "d")):
                with pytest.raises(StatementRefused, match=r'PostgreSQL at .* \(42P01\): relation "rec" does not exist'):
                    await refused
            assert store.health() == "", "this is no outage"
            assert await store.get_run(runs[0]) is not None
        assert [answer.outcome for answer in await store.commit(batch)] == ["ok", "ok"]
    for run in runs:
        assert wire.verify(run, wire.ZERO, await store.records(run)) == journals.chains[run]


async def test_a_missing_column_is_told_by_its_name(store: PostgresStore, direct: asyncpg.Connection):
    await direct.execute("alter table run rename column goal to aim")
    with pytest.raises(StatementRefused, match=r"\(42703\): column .*goal.* does not exist; .*tenuto doctor"):
        async with asyncio.timeout(10):
            await store.get_run("0192d2c8-0000-7000-8000-000000000000")


async def test_a_user_without_rights_is_told_when_the_store_is_opened(direct: asyncpg.Connection, postgres_url: str):
    """A user who may log in but make nothing does not wait for ever for what no one grants."""
    user = await direct.fetchval("select 'tenuto_guest_' || pg_backend_pid()")
    await direct.execute(f"create role {user} login password 'guest'")
    at = urlsplit(postgres_url)
    guest = PostgresStore(urlunsplit(at._replace(netloc=f"{user}:guest@{at.netloc.rpartition('@')[2]}")))
    try:
        with pytest.raises(StatementRefused, match=r"\(42501\): permission denied .*; grant the database's user"):
            async with asyncio.timeout(10):
                await guest.open()
    finally:
        await direct.execute(f"drop owned by {user}")
        await direct.execute(f"drop role {user}")


async def test_an_engine_says_so_and_goes_on_afterwards(postgres_url: str, direct: asyncpg.Connection):
    """Whoever starts a run is told why it was not stored; runs on their way are neither failed nor halted by it."""
    app = App("t")
    app.workflow("w").wait_signal("go")
    async with running(postgres_url, app.catalog()) as runtime:
        engine = runtime.engine
        waiting = (await engine.runs.start("w", {})).id
        async for event in engine.history.stream(waiting):
            if event.type == "step.waiting":
                break
        async with asyncio.timeout(10):
            async with without(direct, "rec"):
                with pytest.raises(TenutoError, match='relation "rec" does not exist') as told:
                    await engine.runs.start("w", {})
                assert told.value.reason == "store.statement"
            await engine.runs.signal(waiting, "go", 1)
            assert (await engine.runs.result(waiting)).status == "completed"
            assert (await engine.tickets.list()).items == []


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (asyncpg.PostgresSyntaxError, "broken"), (asyncpg.UndefinedTableError, "broken"),
        (asyncpg.UndefinedColumnError, "broken"), (asyncpg.DatatypeMismatchError, "broken"),
        (asyncpg.DuplicatePreparedStatementError, "outage"), (asyncpg.ConnectionDoesNotExistError, "outage"),
        (asyncpg.AdminShutdownError, "outage"), (asyncpg.CannotConnectNowError, "outage"),
        (asyncpg.TooManyConnectionsError, "outage"), (asyncpg.DiskFullError, "outage"),
        (asyncpg.QueryCanceledError, "again"), (asyncpg.NotNullViolationError, "refused"),
    ],
)  # fmt: skip
def test_what_waiting_can_mend_is_waited_out(error: type[asyncpg.PostgresError], fault: str):
    assert faults.classify(error("x")) == fault
