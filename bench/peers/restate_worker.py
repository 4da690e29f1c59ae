"""Restate's handlers over HTTP/2, in one process: `python -m bench.peers.restate_worker PORT SERVER_PID`."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import sys
from typing import Any

import hypercorn
import hypercorn.asyncio
import restate
import uvloop

from bench.measure import StepClock
from bench.peer import STATE

SERVER_PID = int(sys.argv[2])

bench = restate.Service("Bench")


@bench.handler()
async def chain(ctx: restate.Context, k: int) -> list[float]:
    clock = StepClock()

    async def step(i: int) -> dict[str, int]:
        clock.tick()
        return {"n": i}

    for i in range(k):
        await ctx.run_typed("s", step, restate.RunOptions(), i)
    return clock.stamps


@bench.handler()
async def grow(ctx: restate.Context, asked: list[int]) -> dict[str, Any]:
    steps, every = asked
    clock = StepClock(every, [SERVER_PID])
    state = STATE

    async def step(state: dict[str, Any]) -> dict[str, Any]:
        clock.tick()
        return {**state, "n": state["n"] + 1}

    for _ in range(steps):
        state = await ctx.run_typed("s", step, restate.RunOptions(), state)
    assert state["n"] == steps
    clock.sample()
    return {"stamps": clock.stamps, "cpu": clock.cpu}


@bench.handler()
async def fan(ctx: restate.Context, k: int) -> int:
    async def step(i: int) -> dict[str, int]:
        return {"n": i}

    futures = [ctx.run_typed("s", step, restate.RunOptions(), i) for i in range(k)]
    await restate.gather(*futures)
    return len(futures)


@bench.handler()
async def park(ctx: restate.Context, k: int) -> int:
    _, awakeable = ctx.awakeable()
    await awakeable
    return k


def main() -> None:
    """Serve until ended."""
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.h2_max_concurrent_streams = 100_000
    config.keep_alive_max_requests = 10**9
    config.accesslog = None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hypercorn.asyncio.serve(restate.app([bench]), config))


if __name__ == "__main__":
    main()
