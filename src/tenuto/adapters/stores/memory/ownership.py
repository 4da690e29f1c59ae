"""Leases and claims in a memory database."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.memory.database import Database
from tenuto.domain.runs.events import Body, LeaseTaken
from tenuto.domain.runs.wire import decode, record
from tenuto.ports.store import Claim, Poll, RunRow, TailRow, TaskRow, WorkerRow

AGE_MS = 60_000
"""A waiting run gains one class of priority for every such span."""


class Ownership:
    """The part of a memory store that says who may move a run."""

    _db: Database

    async def register(self, worker: WorkerRow, lease_ms: int) -> int:
        """See `Store.register`."""
        now = self._db.clock()
        self._db.workers[worker.id] = msgspec.structs.replace(worker, lease_until=now + lease_ms)
        return now

    async def heartbeat(self, worker: str, lease_ms: int) -> int | None:
        """See `Store.heartbeat`."""
        now = self._db.clock()
        row = self._db.workers.get(worker)
        if row is None or row.lease_until <= now:
            return None
        row.lease_until = now + lease_ms
        return now

    async def unregister(self, worker: str) -> None:
        """See `Store.unregister`."""
        self._db.workers.pop(worker, None)
        self._db.wake()

    async def workers(self) -> list[WorkerRow]:
        """See `Store.workers`."""
        return [msgspec.structs.replace(row) for row in self._db.workers.values()]

    async def adopt(self, worker: str, dead: str) -> int:
        """See `Store.adopt`."""
        self._db.workers.pop(dead, None)
        return sum(1 for row in self._db.runs.values() if row.worker == dead)

    def _alive(self, worker: str | None, now: int) -> bool:
        row = self._db.workers.get(worker or "")
        return row is not None and row.lease_until > now

    def _claimable(self, row: RunRow, now: int) -> bool:
        if row.state == "ready":
            return row.wake_at <= now
        return row.state == "waiting" and 0 < row.wake_at <= now

    async def claim(self, worker: str, limit: int, exclude: Sequence[str] = ()) -> list[Claim]:
        """See `Store.claim`."""
        db, now = self._db, self._db.clock()
        if not self._alive(worker, now):
            return []
        found = [row for row in db.runs.values() if self._claimable(row, now) and row.digest not in exclude]
        found.sort(key=lambda row: (row.priority * AGE_MS + max(row.wake_at, row.created_at), row.id))
        claims: list[Claim] = []
        for row in found[:limit]:
            row.state, row.worker, row.status, row.wake_at = "owned", worker, "running", 0
            row.epoch += 1
            claims.append(
                Claim(run_id=row.id, ns=row.ns, epoch=row.epoch, digest=row.digest, inbox_seq=row.inbox_seq)
            )
        return claims

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """See `Store.steal`."""
        db, now = self._db, self._db.clock()
        if not self._alive(worker, now):
            return []
        claims: list[Claim] = []
        for row in db.runs.values():
            if len(claims) == limit:
                break
            if row.state != "owned" or row.worker == worker or self._alive(row.worker, now):
                continue
            dead = row.worker or ""
            row.epoch += 1
            row.worker = worker
            journal = db.journal[row.id]
            last = journal[-1]
            taken = LeaseTaken(epoch=row.epoch, by=worker, from_=dead)
            body = Body(max(now, decode(last).t), (taken,))
            journal.append(record(last.chain, row.id, last.seq + 1, row.epoch, body))
            db.groups.append(TailRow(writer=1, n=len(db.groups) + 1, runs=((row.id, last.seq + 1),)))
            claims.append(
                Claim(run_id=row.id, ns=row.ns, epoch=row.epoch, digest=row.digest, inbox_seq=row.inbox_seq,
                      stolen_from=dead)
            )
        return claims

    async def poll(self, worker: str) -> Poll:
        """See `Store.poll`."""
        db, now = self._db, self._db.clock()
        mine = tuple(run for run, rows in db.inbox.items() if rows and db.runs[run].worker == worker)
        return Poll(
            claimable=any(self._claimable(row, now) for row in db.runs.values()),
            inbox=mine,
            expired=any(
                row.state == "owned" and row.worker != worker and not self._alive(row.worker, now)
                for row in db.runs.values()
            ),
            outbox=bool(db.outbox),
            tasks=any(not self._alive(task.worker, now) for task in db.tasks.values()),
            now=now,
        )

    async def take_tasks(self, worker: str, limit: int, handlers: Sequence[str]) -> list[TaskRow]:
        """See `Store.take_tasks`."""
        now = self._db.clock()
        taken: list[TaskRow] = []
        for task in self._db.tasks.values():
            if len(taken) < limit and task.handler in handlers and not self._alive(task.worker, now):
                taken.append(msgspec.structs.replace(task))
                task.worker = worker
        return taken

    async def drop_task(self, task: str, worker: str) -> bool:
        """See `Store.drop_task`."""
        row = self._db.tasks.get(task)
        if row is None or row.worker != worker:
            return False
        del self._db.tasks[task]
        return True
