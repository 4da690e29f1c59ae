"""The group commit: one connection, one statement, one answer per commit.

The statement is sent whole or not at all, so a lost connection leaves either everything or nothing; what became
of it is read back by chain before anyone is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres import faults
from tenuto.adapters.stores.postgres.batch import Batch, columns
from tenuto.adapters.stores.postgres.ledger import Ledger
from tenuto.adapters.stores.postgres.link import Connection, Link
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.errors import StatementRefused
from tenuto.ports.store import Commit, Committed

MAX_CREATES = 256
Key = tuple[str, str, str]
_OK = Committed("ok")
_APPLIED = Committed("ok", True)
_FENCED = Committed("fenced")
_MOVED = Committed("moved")


class Committer:
    """All appends of a process except takeovers, in the order they were asked for.

    Args:
        woke: Called after a commit that gives other processes something to do.
    """

    def __init__(self, link: Link, woke: Callable[[], None]) -> None:
        self._link = link
        self._woke = woke
        self._turn = asyncio.Lock()
        self._writer = 0
        self._n = 0
        self._waiting: list[tuple[Commit, Key | None, asyncio.Future[Committed]]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Make a group durable; one answer per commit, in order. Not undone by cancelling the caller."""
        if not batch:
            return []
        return await asyncio.shield(self._start(self._serve(batch, {})))

    async def create(self, commit: Commit, key: Key | None) -> Committed:
        """Commit a creation together with all others that wait; `fenced` also when the idempotency key is taken."""
        answer: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.append((commit, key, answer))
        if len(self._waiting) == 1:
            self._start(self._create_waiting())
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Finish what was accepted."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, batch: Sequence[Commit], keys: Mapping[str, Key]) -> list[Committed]:
        async with self._turn:
            return await self._send(batch, keys)

    async def _create_waiting(self) -> None:
        async with self._turn:
            while self._waiting:
                group, self._waiting = _creations(self._waiting)
                try:
                    keys = {commit.run_id: key for commit, key, _ in group if key is not None}
                    outcomes = await self._send([commit for commit, _, _ in group], keys)
                except Exception as error:  # noqa: BLE001 - it belongs to those who wait; the next group goes on
                    for _, _, answer in group:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, _, answer), outcome in zip(group, outcomes, strict=True):
                    if not answer.done():
                        answer.set_result(outcome)

    async def _send(self, commits: Sequence[Commit], keys: Mapping[str, Key]) -> list[Committed]:
        """Send a group; when the database refuses it, find the guilty commit by halving.

        Commits that ask for room among what many runs share go in a transaction of their own, after the others.
        """
        funded = [commit for commit in commits if commit.escrow is not None]
        if funded and len(funded) < len(commits):
            plain = [commit for commit in commits if commit.escrow is None]
            answers = {
                commit.run_id: answer
                for group in (plain, funded)
                for commit, answer in zip(group, await self._send(group, keys_of(group, keys)), strict=True)
            }
            return [answers[commit.run_id] for commit in commits]
        try:
            batch = Batch(commits, keys)
            if funded:
                return await self._link.call(_Funding(self, commits))
            return await self._link.call(_Sending(self, batch))
        except StatementRefused:
            raise  # no commit is guilty, and what is stopped for it would have to be resumed by hand
        except Exception as error:  # noqa: BLE001 - whatever one commit provokes must not reach its neighbours
            if len(commits) == 1:
                return [Committed("poison", error=f"{type(error).__name__}: {faults.describe(error)}")]
        half = len(commits) // 2
        return await self._send(commits[:half], keys_of(commits[:half], keys)) + await self._send(
            commits[half:], keys_of(commits[half:], keys)
        )

    async def number(self, connection: Connection) -> tuple[int, int]:
        """Return our writer and the number of the next group."""
        if not self._writer:
            self._writer = await connection.fetchval(SQL["writer"])
        return self._writer, self._n + 1

    def listed(self, batch: Batch) -> None:
        """Note that a group was stored under its number."""
        self._n += 1 if batch.has_records else 0
        if batch.wakes:
            self._woke()


