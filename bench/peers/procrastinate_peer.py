"""Procrastinate: a bare Postgres queue, worker and driver in one process.

A job deferred inside a running job often misses its notification, so the poll interval is not the usual 5 s.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import logging
from typing import Any

import procrastinate

from bench.peer import Stage
from bench.peers.raw_queue import RawQueue

WORKERS, POOL, POLL_S = 32, 10, 0.05


class Procrastinate(RawQueue):
    at_a_time = 64

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.settings = {"at_a_time": self.at_a_time, "workers": WORKERS, "pool": POOL, "poll_s": POLL_S}
        logging.disable(logging.WARNING)

    async def open(self) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=self.stage.url, min_size=4, max_size=POOL)
        self._app = procrastinate.App(connector=connector)
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()

        @self._app.task(name="step")
        async def step(**job: Any) -> None:
            await self.on_step(job)

        @self._app.task(name="leaf")
        async def leaf(run: int, i: int) -> None:
            self.on_leaf(run)

        self._step, self._leaf = step, leaf
        if self.stage.work != "W6":
            await self.start_working()

    async def start_working(self) -> None:
        self._task = asyncio.create_task(
            self._app.run_worker_async(
                concurrency=WORKERS,
                install_signal_handlers=False,
                listen_notify=True,
                fetch_job_polling_interval=POLL_S,
            )
        )

    async def enqueue_step(self, job: dict[str, Any]) -> None:
        await self._step.defer_async(**job)

    async def enqueue_leaves(self, jobs: list[dict[str, Any]]) -> None:
        await self._leaf.batch_defer_async(*jobs)


PEER = Procrastinate
