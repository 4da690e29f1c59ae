"""DBOS on Postgres or SQLite: one process, async workflows and steps.

Sixteen runs at a time, eight executor threads and a pool of twenty were the best of seven combinations tried.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
from typing import Any

from dbos import DBOS, DBOSClient

from bench.measure import StepClock
from bench.peer import STATE, Peer, Stage, drive

AT_A_TIME, POOL, THREADS = 16, 20, 8
PARK_SETTLE_S = 15.0
QUEUE, QUEUE_POLL_S = "backlog", 0.05

CLOCK = StepClock()


@DBOS.step()
async def step(i: int) -> dict[str, int]:
    CLOCK.tick()
    return {"n": i}


@DBOS.step()
async def step_state(state: dict[str, Any]) -> dict[str, Any]:
    CLOCK.tick()
    return {**state, "n": state["n"] + 1}


@DBOS.workflow()
async def chain(k: int) -> int:
    for i in range(k):
        await step(i)
    return k


@DBOS.workflow()
async def grow(k: int) -> int:
    state = STATE
    for _ in range(k):
        state = await step_state(state)
    return state["n"]


@DBOS.workflow()
async def fan(k: int) -> int:
    return len(await asyncio.gather(*(step(i) for i in range(k))))


@DBOS.workflow()
async def park() -> int:
    await DBOS.recv_async("go", timeout_seconds=86_400)
    return 1


async def run(workflow: Any, *args: Any) -> Any:
    return await (await DBOS.start_workflow_async(workflow, *args)).get_result()


class Dbos(Peer):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.settings = {"at_a_time": AT_A_TIME, "pool": POOL, "threads": THREADS}
        self._url = stage.url if stage.store == "pg" else f"sqlite:///{stage.place}"

    def _launch(self) -> None:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": self._url,
                "log_level": "ERROR",
                "sys_db_pool_size": POOL,
                "max_executor_threads": THREADS,
                "application_version": "1",
                "enable_otlp": False,
            }
        )
        DBOS.launch()

    async def open(self) -> None:
        self._launch()
        if self.stage.work == "W6":
            await DBOS.register_queue_async(
                QUEUE, worker_concurrency=AT_A_TIME, polling_interval_sec=QUEUE_POLL_S
            )
            DBOS.destroy()  # The schema and the queue are there now, and nothing claims.

    async def chains(self, n: int) -> None:
        await drive(n, AT_A_TIME, lambda i: run(chain, 3))

    async def chain(self, steps: int) -> StepClock:
        self._new_clock()
        await run(chain, steps)
        return CLOCK

    async def fan(self, width: int) -> None:
        assert await run(fan, width) == width

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        self._new_clock(sample_every)
        assert await run(grow, steps) == steps
        CLOCK.sample()
        return CLOCK

    async def park(self, n: int) -> None:
        await drive(n, AT_A_TIME, lambda i: DBOS.start_workflow_async(park))
        await asyncio.sleep(PARK_SETTLE_S)

    async def enqueue(self, n: int) -> None:
        client = DBOSClient(system_database_url=self._url)
        options: Any = {"workflow_name": chain.__qualname__, "queue_name": QUEUE, "app_version": "1"}
        for _ in range(n):
            client.enqueue(options, 3)
        client.destroy()

    async def drain(self, n: int) -> None:
        self._launch()
        while (
            len(
                await DBOS.list_workflows_async(
                    status="SUCCESS", limit=n, load_input=False, load_output=False
                )
            )
            < n
        ):
            await asyncio.sleep(0.25)

    def _new_clock(self, every: int = 0) -> None:
        global CLOCK
        CLOCK = self.clock(every)


PEER = Dbos
