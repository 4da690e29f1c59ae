"""Absurd on Postgres: the SDK's workers in one process, each client with its own connection.

One client object is one connection, so throughput uses four of them, each claiming 64 tasks at a time.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd

from bench.measure import StepClock
from bench.peer import STATE, Peer, Stage

WORKERS, BATCH, POLL_S = 4, 64, 0.01

CLOCK = StepClock()


def register(app: Any) -> None:
    @app.register_task("chain")
    async def chain(params: dict[str, int], ctx: Any) -> dict[str, bool]:
        for i in range(params["k"]):

            async def step(i: int = i) -> dict[str, int]:
                CLOCK.tick()
                return {"n": i}

            await ctx.step("s", step)
        return {"ok": True}

    @app.register_task("grow")
    async def grow(params: dict[str, int], ctx: Any) -> dict[str, Any]:
        state = STATE
        for _ in range(params["k"]):

            async def step(state: dict[str, Any] = state) -> dict[str, Any]:
                CLOCK.tick()
                return {**state, "n": state["n"] + 1}

            state = await ctx.step("s", step)
        return state

    @app.register_task("fan")
    async def fan(params: dict[str, int], ctx: Any) -> dict[str, int]:
        async def one(i: int) -> Any:
            async def step() -> dict[str, int]:
                return {"n": i}

            return await ctx.step(f"s{i}", step)

        return {"n": len(await asyncio.gather(*(one(i) for i in range(params["k"]))))}

    @app.register_task("park")
    async def park(params: dict[str, Any], ctx: Any) -> None:
        await ctx.await_event(f"go:{ctx.task_id}")


class Absurd(Peer):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._n_workers = WORKERS if stage.work in ("W1", "W5", "W6") else 1
        self.settings = {"workers": self._n_workers, "batch": BATCH, "poll_s": POLL_S}
        self._tasks: list[asyncio.Task[Any]] = []
        self._apps: list[Any] = []
        self._parked = 0

    async def open(self) -> None:
        url = self.stage.url
        control = Path(sys.executable).parent / "absurdctl"
        env = {**os.environ, "ABSURD_DATABASE_URL": url}
        subprocess.run([control, "init"], check=True, capture_output=True, env=env)
        self._client = self._app()
        await self._client.create_queue()
        self._look = await psycopg.AsyncConnection.connect(url, autocommit=True)
        if self.stage.work != "W6":
            self._start_workers()

    def _app(self) -> Any:
        app = AsyncAbsurd(self.stage.url)
        register(app)
        return app

    def _start_workers(self) -> None:
        self._apps = [self._app() for _ in range(self._n_workers)]
        self._tasks = [
            asyncio.create_task(app.start_worker(concurrency=BATCH, poll_interval=POLL_S))
            for app in self._apps
        ]

    async def _count(self, state: str) -> int:
        cursor = await self._look.execute("SELECT count(*) FROM absurd.t_default WHERE state = %s", (state,))
        row = await cursor.fetchone()
        return row[0] if row else 0

    async def _until(self, state: str, n: int, every_s: float) -> None:
        while await self._count(state) < n:
            await asyncio.sleep(every_s)

    async def _one(self, task: str, k: int) -> None:
        done = await self._count("completed")
        await self._client.spawn(task, {"k": k})
        await self._until("completed", done + 1, 0.01)

    async def chains(self, n: int) -> None:
        done = await self._count("completed")
        await self.enqueue(n)
        await self._until("completed", done + n, 0.05)

    async def chain(self, steps: int) -> StepClock:
        return await self._timed("chain", steps, 0)

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        return await self._timed("grow", steps, sample_every)

    async def _timed(self, task: str, steps: int, sample_every: int) -> StepClock:
        global CLOCK
        CLOCK = self.clock(sample_every)
        await self._one(task, steps)
        CLOCK.sample()
        return CLOCK

    async def fan(self, width: int) -> None:
        await self._one("fan", width)

    async def park(self, n: int) -> None:
        for _ in range(n):
            await self._client.spawn("park", {})
        self._parked += n
        await self._until("sleeping", self._parked, 0.2)

    async def enqueue(self, n: int) -> None:
        for _ in range(n):
            await self._client.spawn("chain", {"k": 3})

    async def drain(self, n: int) -> None:
        self._start_workers()
        await self._until("completed", n, 0.05)


PEER = Absurd