class _Sending:
    """One group on its way: the same parameters however often it is sent."""

    def __init__(self, committer: Committer, batch: Batch) -> None:
        self._committer = committer
        self._batch = batch

    async def __call__(self, connection: Connection, again: bool) -> list[Committed]:
        batch = self._batch
        writer, n = await self._committer.number(connection) if batch.has_records else (0, 0)
        row = await connection.fetchrow(batch.statement, *batch.arguments(writer, n))
        if row["n_ok"] == batch.expected and row["n_applied"] == len(batch.changes):
            outcomes = _all_well(batch)
        else:
            outcomes = await _sort_out(connection, batch, row, again)
        self._committer.listed(batch)
        return outcomes


class _Funding:
    """Commits that ask for and settle what many runs share: in one transaction with the rows that say how much."""

    def __init__(self, committer: Committer, commits: Sequence[Commit]) -> None:
        self._committer = committer
        self._commits = commits

    async def __call__(self, connection: Connection, again: bool) -> list[Committed]:
        try:
            return await self._all(connection, self._commits, again)
        except _Apart:
            # One of them was not stored now, so what it asks for must not count: each goes alone.
            return [(await self._all(connection, [commit], again))[0] for commit in self._commits]

    async def _all(self, connection: Connection, commits: Sequence[Commit], again: bool) -> list[Committed]:
        answers: dict[str, Committed] = {}
        listed: Batch | None = None
        async with connection.transaction():
            ledger = await Ledger.opened(connection, commits)
            fit: list[Commit] = []
            noted: dict[str, tuple[Any, bool]] = {}
            for commit in commits:
                refusal = ledger.refusal(commit)
                if refusal is not None:
                    answers[commit.run_id] = refusal
                else:
                    fit.append(commit)
                    noted[commit.run_id] = ledger.enter(commit)
            if answers:
                # What was stored before counts already, and must not be refused for that.
                answers |= await _stored_before(connection, [c for c in commits if c.run_id in answers])
            if fit:
                batch = Batch(fit)
                writer, n = await self._committer.number(connection) if batch.has_records else (0, 0)
                row = await connection.fetchrow(batch.statement, *batch.arguments(writer, n))
                if row["n_ok"] != batch.expected:
                    if len(commits) > 1:
                        raise _Apart
                    return await _sort_out(connection, batch, row, again)
                applied = row["n_applied"] == len(batch.changes)
                found = _all_well(batch) if applied else await _sort_out(connection, batch, row, again)
                for commit, answer in zip(fit, found, strict=True):
                    warn, freed = noted[commit.run_id]
                    answers[commit.run_id] = msgspec.structs.replace(answer, warn=warn, freed=freed)
                await ledger.close(connection)
                listed = batch
        if listed is not None:
            self._committer.listed(listed)
        return [answers[commit.run_id] for commit in commits]


class _Apart(Exception):
    """One of several commits was not stored; they are to be sent one by one."""


def _all_well(batch: Batch) -> list[Committed]:
    return [_OK if commit.row is None else _APPLIED for commit in batch.commits]


async def _sort_out(connection: Connection, batch: Batch, row: Any, again: bool) -> list[Committed]:
    """Tell the fenced from those that were stored before, and see which row changes count."""
    everyone = [commit.run_id for commit in batch.commits]
    changed = [commit.run_id for commit in batch.changes]
    ok = set(everyone) if row["n_ok"] == batch.expected else {str(run) for run in row["ok"] or ()}
    applied = set(changed) if row["n_applied"] == len(changed) else {str(run) for run in row["applied"] or ()}
    missing = [commit for commit in batch.commits if commit.run_id not in ok]
    before = await _ours(connection, missing)
    unsure = [
        c
        for c in batch.changes
        if c.run_id not in applied and (c.run_id in before or (again and c.record is None))
    ]
    left = await _left(connection, unsure)
    ok |= before | left
    applied |= left
    moved = await _moved(connection, [commit for commit in missing if commit.run_id not in ok])
    return [
        _MOVED if commit.run_id in moved
        else _FENCED if commit.run_id not in ok
        else _APPLIED if commit.run_id in applied or (commit.new is not None and commit.row is not None)
        else _OK
        for commit in batch.commits
    ]  # fmt: skip


