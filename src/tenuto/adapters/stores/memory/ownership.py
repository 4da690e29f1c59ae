"""Workers, leases, and who may move a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.domain.runs.takeover import MakeRecord, Taken, lease_taken
from tenuto.ports.store import Claim, Poll, RunRow, TaskRow, WorkerRow

_AGEING_MS = 60_000
_MAX_CLAIMS = 256


class Ownership:
    """The ownership side of the store."""

    tables: Tables
    writer: int
    heard: asyncio.Event
    make_taken: MakeRecord = staticmethod(lease_taken)

    async def register(self, worker: WorkerRow, lease_ms: int) -> int:
        """Announce a worker with a lease from now; return the store's clock."""
        now = self.tables.clock()
        row = msgspec.structs.replace(worker, lease_until=now + lease_ms, started_at=worker.started_at or now)
        self.tables.workers[worker.id] = row
        return now

    async def heartbeat(self, worker: str, lease_ms: int) -> int | None:
        """Extend an unexpired lease; return the store's clock, or `None` when the lease has ended or is gone."""
        if not self.tables.alive(worker):
            return None
        now = self.tables.clock()
        self.tables.workers[worker].lease_until = now + lease_ms
        return now

    async def unregister(self, worker: str) -> None:
        """Remove a worker; runs it still owns become stealable at once."""
        if self.tables.workers.pop(worker, None) is not None:
            self.tables.wake()

    async def workers(self) -> list[WorkerRow]:
        """Return all workers with their leases."""
        return sorted(map(copied, self.tables.workers.values()), key=lambda row: (row.started_at, row.id))

    async def adopt(self, worker: str, dead: str) -> int:
        """End a worker's lease at once because its process is known to be dead; return how many runs it owns."""
        if dead in self.tables.workers:
            self.tables.workers[dead].lease_until = 0
            self.tables.wake()
        return sum(run.state == "owned" and run.worker == dead for run in self.tables.runs.values())

    async def claim(self, worker: str, limit: int, exclude: Sequence[str] = ()) -> list[Claim]:
        """Take up to `limit` ready or due runs, in the order they should go on. Each goes to exactly one claimer."""
        tables, now = self.tables, self.tables.clock()
        if not tables.alive(worker):
            return []
        turns: list[tuple[int, str]] = []
        for run_id, due_at in tables.due.items():
            run = tables.runs[run_id]
            if due_at <= now and run.digest not in exclude:
                turns.append((due_at + run.priority * _AGEING_MS, run_id))
        turns.sort()
        claims: list[Claim] = []
        for _, run_id in turns[: min(max(limit, 0), _MAX_CLAIMS)]:
            run, before = tables.runs[run_id], tables.runs[run_id].status
            run.status = "running"
            claims.append(msgspec.structs.replace(self._own(worker, run), status=before))
        return claims

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take runs whose owner's lease has ended: epoch + 1 and a `LeaseTaken` record, wholly or not at all each."""
        tables = self.tables
        if not tables.alive(worker):
            return []
        victims = [run for run in tables.runs.values() if run.state == "owned" and not tables.alive(run.worker)]
        return self._take_over(worker, victims[: max(limit, 0)])

    async def owned(self, worker: str) -> list[tuple[str, int]]:
        """Return the runs a worker owns, with their epochs."""
        return [(run.id, run.epoch) for run in self.tables.runs.values() if run.state == "owned" and run.worker == worker]

    async def retake(self, worker: str, runs: Sequence[tuple[str, int]]) -> list[Claim]:
        """Take some of our own runs anew, because nothing of them is here."""
        if not self.tables.alive(worker):
            return []
        found = [(self.tables.runs.get(run_id), epoch) for run_id, epoch in runs]
        return self._take_over(worker, [
            run for run, epoch in found
            if run is not None and (run.state, run.worker, run.epoch) == ("owned", worker, epoch)
        ])  # fmt: skip

    def _take_over(self, worker: str, victims: Sequence[RunRow]) -> list[Claim]:
        tables = self.tables
        taken: list[Claim] = []
        places: list[tuple[str, int]] = []
        for run in victims:
            owner, journal = run.worker or "", tables.records.setdefault(run.id, [])
            head = journal[-1] if journal else None
            journal.append(self.make_taken(Taken(
                run_id=run.id, epoch=run.epoch, head=head, now=tables.clock(), by=worker, owner=owner
            )))  # fmt: skip
            places.append((run.id, len(journal)))
            taken.append(self._own(worker, run, owner))
        if places:
            tables.groups.setdefault(self.writer, []).append(tuple(places))
        return taken

    def _own(self, worker: str, run: RunRow, stolen_from: str | None = None) -> Claim:
        run.state, run.worker, run.wake_at = "owned", worker, 0
        run.epoch += 1
        self.tables.due.pop(run.id, None)
        return Claim(run.id, run.ns, run.epoch, run.digest, run.inbox_seq, stolen_from)

    async def poll(self, worker: str) -> Poll:
        """Return what there is to do."""
        tables, now = self.tables, self.tables.clock()
        owned = [run for run in tables.runs.values() if run.state == "owned"]
        return Poll(
            claimable=any(due_at <= now for due_at in tables.due.values()),
            inbox=tuple(run.id for run in owned if run.worker == worker and tables.inbox.get(run.id)),
            expired=any(not tables.alive(run.worker) for run in owned),
            outbox=any(held.until <= now or held.taker == self.writer for held in tables.outbox.values()),
            tasks=any(not tables.alive(task.worker) for task in tables.tasks.values()),
            now=now,
            waiters=bool(tables.wanting),
        )

    async def wait_hint(self, timeout_s: float) -> None:
        """Return when something changed; the time-out is the caller's loop's, which a simulation owns."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.heard.wait()
        except TimeoutError:
            pass
        self.heard.clear()

    async def take_tasks(self, worker: str, limit: int, handlers: Sequence[str]) -> list[TaskRow]:
        """Take waiting tasks we can execute, and those whose executor's lease has ended."""
        free = [
            task for task in self.tables.tasks.values()
            if task.handler in handlers and not self.tables.alive(task.worker)
        ]  # fmt: skip
        free.sort(key=lambda task: (task.created_at, task.id))
        taken = [copied(task) for task in free[:limit]]
        for task in free[:limit]:
            task.worker = worker
        return taken

    async def drop_task(self, task: str, worker: str) -> bool:
        """Remove a task we hold; `False` when it is no longer ours."""
        row = self.tables.tasks.get(task)
        if row is None or row.worker != worker:
            return False
        del self.tables.tasks[task]
        return True
