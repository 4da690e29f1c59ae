"""A bare job queue made to look like runs: one job a step, each job enqueues the next.

A queue has no join and no run, so both are kept in this process's memory: the figures flatter the queues.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from bench.measure import StepClock
from bench.peer import STATE, Peer, Stage, drive


class RawQueue(Peer):
    """Turns jobs into runs. A concrete queue says how to enqueue a job, many jobs, and how to work."""

    at_a_time = 64

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._clock = StepClock()
        self._numbers = itertools.count()
        self._done: dict[int, asyncio.Future[None]] = {}
        self._left: dict[int, int] = {}

    async def enqueue_step(self, job: dict[str, Any]) -> None:
        raise NotImplementedError

    async def enqueue_leaves(self, jobs: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    async def start_working(self) -> None:
        raise NotImplementedError

    async def on_step(self, job: dict[str, Any]) -> None:
        """Body of a step's job: pass the run on to its next step, or end it."""
        self._clock.tick()
        job = {**job, "n": job["n"] + 1}
        if job["n"] < job["k"]:
            await self.enqueue_step(job)
        else:
            self._end(job["run"])

    def on_leaf(self, run: int) -> None:
        self._left[run] -= 1
        if not self._left[run]:
            self._end(run)

    def _end(self, run: int) -> None:
        self._done.pop(run).set_result(None)

    def _expect(self) -> tuple[int, asyncio.Future[None]]:
        run = next(self._numbers)
        future = self._done[run] = asyncio.get_running_loop().create_future()
        return run, future

    async def _run(self, steps: int, state: dict[str, Any]) -> None:
        run, future = self._expect()
        await self.enqueue_step({"run": run, "n": 0, "k": steps, "state": state})
        await future

    async def chains(self, n: int) -> None:
        await drive(n, self.at_a_time, lambda i: self._run(3, {"n": i}))

    async def chain(self, steps: int) -> StepClock:
        self._clock = self.clock()
        await self._run(steps, {})
        return self._clock

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        self._clock = self.clock(sample_every)
        await self._run(steps, STATE)
        self._clock.sample()
        return self._clock

    async def fan(self, width: int) -> None:
        run, future = self._expect()
        self._left[run] = width
        await self.enqueue_leaves([{"run": run, "i": i} for i in range(width)])
        await future

    async def enqueue(self, n: int) -> None:
        self._cold = [self._expect() for _ in range(n)]
        for run, _ in self._cold:
            await self.enqueue_step({"run": run, "n": 0, "k": 3, "state": {}})

    async def drain(self, n: int) -> None:
        await self.start_working()
        await asyncio.gather(*(future for _, future in self._cold))
