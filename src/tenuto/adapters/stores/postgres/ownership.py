"""Workers, leases, and who may move a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.parts import Part, statement_limit_s
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.domain.runs import wire
from tenuto.domain.runs.events import Body, LeaseTaken
from tenuto.ports.store import Claim, Poll, TaskRow, WorkerRow

MAX_CLAIMS = 256
_COLLISIONS = 3


class _Time(msgspec.Struct):
    """The one field of a record that a takeover needs; the rest may be of a newer version."""

    t: int = 0


_time = msgspec.json.Decoder(_Time).decode


class Ownership(Part):
    """The ownership side of the store."""

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
            return await connection.fetch(SQL["claim"], worker, wanted, list(exclude), taken)

        if wanted <= 0:
            return []
        found = await self.parts.lane.call(take)
        return [rows.claim(row) for row in sorted(found, key=_turn)]

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take runs whose owner's lease has ended: epoch + 1 and a `LeaseTaken` record, one statement a run."""
        victims = await self.parts.lane.fetch("stealable", limit)
        # Several workers steal from one dead worker: each begins elsewhere.
        random.shuffle(victims)
        claims: list[Claim] = []
        for victim in victims:
            claim = await self._steal_one(worker, victim)
            if claim is not None:
                claims.append(claim)
        return claims

    async def _steal_one(self, worker: str, victim: Any) -> Claim | None:
        """Take one run, behind whatever its old owner still managed to write; `None` when it is not to be had."""
        self._taken += 1
        taken, run_id, epoch = self._taken, str(victim["id"]), victim["epoch"]

        async def take(connection: Connection, again: bool) -> Any:
            if again:
                for row in await connection.fetch(SQL["claimed"], worker, taken):
                    return row
            if not self._steal_writer:
                self._steal_writer = await connection.fetchval(SQL["writer"])
            head = victim
            for _ in range(_COLLISIONS):
                if head is None:
                    return None
                row = await connection.fetchrow(SQL["steal"], *self._takeover(worker, head, taken))
                if row is not None:
                    return row
                head = await connection.fetchrow(SQL["head"], run_id, epoch)
            return None

        row = await self.parts.lane.attempt(take)
        if row is None:
            return None
        self._steals += 1
        return rows.claim(row, stolen_from=victim["worker"])

    def _takeover(self, worker: str, head: Any, taken: int) -> list[Any]:
        """Return the parameters that append `LeaseTaken` behind the last record read."""
        run_id, epoch = str(head["id"]), head["epoch"]
        chain, seq, before = wire.ZERO, 0, 0
        if head["seq"] is not None:
            chain, seq, before = head["chain"], head["seq"], _moment(head["body"])
        taking = LeaseTaken(epoch=epoch + 1, by=worker, from_=head["worker"])
        body = Body(t=max(head["now"], before), ev=(taking,))
        record = wire.record(chain, run_id, seq + 1, epoch + 1, body)
        return [
            run_id, epoch, worker, record.seq, record.body, record.chain, taken, self._steal_writer,
            self._steals + 1,
        ]  # fmt: skip

    async def poll(self, worker: str) -> Poll:
        """Return in one query what there is to do."""
        row = await self.parts.lane.first("poll", worker, self.parts.taker)
        inbox = tuple(str(run) for run in row["inbox"])
        return Poll(row["claimable"], inbox, row["expired"], row["outbox"], row["tasks"], row["now"])

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


def _turn(row: Any) -> int:
    return row["turn"]


def _moment(body: bytes) -> int:
    try:
        return _time(body).t
    except msgspec.DecodeError:
        return 0
