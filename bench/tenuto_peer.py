"""Tenuto through its public Python API with shipped defaults: runs are made and read as a user would.

Everything that depends on the shape of the API is in `tenuto_app.py` and in the four methods of `Api`.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from bench import tenuto_app, tenuto_server
from bench.http1 import Connection
from bench.measure import StepClock
from bench.peer import Peer, Stage, drive
from tenuto.runtime.services.requests import ListRuns

AT_A_TIME = 1_000
HTTP_CONNECTIONS = 32
WAIT_S = 60.0
LOOK_S = 0.1
SAMPLE = 100
"""Every so many runs one is looked at: holding every id would be counted as the engine's memory."""


class Api:
    """The calls the benchmark makes of Tenuto, in one place."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = AsyncExitStack()

    async def open(self, *, working: bool = True) -> None:
        engine = (
            tenuto_app.app.engine(self._url) if working else tenuto_app.app.engine(self._url, worker=False)
        )
        self._engine = await self._stack.enter_async_context(engine)

    async def close(self) -> None:
        await self._stack.aclose()

    async def start(self, workflow: str, value: Any = None) -> str:
        """Return the id of a run that is durable."""
        return (await self._engine.runs.start(workflow, input=value)).id

    async def execute(self, workflow: str, value: Any = None) -> Any:
        """Start a run and return how it ended."""
        return await self._engine.runs.execute(workflow, value)

    async def unended(self) -> bool:
        """Return whether any run is still to be done."""
        where = ListRuns(status=("queued", "running", "waiting"))
        return bool((await self._engine.runs.list(where, limit=1)).items)

    async def status(self, run: str, wait_s: float = 0) -> tuple[str, Any]:
        """Return status and output, waiting for the end for up to `wait_s`."""
        view = await self._engine.runs.get(run, wait_s=wait_s)
        return str(view.status), view.output


class Tenuto(Peer):
    warm_up_chains = 50
    uses_uvloop = True  # what `tenuto.run` and the command line use

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.settings = {"at_a_time": AT_A_TIME, "loop": "uvloop (tenuto.run)"}
        self._url = stage.url if stage.store == "pg" else f"sqlite:///{stage.place}"
        self._api = Api(self._url)
        self._stack = ExitStack()
        self._served: tuple[int, ...] = ()
        self._cold: list[str] = []

    async def open(self) -> None:
        if self.stage.work == "W7":
            program = Path(sys.executable).parent / "tenuto"
            self._port, pid = self._stack.enter_context(tenuto_server.serving(self._url, program))
            self._served = (pid,)
        else:
            await self._api.open(working=self.stage.work != "W6")

    async def close(self) -> None:
        if self.stage.work != "W7":
            await self._api.close()
        await asyncio.to_thread(self._stack.close)

    def worker_pids(self) -> Sequence[int]:
        return self._served

    async def _run(self, workflow: str, value: Any = None) -> Any:
        outcome = await self._api.execute(workflow, value)
        if outcome.status != "completed":
            raise RuntimeError(f"run {outcome.id} ended as {outcome.status!r}: {outcome.error}")
        return outcome.output

    async def _ended(self, run: str) -> Any:
        while True:
            status, output = await self._api.status(run, WAIT_S)
            if status == "completed":
                return output
            if status not in ("queued", "running", "waiting"):
                raise RuntimeError(
                    f"run {run} ended as {status!r}; the benchmark expects every run to complete"
                )

    async def chains(self, n: int) -> None:
        await drive(n, AT_A_TIME, lambda i: self._run(tenuto_app.CHAIN))

    async def chain(self, steps: int) -> StepClock:
        assert steps == tenuto_app.HOP_STEPS
        clock = tenuto_app.watch(self.clock())
        await self._run(tenuto_app.HOPS)
        return clock

    async def fan(self, width: int) -> None:
        output = await self._run(tenuto_app.FAN, {"items": list(range(width))})
        assert output == {"sum": width}, output

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        clock = tenuto_app.watch(self.clock(sample_every))
        await self._run(tenuto_app.GROW, {"limit": steps})
        clock.sample()
        return clock

    async def park(self, n: int) -> None:
        seen: deque[str] = deque(maxlen=n // SAMPLE + SAMPLE)

        async def one(i: int) -> None:
            run = await self._api.start(tenuto_app.PARK)
            if i % SAMPLE == 0 or i >= n - SAMPLE:
                seen.append(run)

        await drive(n, AT_A_TIME, one)
        for run in seen:
            while (await self._api.status(run))[0] != "waiting":
                await asyncio.sleep(0.02)

    async def enqueue(self, n: int) -> None:
        async def one(i: int) -> None:
            self._cold.append(await self._api.start(tenuto_app.CHAIN))

        await drive(n, AT_A_TIME, one)
        await self._api.close()  # The worker that drains has never seen these runs.

    async def drain(self, n: int) -> None:
        self._api = Api(self._url)
        await self._api.open()
        while await self._api.unended():
            await asyncio.sleep(LOOK_S)
        for run in self._cold[::SAMPLE]:
            await self._ended(run)

    async def over_http(self, n: int) -> dict[str, float]:
        """Post every run, then wait for the sampled ones in order, and check all of them after the clock."""
        connections = [
            await Connection.open(self._port, token=tenuto_server.TOKEN)
            for _ in range(min(n, HTTP_CONNECTIONS))
        ]
        runs: list[str] = []

        async def post(i: int) -> None:
            connection = connections.pop()
            accepted = await connection.request(
                "POST", "/api/v1/runs", {"workflow": tenuto_app.CHAIN, "input": {}}
            )
            connections.append(connection)
            runs.append(accepted["id"])

        start = time.perf_counter()
        await drive(n, len(connections), post)
        accepted_s = n / (time.perf_counter() - start)
        for run in [*runs[::SAMPLE], *runs[-HTTP_CONNECTIONS:]]:
            view = {"status": "queued"}
            while view["status"] in ("queued", "running"):
                view = await connections[0].request("GET", f"/api/v1/runs/{run}?wait=30")
            if view["status"] != "completed":
                raise RuntimeError(f"run {run} ended as {view['status']!r}")
        return {"accepted_s": accepted_s}


PEER = Tenuto
