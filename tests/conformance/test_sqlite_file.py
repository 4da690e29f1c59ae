"""What only the SQLite store has to prove: the file, other processes, a disk that fails."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenuto.adapters.stores.sqlite import SqliteStore, sql
from tenuto.adapters.stores.sqlite import connection as connections
from tenuto.domain.runs import wire
from tenuto.domain.runs.check import check_run
from tenuto.errors import Corrupt, InvalidSettings
from tenuto.ports.store import WorkerRow
from tenuto.testing.conformance import kit

PROCESS = """
import asyncio, sys
from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.testing.conformance import kit

async def main(path, worker):
    store = SqliteStore(path)
    await store.open()
    await kit.enlist(store, worker)
    done = 0
    while claims := await store.claim(worker, 3):
        for claim in claims:
            journal = kit.Journal(run_id=claim.run_id)
            journal.epoch = claim.epoch
            await journal.catch_up(store)
            for _ in range(5):
                assert (await journal.write(store)).outcome == "ok"
            assert (await journal.write(store, journal.change("done"))).row_applied
            done += 1
    await store.close()
    print(done)

asyncio.run(main(*sys.argv[1:]))
"""


class Disk:
    """A disk that can be told to fail: each failure is an error code and the statement that meets it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures: list[tuple[str, str, bool]] = []
        self.met = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def fail(self, statement: str, times: int = 1, *, name: str = "SQLITE_IOERR", after: bool = False) -> None:
        """Let the next statements that begin so fail, before or after they are carried out."""
        self.failures += [(statement, name, after)] * times

    def connect(self) -> sqlite3.Connection:
        """Return a connection through this disk."""
        return FailingConnection(connections.connect(self.path), self)  # type: ignore[return-value]