async def _stored_before(connection: Connection, commits: Sequence[Commit]) -> dict[str, Committed]:
    """Return the answers of those commits that an earlier try has stored: what they ask for counts already."""
    before = await _ours(connection, commits)
    stored = [commit for commit in commits if commit.run_id in before]
    left = await _left(connection, [commit for commit in stored if commit.row is not None])
    return {
        c.run_id: _APPLIED if c.run_id in left or (c.new is not None and c.row is not None) else _OK for c in stored
    }


async def _ours(connection: Connection, commits: Sequence[Commit]) -> set[str]:
    """Return the runs whose position holds our own record."""
    chains = {commit.run_id: commit.record.chain for commit in commits if commit.record is not None}
    if not chains:
        return set()
    seqs = [commit.record.seq for commit in commits if commit.record is not None]
    rows = await connection.fetch(SQL["chains"], list(chains), seqs)
    return {
        run for run, chain in ((str(row["run_id"]), row["chain"]) for row in rows) if chains.get(run) == chain
    }


async def _moved(connection: Connection, commits: Sequence[Commit]) -> set[str]:
    """Return the runs whose records were refused for a message alone."""
    timed = [
        (commit.run_id, commit.epoch, commit.record.seq, commit.inbox_seen)
        for commit in commits
        if commit.inbox_seen is not None and commit.record is not None and commit.new is None
    ]
    return {str(row["id"]) for row in await connection.fetch(SQL["moved"], *columns(timed, 4))} if timed else set()


async def _left(connection: Connection, commits: Sequence[Commit]) -> set[str]:
    """Return the runs that a change sent before took from us: parked, ended, or already another owner's."""
    epochs = {commit.run_id: commit.epoch for commit in commits}
    if not epochs:
        return set()
    rows = await connection.fetch(SQL["owners"], list(epochs))
    return {
        run for run, row in ((str(row["id"]), row) for row in rows)
        if row["epoch"] > epochs[run] or (row["epoch"] == epochs[run] and row["state"] != "owned")
    }  # fmt: skip


def keys_of(commits: Sequence[Commit], keys: Mapping[str, Key]) -> dict[str, Key]:
    """Return the idempotency keys of some commits."""
    return {commit.run_id: keys[commit.run_id] for commit in commits if commit.run_id in keys}


def _creations(
    waiting: list[tuple[Commit, Key | None, asyncio.Future[Committed]]],
) -> tuple[list[tuple[Commit, Key | None, asyncio.Future[Committed]]], list[Any]]:
    """Split what waits into one group, in which no run, idempotency key or business key occurs twice, and the rest.

    Keys are in order, so that two processes take the locks on them in the same order.
    """
    group: list[Any] = []
    rest: list[Any] = []
    seen: set[tuple[str, ...]] = set()
    for item in waiting:
        commit, key, _ = item
        marks: set[tuple[str, ...]] = {("run", commit.run_id)}
        if key is not None:
            marks.add(("key", *key[:2]))
        if commit.new is not None and commit.new.business_key is not None:
            marks.add(("business", commit.ns, commit.new.business_key))
        if len(group) < MAX_CREATES and not marks & seen:
            seen |= marks
            group.append(item)
        else:
            rest.append(item)
    group.sort(key=lambda item: item[1] or ("", "", ""))
    return group, rest
