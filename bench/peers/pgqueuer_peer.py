"""PGQueuer: a bare Postgres queue, worker and driver in one process."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import Queries

from bench.peer import Stage
from bench.peers.raw_queue import RawQueue

BATCH, POOL = 64, 10


class PgQueuerPeer(RawQueue):
    at_a_time = 300

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.settings = {"at_a_time": self.at_a_time, "batch": BATCH, "pool": POOL}

    async def open(self) -> None:
        pool = await asyncpg.create_pool(self.stage.url, min_size=4, max_size=POOL)
        self._queries = Queries(AsyncpgPoolDriver(pool))
        await self._queries.install()
        self._queuer = PgQueuer(AsyncpgPoolDriver(pool))

        @self._queuer.entrypoint("step")
        async def step(job: Any) -> None:
            await self.on_step(json.loads(job.payload))

        @self._queuer.entrypoint("leaf")
        async def leaf(job: Any) -> None:
            self.on_leaf(json.loads(job.payload)["run"])

        if self.stage.work != "W6":
            await self.start_working()

    async def start_working(self) -> None:
        self._task = asyncio.create_task(self._queuer.run(batch_size=BATCH))
        if self.stage.work != "W6":
            await asyncio.sleep(
                0.5
            )  # It listens from here on; jobs enqueued earlier would wait for its poll.

    async def enqueue_step(self, job: dict[str, Any]) -> None:
        await self._queries.enqueue("step", json.dumps(job).encode())

    async def enqueue_leaves(self, jobs: list[dict[str, Any]]) -> None:
        payloads: list[bytes | None] = [json.dumps(job).encode() for job in jobs]
        await self._queries.enqueue(["leaf"] * len(jobs), payloads, [0] * len(jobs))


PEER = PgQueuerPeer