class FailingConnection:
    """A connection that raises what its disk planned."""

    def __init__(self, db: sqlite3.Connection, disk: Disk) -> None:
        self._db = db
        self._disk = disk

    def execute(self, text: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a statement, or fail."""
        disk = self._disk
        planned = disk.failures[0] if disk.failures and text.startswith(disk.failures[0][0]) else None
        if planned is None:
            return self._db.execute(text, values)
        disk.failures.pop(0)
        if planned[2]:
            self._db.execute(text, values)
        disk.loop.call_soon_threadsafe(disk.met.set)
        error = sqlite3.OperationalError("planned")
        error.sqlite_errorcode = getattr(sqlite3, planned[1])
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@asynccontextmanager
async def opened(path: Path, connect: Callable[[], sqlite3.Connection] | None = None) -> AsyncIterator[SqliteStore]:
    """An open store on a file."""
    store = SqliteStore(path, connect=connect)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """The folder is made; the file and its log can be read by nobody else."""
    path = tmp_path / "a" / "b" / "runs.db"
    async with opened(path) as store:
        await kit.created(store)
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
        assert modes["runs.db"] == modes["runs.db-wal"] == 0o600
        assert store.url == f"sqlite:///{path}"
        stats = await store.stats()
        assert (stats["journal_mode"], stats["synchronous"]) == ("wal", "full")


async def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    """Every write goes through a connection that syncs each commit."""
    db = connections.connect(tmp_path / "x.db")
    assert db.execute("pragma synchronous").fetchone() == (2,)
    db.close()


async def test_many_processes_may_open_at_once(tmp_path: Path) -> None:
    """A new file gets its schema once, whoever comes first."""
    stores = [SqliteStore(tmp_path / "runs.db") for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert all(applied for _, applied in await store.migrations())
        await store.close()


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """Three processes work off one queue: every run ends once, every journal is whole."""
    path = tmp_path / "runs.db"
    async with opened(path) as store:
        journals = [kit.Journal() for _ in range(60)]
        await store.commit([journal.creation() for journal in journals])
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROCESS, str(path), f"p{n}", stdout=asyncio.subprocess.PIPE
            )
            for n in range(3)
        ]
        outputs = [(await process.communicate())[0] for process in processes]
        assert sum(map(int, outputs)) == len(journals)
        assert await store.count_runs("default") == {"completed": len(journals)}
        for journal in journals:
            records = await store.records(journal.id)
            wire.verify(journal.id, wire.ZERO, records)
            assert len(records) == 7
        listed = [place for group in await store.tail({}) for place in group.runs]
        assert sorted(listed) == sorted((j.id, n) for j in journals for n in range(1, 8))


async def test_a_held_lock_is_waited_for(tmp_path: Path) -> None:
    """While another process holds the write lock, reads go on, writes wait, and health says why."""
    path = tmp_path / "runs.db"
    async with opened(path) as store:
        journal = await kit.created(store)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        writing = asyncio.create_task(journal.write(store))
        async with asyncio.timeout(30):
            while not store.health():
                assert len(await store.records(journal.id)) == 1
        assert "another process holds the database" in store.health()
        assert not writing.done()
        other.execute("rollback")
        other.close()
        assert (await writing).outcome == "ok"
        assert store.health() == ""


async def test_a_full_disk_acknowledges_nothing(tmp_path: Path) -> None:
    """A commit waits until there is room, and is stored once."""
    path = tmp_path / "runs.db"
    disk = Disk(path)
    async with opened(path, disk.connect) as store:
        journal = await kit.created(store)
        disk.fail("insert into rec", 3, name="SQLITE_FULL")
        writing = asyncio.create_task(journal.write(store))
        await disk.met.wait()
        while not store.health():
            await asyncio.sleep(0)
        assert not writing.done()
        assert "the disk is full" in store.health()
        assert (await writing).outcome == "ok"
        assert store.health() == ""
        assert len(await store.records(journal.id)) == 2


@pytest.mark.parametrize("stored", [False, True], ids=["lost", "stored"])
async def test_a_commit_whose_end_got_lost_is_read_back(tmp_path: Path, stored: bool) -> None:
    """The disk fails under COMMIT, which happened or not: the answer is true and nothing is done twice."""
    path = tmp_path / "runs.db"
    disk = Disk(path)
    async with opened(path, disk.connect) as store:
        journals = [await kit.created(store) for _ in range(3)]
        zombie = journals[0].twin()
        await journals[0].write(store)
        disk.fail("commit", after=stored)
        answers = await store.commit([zombie.next(t=9), journals[1].next(), journals[2].next()])
        assert disk.failures == []
        assert [answer.outcome for answer in answers] == ["fenced", "ok", "ok"]
        disk.fail("commit", after=stored)
        assert await store.send(journals[1].id, "k", b"{}") == "accepted"
        await store.register(WorkerRow(id="w"), kit.LONG_MS)
        disk.fail("commit", after=stored)
        claims = await store.claim("w", 10)
        assert sorted(claim.run_id for claim in claims) == sorted(journal.id for journal in journals)
        assert {claim.epoch for claim in claims} == {1}
        assert len(await store.inbox(journals[1].id)) == 1
        groups = await store.tail({})
        assert [group.n for group in groups] == list(range(1, len(groups) + 1))


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Opening says which file and why, at once."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(InvalidSettings, match=r"notes\.txt"):
        await SqliteStore(path).open()


async def test_an_old_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both versions and the way out."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(InvalidSettings, match=r"3\.35\.0 or newer.*postgresql://"):
        await SqliteStore(tmp_path / "x.db").open()


async def test_using_a_closed_store_is_a_mistake(tmp_path: Path) -> None:
    """Before `open` and after `close`, methods say what to do; closing finishes what was accepted."""
    store = SqliteStore(tmp_path / "x.db")
    with pytest.raises(RuntimeError, match=r"call open\(\) first"):
        await store.get_run(kit.new_id())
    await store.open()
    journal = kit.Journal()
    committing = asyncio.create_task(store.commit([journal.creation()]))
    await asyncio.sleep(0)
    await store.close()
    assert (await committing)[0].outcome == "ok"
    assert store.health() == "the store is not open"
    assert not os.path.exists(tmp_path / "x.db-wal") or os.path.getsize(tmp_path / "x.db-wal") == 0


HOT = ("claimable", "stealable", "poll", "poll_inbox", "records", "head", "run_list", "ticket_list", "inbox", "tail")
OBSERVED = ("observed_runs", "observed_steps", "observed_costs", "ended_since", "proposal_known", "proposal_list")
HOT_BULK = ("run_change", "claim", "valid", "inbox_eat", "step_put")
LARGE = {"run", "r", "rec", "ticket", "inbox", "i", "batch", "b", "step_view", "s", "usage", "proposal"}


@pytest.mark.parametrize("name", [*HOT, *HOT_BULK, *OBSERVED])
async def test_hot_statements_use_an_index(tmp_path: Path, name: str) -> None:
    """No claim, takeover, change of ownership, page or statistic reads a whole table."""
    async with opened(tmp_path / "x.db"):
        db = connections.connect_reader(tmp_path / "x.db")
        text = re.sub(r"\{rows (\d+)\}", lambda n: "(" + ",".join("?" * int(n[1])) + ")", sql.SQL[name])
        numbered = [int(n) for n in re.findall(r"\?(\d+)", text)]
        values = [None] * (max(numbered) if numbered else text.count("?"))
        plan = [row[3] for row in db.execute("explain query plan " + text, values)]
        db.close()
        assert plan
        for step in plan:
            words = step.split()
            assert words[0] != "SCAN" or words[1] not in LARGE or "USING" in words, plan


async def test_a_body_of_another_type_is_found_out(tmp_path: Path) -> None:
    """A tampered record may hold text, a number or nothing: its chain tells, and nothing raises."""
    path = tmp_path / "runs.db"
    store = SqliteStore(path)
    await store.open()
    try:
        for altered in ("'{}'", "7", "1.5"):
            journal = await kit.created(store)
            with sqlite3.connect(path) as db:
                db.execute(f"update rec set body = {altered} where run_id = ?", (bytes.fromhex(journal.id.replace("-", "")),))
            records = await store.records(journal.id)
            with pytest.raises(Corrupt, match="altered"):
                wire.verify(journal.id, wire.ZERO, records)
            found = check_run(journal.id, records, {}.__getitem__)
            assert found[0].rule == "I1.chain"
    finally:
        await store.close()
