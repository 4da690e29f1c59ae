"""Workers, leases, and who may move a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.parts import Part, statement_limit_s
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.domain.runs import wire
from tenuto.domain.runs.takeover import MakeRecord, Taken, lease_taken
from tenuto.ports.store import Claim, Poll, TaskRow, WorkerRow

MAX_CLAIMS = 256
STEAL_GROUP = 32
_COLLISIONS = 3


class Ownership(Part):
    """The ownership side of the store."""

    make_taken: MakeRecord = staticmethod(lease_taken)
    _taken = 0
    _steal_writer = 0
    _steals = 0

    async def register(self, worker: WorkerRow, lease_ms: int) -> int:
        """Announce a worker with a lease from now; return the store's clock."""
        limit_s = statement_limit_s(lease_ms)
        await self.parts.commits.limit_statements(limit_s)
        await self.parts.lane.limit_statements(limit_s)
        return await self.parts.beats.value(
            "register", worker.id, worker.host, worker.pid, worker.started_at, worker.manifest, lease_ms
        )

    async def heartbeat(self, worker: str, lease_ms: int) -> int | None:
        """Extend an unexpired lease; return the store's clock, or `None` when the lease has ended or is gone."""
        return await self.parts.beats.value("heartbeat", worker, lease_ms)

    async def unregister(self, worker: str) -> None:
        """Remove a worker; runs it still owns become stealable at once."""
        await self.parts.beats.fetch("unregister", worker)

    async def workers(self) -> list[WorkerRow]:
        """Return all workers with their leases."""
        return [rows.worker(row) for row in await self.parts.pool.fetch("workers")]

    async def adopt(self, worker: str, dead: str) -> int:
        """End a worker's lease at once because its process is known to be dead; return how many runs it owns."""
        return await self.parts.pool.value("adopt", dead)

    async def claim(self, worker: str, limit: int, exclude: Sequence[str] = ()) -> list[Claim]:
        """Take up to `limit` ready or due runs, in the order they should go on. Each goes to exactly one claimer."""
        self._taken += 1
        taken, wanted = self._taken, min(limit, MAX_CLAIMS)

        async def take(connection: Connection, again: bool) -> list[Any]:
            if again:
                found = await connection.fetch(SQL["claimed"], worker, taken)
                if found:
                    return found
            return await connection.fetch(SQL["claim"], worker, wanted, [rows.packed_digest(one) for one in exclude], taken)

        if wanted <= 0:
            return []
        found = await self.parts.lane.call(take)
        return [rows.claim(row, status=row["before"]) for row in sorted(found, key=_turn)]

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take runs whose owner's lease has ended: epoch + 1 and a `LeaseTaken` record, wholly or not at all each."""
        victims = await self.parts.lane.fetch("stealable", limit)
        # Several workers steal from one dead worker: each begins elsewhere.
        random.shuffle(victims)
        claims: list[Claim] = []
        for start in range(0, len(victims), STEAL_GROUP):
            group = victims[start : start + STEAL_GROUP]
            taken = await self._take_over(worker, group)
            missed = [victim for victim in group if str(victim["id"]) not in taken]
            claims += taken.values()
            for victim in missed:
                claims += await self._chase(worker, victim)
        return claims

    async def owned(self, worker: str) -> list[tuple[str, int]]:
        """Return the runs a worker owns, with their epochs."""
        return [(str(row["id"]), row["epoch"]) for row in await self.parts.pool.fetch("owned", worker)]

    async def retake(self, worker: str, runs: Sequence[tuple[str, int]]) -> list[Claim]:
        """Take some of our own runs anew, because nothing of them is here."""
        asked = [(run, epoch) for run, epoch in runs if rows.is_id(run)]
        claims: list[Claim] = []
        for start in range(0, len(asked), STEAL_GROUP):
            ids, epochs = zip(*asked[start : start + STEAL_GROUP], strict=True)
            heads = await self.parts.lane.fetch("own_heads", worker, list(ids), list(epochs))
            claims += (await self._take_over(worker, heads)).values()
        return claims

    async def _chase(self, worker: str, victim: Any) -> list[Claim]:
        """Take one run that a group missed, behind whatever its old owner still managed to write."""
        for _ in range(_COLLISIONS):
            head = await self.parts.lane.first("head", str(victim["id"]), victim["epoch"])
            if head is None:
                return []
            taken = await self._take_over(worker, [head])
            if taken:
                return list(taken.values())
        return []

    async def _take_over(self, worker: str, victims: Sequence[Any]) -> dict[str, Claim]:
        """Take what is still as it was read; nothing when another holds a lock for long."""
        self._taken += 1
        taken = self._taken
        ordered = sorted(victims, key=_id)
        records = [self.make_taken(_known(worker, victim)) for victim in ordered]
        arguments: list[Any] = [
            [str(victim["id"]) for victim in ordered],
            [victim["epoch"] for victim in ordered],
            [record.seq for record in records],
            [record.body for record in records],
            [record.chain for record in records],
        ]

        async def take(connection: Connection, again: bool) -> list[Any]:
            if again:
                found = await connection.fetch(SQL["claimed"], worker, taken)
                if found:
                    return found
            if not self._steal_writer:
                self._steal_writer = await connection.fetchval(SQL["writer"])
            return await connection.fetch(
                SQL["steal"], *arguments, worker, taken, self._steal_writer, self._steals + 1
            )

        rows_taken = await self.parts.lane.attempt(take)
        if rows_taken:
            self._steals += 1
        owners = {str(victim["id"]): victim["worker"] for victim in ordered}
        return {str(row["id"]): rows.claim(row, owners[str(row["id"])]) for row in rows_taken or ()}

    async def poll(self, worker: str) -> Poll:
        """Return in one query what there is to do."""
        row = await self.parts.lane.first("poll", worker, self.parts.taker)
        inbox = tuple(str(run) for run in row["inbox"])
        return Poll(row["claimable"], inbox, row["expired"], row["outbox"], row["tasks"], row["now"], row["waiters"])

    async def wait_hint(self, timeout_s: float) -> None:
        """Return early when another process changed something; a hint only, `poll` is the truth."""
        await self.parts.hints.wait(timeout_s)

    async def take_tasks(self, worker: str, limit: int, handlers: Sequence[str]) -> list[TaskRow]:
        """Take waiting tasks we can execute, and those whose executor's lease has ended."""
        self._taken += 1
        taken = self._taken

        async def take(connection: Connection, again: bool) -> list[Any]:
            if again:
                found = await connection.fetch(SQL["taken_tasks"], worker, taken)
                if found:
                    return found
            return await connection.fetch(SQL["take_tasks"], worker, limit, list(handlers), taken)

        return [rows.task(row) for row in await self.parts.lane.call(take)]

    async def drop_task(self, task: str, worker: str) -> bool:
        """Remove a task we hold; `False` when it is no longer ours."""
        return bool(await self.parts.pool.value("drop_task", task, worker))


def _known(worker: str, head: Any) -> Taken:
    """Return what is known of a run that is taken."""
    last = None if head["seq"] is None else wire.Record(head["seq"], 0, head["body"], head["chain"])
    return Taken(
        run_id=str(head["id"]), epoch=head["epoch"], head=last, now=head["now"], by=worker, owner=head["worker"] or ""
    )


def _id(row: Any) -> str:
    return str(row["id"])


def _turn(row: Any) -> tuple[int, str]:
    return row["turn"], str(row["id"])
