"""The one thread that writes: whatever waits while a transaction is under way shares the next one.

A transaction is stored wholly or not at all. When its end gets lost (the disk fails under COMMIT), a row that only
this transaction writes tells which, so nothing is ever done twice and nobody is told what did not happen.
"""

from __future__ import annotations

import asyncio
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.connection import Connect, code_of, data_version, is_broken, outage
from tenuto.adapters.stores.sqlite.transaction import Answer, NeedsCare, Op, Owners, Tx, alone
from tenuto.errors import Corrupt, Unavailable

T = TypeVar("T")
JOBS = 64
QUIET_S = 1.0
PATIENCE_S = 2.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_LONGEST_SPIN_S = 0.005


class _Job:
    __slots__ = ("future", "loop", "op")

    def __init__(self, op: Op | None, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self.op = op
        self.loop = loop
        self.future = future


class Writer:
    """The write connection and its thread.

    Args:
        woke: Called in the caller's loop after a transaction that gives somebody something to do.
    """

    def __init__(self, connect: Connect, clock: Callable[[], int], woke: Callable[[], None]) -> None:
        self._connect = connect
        self._clock = clock
        self._woke = woke
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._db: sqlite3.Connection | None = None
        self._owners = Owners()
        self._writer = 0
        self._n = 0
        self._tx = 0
        self._unsettled = False
        self._worked_at = 0.0
        self._closing = False
        self.trouble = ""
        self._thread = threading.Thread(target=self._loop, name="tenuto-sqlite-writer", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    async def stop(self) -> None:
        """Finish what was accepted and release the connection; an outage ends the wait, not the work's atomicity."""
        self._closing = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def run(self, op: Callable[[Tx], T]) -> T:
        """Run `op` in a transaction and return its result once that is durable. `op` may be run more than once."""
        return await self._submit(op)

    async def foreign_version(self) -> int:
        """Return a number that changes when another process has committed."""
        return await self._submit(None)

    def _submit(self, op: Op | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.put(_Job(op, loop, future))
        return future

    # --- the thread -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            jobs = self._gather()
            if jobs is None:
                break
            looks = [job for job in jobs if job.op is None]
            work = [job for job in jobs if job.op is not None]
            if looks:
                _answer([(job, answer) for job in looks for answer in [self._look()]])
            if work:
                self._serve(work)
                self._worked_at = time.monotonic()
            elif self._unsettled and time.monotonic() - self._worked_at > QUIET_S:
                self._settle()
        self._settle()
        if self._db is not None:
            self._db.close()

    def _gather(self) -> list[_Job] | None:
        while True:
            try:
                job = self._queue.get(timeout=QUIET_S) if self._unsettled else self._queue.get()
                break
            except queue.Empty:
                self._settle()
        if job is None:
            return None
        jobs = [job]
        while len(jobs) < JOBS and not self._queue.empty():
            job = self._queue.get()
            if job is None:
                self._queue.put(None)
                break
            jobs.append(job)
        return jobs

    def _look(self) -> Answer:
        try:
            return data_version(self._connected()), None
        except sqlite3.Error:
            return random.getrandbits(62), None  # a hint only: better to look once too often

    def _settle(self) -> None:
        """Move the log into the file in a quiet moment, unless somebody reads from it."""
        self._unsettled = False
        if self._db is not None:
            try:
                sql.first(self._db, "checkpoint")
            except sqlite3.Error:
                self._unsettled = not self._closing

    def _serve(self, jobs: list[_Job]) -> None:
        """Store the jobs' work, however long the database is away."""
        careful, pause = False, _FIRST_PAUSE_S
        while True:
            try:
                tx, answers = self._attempt(jobs, careful)
                break
            except NeedsCare:
                careful = True
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a job provokes
                reason = outage(error)
                if self._closing and reason:
                    reason, error = "", Unavailable(f"the database did not come back before the end: {error}")
                if not reason:
                    self._drop()
                    if is_broken(error):
                        self.trouble = f"the database file is damaged ({error})"
                        error = Corrupt(f"the database file is damaged: {error}")
                    _answer([(job, (None, error)) for job in jobs])
                    return
                self.trouble = reason
                self._drop()
                time.sleep(pause * (0.5 + random.random() / 2))
                pause = min(pause * 2, _LONGEST_PAUSE_S)
        self.trouble = ""
        _answer(list(zip(jobs, answers, strict=True)), self._woke if tx.woke else None)

    def _attempt(self, jobs: list[_Job], careful: bool) -> tuple[Tx, list[Answer]]:
        db = self._connected()
        self._ensure_number(db)
        self._begin(db)
        ending = False
        before = db.total_changes
        tx = Tx(db, self._clock(), self._owners, careful)
        try:
            self._owners.refresh(db)
            answers = _run(tx, jobs)
            if db.total_changes == before:
                db.execute("rollback")
                return tx, answers
            self._prove(tx)
            ending = True
            db.execute("commit")
        except BaseException as error:
            self._owners.clear()
            if ending and self._was_stored(tx):
                self._count(tx)
                return tx, answers  # pyright: ignore[reportPossiblyUnboundVariable]
            if not outage(error):
                _roll_back(db)
            raise
        self._count(tx)
        self._unsettled = True
        return tx, answers

    def _begin(self, db: sqlite3.Connection) -> None:
        """Wait for the write lock; short naps keep processes that share the file from starving each other."""
        nap, since = 0.0002, time.monotonic()
        while True:
            try:
                sql.change(db, "begin")
                return
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() - since > PATIENCE_S:
                    if self._closing:
                        raise
                    self.trouble = outage(error)
                time.sleep(nap * (0.5 + random.random()))
                nap = min(nap * 1.5, _LONGEST_SPIN_S)

    def _ensure_number(self, db: sqlite3.Connection) -> None:
        if not self._writer:
            self._begin(db)
            try:
                number = db.execute(sql.SQL["writer_add"], (self._clock(),)).lastrowid
                db.execute("commit")
            except BaseException:
                _roll_back(db)
                raise
            self._writer, self._n, self._tx = number or 0, 0, 0

    def _prove(self, tx: Tx) -> None:
        if tx.packed:
            sql.change(tx.db, "batch_add", self._writer, self._n + 1, b"".join(tx.packed))
        else:
            sql.change(tx.db, "writer_tx", self._writer, self._tx + 1)

    def _was_stored(self, tx: Tx) -> bool:
        """Find out, on a new connection, whether a transaction whose end got lost was stored; asks until it knows."""
        while True:
            self._drop()
            try:
                if tx.packed:
                    found = sql.first(self._connected(), "batch_proof", self._writer, self._n + 1)
                else:
                    found = sql.first(self._connected(), "writer_proof", self._writer, self._tx + 1)
                return found is not None
            except sqlite3.Error as error:
                self.trouble = outage(error) or str(error)
                if self._closing or is_broken(error):
                    raise
                time.sleep(_LONGEST_PAUSE_S / 4)

    def _count(self, tx: Tx) -> None:
        if tx.packed:
            self._n += 1
        else:
            self._tx += 1

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._connect()
            self._db.execute("pragma busy_timeout = 0")
            self._owners.clear()
            self._owners.version = -1
        return self._db

    def _drop(self) -> None:
        """Close the connection, which undoes what it has not committed."""
        db, self._db = self._db, None
        if db is not None:
            _roll_back(db)
            try:
                db.close()
            except sqlite3.Error:
                pass


def _run(tx: Tx, jobs: list[_Job]) -> list[Answer]:
    if not tx.careful:
        try:
            return [(job.op(tx), None) for job in jobs if job.op is not None]
        except Exception as error:
            if isinstance(error, NeedsCare) or outage(error) or is_broken(error):
                raise
            raise NeedsCare from error
    return [alone(tx, job.op) for job in jobs if job.op is not None]


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        if db.in_transaction:
            db.execute("rollback")
    except sqlite3.Error:
        pass


def _answer(answers: list[tuple[_Job, Answer]], woke: Callable[[], None] | None = None) -> None:
    """Hand results to the loops that wait for them; one wake-up for each loop."""
    loops = {id(job.loop): job.loop for job, _ in answers}
    for loop in loops.values():
        mine = [(job.future, answer) for job, answer in answers if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve, mine, woke)
        except RuntimeError:
            pass  # the loop has ended and nobody waits any more


def _resolve(answers: list[tuple[asyncio.Future[Any], Answer]], woke: Callable[[], None] | None) -> None:
    for future, (result, error) in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    if woke is not None:
        woke()
