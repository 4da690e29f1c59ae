"""The storage's own limit: the least a Python engine can do and keep the promise. Not an engine.

Every step is committed before the next one of its run, by one writer that commits whatever waits at once.
There are no leases, no recovery, no records beyond the output: nothing beats it by much on the same store.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from bench.measure import StepClock
from bench.peer import STATE, Peer, Stage, drive

AT_A_TIME = 1_000
CLAIM = 500

encode = msgspec.json.Encoder().encode
Row = tuple[str, int, bytes]


class Writer:
    """Group commit: `put` returns once the row's transaction is durable."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._commit_for_ever())

    def put(self, run: str, n: int, out: bytes) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((run, n, out), future))
        self._wake.set()
        return future

    async def _commit_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            await self.commit([row for row, _ in batch])
            for _, future in batch:
                future.set_result(None)

    async def commit(self, rows: list[Row]) -> None:
        raise NotImplementedError

    async def leave(self, n: int) -> None:
        """Put n runs in the store that nobody has claimed."""
        raise NotImplementedError

    async def claim(self, most: int) -> list[str]:
        raise NotImplementedError


class PostgresWriter(Writer):
    async def open(self, url: str) -> PostgresWriter:
        import asyncpg

        self._claims = await asyncpg.connect(url)
        self._connection = await asyncpg.connect(url)
        await self._connection.execute("CREATE TABLE step (run text, n int, out bytea, PRIMARY KEY (run, n))")
        await self._connection.execute("CREATE TABLE run (id text PRIMARY KEY, owner text)")
        await self._connection.execute("CREATE INDEX ready ON run (id) WHERE owner IS NULL")
        sql = "INSERT INTO step SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[])"
        self._insert = await self._connection.prepare(sql)
        return self

    async def commit(self, rows: list[Row]) -> None:
        runs, ns, outs = zip(*rows, strict=True)
        await self._insert.fetch(runs, ns, outs)

    async def leave(self, n: int) -> None:
        await self._claims.execute(
            "INSERT INTO run SELECT 'cold-' || i FROM generate_series(1, $1::int) i", n
        )

    async def claim(self, most: int) -> list[str]:
        rows = await self._claims.fetch(
            "UPDATE run SET owner = 'me' WHERE id IN (SELECT id FROM run WHERE owner IS NULL ORDER BY id"
            " LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id",
            most,
        )
        return [row[0] for row in rows]


class SqliteWriter(Writer):
    async def open(self, path: str) -> SqliteWriter:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE step (run TEXT, n INT, out BLOB, PRIMARY KEY (run, n)) WITHOUT ROWID",
            "CREATE TABLE run (id TEXT PRIMARY KEY, owner TEXT)",
            "CREATE INDEX ready ON run (id) WHERE owner IS NULL",
        ):
            self._connection.execute(statement)
        self._turn = asyncio.Lock()
        return self

    async def _in_transaction(self, work: Callable[[], Any]) -> Any:
        def transaction() -> Any:
            self._connection.execute("BEGIN IMMEDIATE")
            answer = work()
            self._connection.execute("COMMIT")
            return answer

        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(None, transaction)

    async def commit(self, rows: list[Row]) -> None:
        await self._in_transaction(
            lambda: self._connection.executemany("INSERT INTO step VALUES (?, ?, ?)", rows)
        )

    async def leave(self, n: int) -> None:
        names = [(f"cold-{i}", None) for i in range(n)]
        await self._in_transaction(
            lambda: self._connection.executemany("INSERT INTO run VALUES (?, ?)", names)
        )

    async def claim(self, most: int) -> list[str]:
        sql = (
            "UPDATE run SET owner = 'me' WHERE id IN (SELECT id FROM run WHERE owner IS NULL LIMIT ?)"
            " RETURNING id"
        )
        rows = await self._in_transaction(lambda: self._connection.execute(sql, (most,)).fetchall())
        return [row[0] for row in rows]


class Probe(Peer):
    uses_uvloop = True
    warm_up_chains = 200

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.settings = {"at_a_time": AT_A_TIME}
        self._names = itertools.count()
        self._parked: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        if self.stage.store == "pg":
            self._writer: Writer = await PostgresWriter().open(self.stage.url)
        else:
            self._writer = await SqliteWriter().open(str(self.stage.place))

    async def _step(self, i: int, clock: StepClock) -> dict[str, int]:
        clock.tick()
        return {"n": i}

    async def _run(self, run: str, steps: int, clock: StepClock) -> None:
        await self._writer.put(run, -1, b"start")
        for i in range(steps):
            await self._writer.put(run, i, encode(await self._step(i, clock)))
        await self._writer.put(run, steps, b"done")

    async def chains(self, n: int) -> None:
        await drive(n, AT_A_TIME, lambda i: self._run(f"run-{next(self._names)}", 3, StepClock()))

    async def chain(self, steps: int) -> StepClock:
        clock = self.clock()
        await self._run(f"run-{next(self._names)}", steps, clock)
        return clock

    async def fan(self, width: int) -> None:
        async def one(i: int) -> None:
            await self._writer.put("fan", i, encode(await self._step(i, unused)))

        unused = self.clock()
        await asyncio.gather(*(asyncio.ensure_future(one(i)) for i in range(width)))

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        clock, state = self.clock(sample_every), STATE
        for i in range(steps):
            clock.tick()
            state = {**state, "n": state["n"] + 1}
            await self._writer.put("grow", i, encode(state))
        clock.sample()
        return clock

    async def park(self, n: int) -> None:
        waiting = asyncio.Semaphore(0)

        async def one(i: int) -> None:
            await self._writer.put(f"parked-{i}", -1, b"start")
            waiting.release()
            await asyncio.get_running_loop().create_future()

        first = len(self._parked)
        self._parked += [asyncio.ensure_future(one(first + i)) for i in range(n)]
        for _ in range(n):
            await waiting.acquire()

    async def enqueue(self, n: int) -> None:
        await self._writer.leave(n)

    async def drain(self, n: int) -> None:
        unused = StepClock()
        working: list[asyncio.Future[Any]] = []
        while runs := await self._writer.claim(CLAIM):
            working.append(asyncio.gather(*(self._run(run, 3, unused) for run in runs)))
            if len(working) * CLAIM >= AT_A_TIME:
                await working.pop(0)
        await asyncio.gather(*working)


PEER = Probe
