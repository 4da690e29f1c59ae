"""The packaged PostgreSQL: private, durable by default, gone when its owner is gone."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenuto.bundled.postgres import LocalPostgres, LocalPostgresError

pytestmark = pytest.mark.postgres


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder every account may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="tenuto-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def ask(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_listens_on_loopback_only_with_default_durability(postgres_url: str) -> None:
    """A new server commits to disk and is not open to the network or to a socket file."""
    query = "select array(select current_setting(s) from unnest(array['fsync', 'synchronous_commit', "
    query += "'listen_addresses', 'unix_socket_directories']) s)"
    assert await ask(postgres_url, query) == ["on", "on", "127.0.0.1", ""]


async def test_refuses_a_caller_without_the_password(postgres_server: LocalPostgres) -> None:
    """Other users of the machine cannot get in."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_server.url(), password="guess")


def test_never_runs_as_root(postgres_server: LocalPostgres) -> None:
    """The server's process belongs to an ordinary account."""
    assert Path(f"/proc/{postgres_server.pid}").stat().st_uid != 0


async def test_each_database_is_empty_and_a_template_copies_one(postgres_server: LocalPostgres) -> None:
    """Databases are apart, and one made from another holds its tables."""
    source = postgres_server.create_database('odd "name"/ü')
    assert await ask(source, "create table t as select 7 as n; ") is None
    copy = postgres_server.create_database(template='odd "name"/ü')
    other = postgres_server.create_database()
    assert await ask(copy, "select n from t") == 7
    assert await ask(other, "select to_regclass('t')") is None
    for url in (source, copy, other):
        postgres_server.drop_database(url)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await ask(copy, "select 1")


async def test_dropping_throws_out_who_is_connected(postgres_server: LocalPostgres) -> None:
    """A test that leaks a connection cannot block the clean-up."""
    url = postgres_server.create_database()
    connection = await asyncpg.connect(url)
    await asyncio.to_thread(postgres_server.drop_database, url)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        await connection.fetchval("select 1")
    connection.terminate()


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_restart_keeps_address_and_committed_data(mode: Any) -> None:
    """After a restart, crash-like or not, the same URL finds what was committed."""
    with LocalPostgres.start() as server:
        url, pid = server.create_database(), server.pid
        await ask(url, "create table t as select 7 as n")
        await asyncio.to_thread(server.restart, mode)
        assert server.pid != pid
        assert await ask(url, "select n from t") == 7


async def test_a_data_folder_outlives_its_server(open_folder: Path) -> None:
    """A second start over the same folder finds the data, and the folder is not removed."""
    home = open_folder / "kept"
    with LocalPostgres.start(home) as server:
        await ask(server.create_database("mine"), "create table t as select 7 as n")
    with LocalPostgres.start(home, options={"work_mem": "7MB"}) as server:
        assert await ask(server.url("mine"), "select n from t") == 7
        assert await ask(server.url(), "show work_mem") == "7MB"
        with pytest.raises(LocalPostgresError, match=r"lock file .* already exists"):
            LocalPostgres.start(home)
        assert await ask(server.url("mine"), "select n from t") == 7
    assert home.exists()


def test_stop_ends_the_process_and_removes_the_temporary_folder() -> None:
    """Nothing is left, and stopping again or asking for the process is harmless and clear."""
    server = LocalPostgres.start()
    pid, home = server.pid, server.home
    server.stop()
    server.stop()
    assert not home.exists()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(LocalPostgresError, match="is stopped"):
        _ = server.pid


def test_several_start_at_once() -> None:
    """Parallel test processes do not fight over ports or folders."""
    with ThreadPoolExecutor(3) as pool:
        servers = list(pool.map(lambda _: LocalPostgres.start(), range(3)))
    try:
        assert len({server.port for server in servers}) == 3
    finally:
        for server in servers:
            server.stop()


def test_a_failed_start_shows_the_servers_log(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason PostgreSQL gave is in the error, and no folder is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    with pytest.raises(LocalPostgresError, match='unrecognized configuration parameter "no_such_setting"'):
        LocalPostgres.start(options={"no_such_setting": "1"})
    assert not list(open_folder.iterdir())


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out is in the message."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LocalPostgresError, match=r"tenuto\[local-postgres\]"):
        LocalPostgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_root_is_told_about_a_folder_the_server_cannot_reach(tmp_path: Path) -> None:
    """A private parent folder is named rather than left to PostgreSQL's own message."""
    tmp_path.chmod(0o700)
    with pytest.raises(LocalPostgresError, match="cannot reach"):
        LocalPostgres.start(tmp_path / "data")


def test_a_killed_owner_takes_the_server_along() -> None:
    """SIGKILL of the starting process leaves no server behind."""
    program = (
        "from tenuto.bundled.postgres import LocalPostgres; s = LocalPostgres.start(); "
        "print(s.pid, s.home, flush=True); import signal; signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, home = owner.stdout.readline().split()
        watch = os.pidfd_open(int(pid))
        owner.kill()
    try:
        assert select.select([watch], [], [], 30)[0], "the server outlived its owner"
    finally:
        os.close(watch)
        shutil.rmtree(home, ignore_errors=True)
