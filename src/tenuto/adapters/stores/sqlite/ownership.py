"""Workers, leases, and who may move a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.sqlite import rows, sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.domain.runs import wire
from tenuto.domain.runs.takeover import MakeRecord, Taken, lease_taken
from tenuto.ports.store import Claim, Poll, TaskRow, WorkerRow

MAX_CLAIMS = 256


_json = msgspec.json.encode


class Ownership(Part):
    """The ownership side of the store."""

    make_taken: MakeRecord = staticmethod(lease_taken)

    async def register(self, worker: WorkerRow, lease_ms: int) -> int:
        """Announce a worker with a lease from now; return the store's clock."""

        def put(tx: Tx) -> int:
            sql.change(
                tx.db, "worker_put", worker.id, worker.host, worker.pid, tx.now + lease_ms,
                worker.started_at or tx.now, worker.manifest,
            )  # fmt: skip
            return tx.now

        return await self.parts.writer.run(put)

    async def heartbeat(self, worker: str, lease_ms: int) -> int | None:
        """Extend an unexpired lease; return the store's clock, or `None` when the lease has ended or is gone."""

        def beat(tx: Tx) -> int | None:
            return tx.now if sql.change(tx.db, "heartbeat", worker, tx.now, tx.now + lease_ms) else None

        return await self.parts.writer.run(beat)

    async def unregister(self, worker: str) -> None:
        """Remove a worker; runs it still owns become stealable at once."""

        def remove(tx: Tx) -> None:
            tx.woke = sql.change(tx.db, "worker_remove", worker) > 0 or tx.woke

        await self.parts.writer.run(remove)

    async def workers(self) -> list[WorkerRow]:
        """Return all workers with their leases."""
        return [rows.worker(row) for row in await self.parts.readers.rows("worker_list")]

    async def adopt(self, worker: str, dead: str) -> int:
        """End a worker's lease at once because its process is known to be dead; return how many runs it owns."""

        def end(tx: Tx) -> int:
            tx.woke = sql.change(tx.db, "worker_end", dead) > 0 or tx.woke
            return sql.first(tx.db, "owned_count", dead)[0]

        return await self.parts.writer.run(end)

    async def claim(self, worker: str, limit: int, exclude: Sequence[str] = ()) -> list[Claim]:
        """Take up to `limit` ready or due runs, in the order they should go on. Each goes to exactly one claimer."""
        wanted = min(limit, MAX_CLAIMS)
        if wanted <= 0:
            return []
        excluded = _json(list(exclude)).decode()

        def take(tx: Tx) -> list[Claim]:
            if sql.first(tx.db, "alive", worker, tx.now) is None:
                return []
            found = sql.rows(tx.db, "claimable", tx.now, excluded, wanted)
            flat: list[Any] = []
            claims: list[Claim] = []
            for run, ns, epoch, digest, inbox_seq, status, _turn in found:
                flat += (run, worker, epoch + 1)
                tx.owners[run] = epoch + 1
                claims.append(Claim(rows.id_text(run), ns, epoch + 1, digest, inbox_seq, status=status))
            sql.BULK["claim"].run(tx.db, flat)
            return claims

        return await self.parts.writer.run(take)

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take runs whose owner's lease has ended: epoch + 1 and a `LeaseTaken` record, wholly or not at all each."""
        if not await self.parts.readers.rows("stealable", self.parts.clock(), 1):
            return []

        def take(tx: Tx) -> list[Claim]:
            if sql.first(tx.db, "alive", worker, tx.now) is None:
                return []
            found = sql.rows(tx.db, "stealable", tx.now, limit)
            return [_take_over(tx, worker, row, self.make_taken) for row in found]

        return await self.parts.writer.run(take)

    async def owned(self, worker: str) -> list[tuple[str, int]]:
        """Return the runs a worker owns, with their epochs."""
        return [(rows.id_text(run), epoch) for run, epoch in await self.parts.readers.rows("owned", worker)]

    async def retake(self, worker: str, runs: Sequence[tuple[str, int]]) -> list[Claim]:
        """Take some of our own runs anew, because nothing of them is here."""
        asked = [(run, epoch) for run, epoch in ((rows.stored_id(name), epoch) for name, epoch in runs) if run]

        def take(tx: Tx) -> list[Claim]:
            if sql.first(tx.db, "alive", worker, tx.now) is None:
                return []
            found = [sql.first(tx.db, "own", run, worker, epoch) for run, epoch in asked]
            return [_take_over(tx, worker, row, self.make_taken) for row in found if row is not None]

        return await self.parts.writer.run(take) if asked else []

    async def poll(self, worker: str) -> Poll:
        """Return as of one moment what there is to do."""
        now = self.parts.clock()

        def look(db: sqlite3.Connection) -> Poll:
            with sql.one_moment(db):
                inbox = tuple(rows.id_text(row[0]) for row in sql.rows(db, "poll_inbox", worker))
                claimable, expired, outbox, tasks, wants = sql.first(db, "poll", now, self.parts.taker)
            return Poll(bool(claimable), inbox, bool(expired), bool(outbox), bool(tasks), now, bool(wants))

        return await self.parts.readers.run(look)

    async def wait_hint(self, timeout_s: float) -> None:
        """Return early when something changed, here or in another process; a hint only, `poll` is the truth."""
        await self.parts.wait(timeout_s)

    async def take_tasks(self, worker: str, limit: int, handlers: Sequence[str]) -> list[TaskRow]:
        """Take waiting tasks we can execute, and those whose executor's lease has ended."""
        served = _json(list(handlers)).decode()

        def take(tx: Tx) -> list[TaskRow]:
            found = [rows.task(row) for row in sql.rows(tx.db, "task_free", tx.now, served, limit)]
            sql.changes(tx.db, "task_take", [(worker, row.id) for row in found])
            return found

        return await self.parts.writer.run(take)

    async def drop_task(self, task: str, worker: str) -> bool:
        """Remove a task we hold; `False` when it is no longer ours."""
        return await self.parts.writer.run(lambda tx: sql.change(tx.db, "task_drop", task, worker) > 0)


def _take_over(tx: Tx, worker: str, victim: Any, make: MakeRecord) -> Claim:
    """Own a run and occupy the position that its old owner would write next."""
    run, ns, epoch, digest, inbox_seq, owner = victim
    run_id = rows.id_text(run)
    found = sql.first(tx.db, "head", run)
    head = None if found is None else wire.Record(found[0], 0, found[2], found[1])
    record = make(Taken(run_id=run_id, epoch=epoch, head=head, now=tx.now, by=worker, owner=owner or ""))
    sql.BULK["rec_add"].run(tx.db, [run, record.seq, record.epoch, record.chain, record.body])
    sql.change(tx.db, "take_over", run, worker, epoch + 1)
    tx.owners[run] = epoch + 1
    tx.packed.append(run + record.seq.to_bytes(4, "big"))
    return Claim(run_id, ns, epoch + 1, digest, inbox_seq, owner)
