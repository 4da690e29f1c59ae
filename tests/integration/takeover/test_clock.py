"""Timers on a worker whose idea of the store's time is corrected."""

from __future__ import annotations

import asyncio

from tenuto import App, Context, Retry
from tenuto.wiring import start_runtime


async def test_a_timer_rings_although_the_clock_was_set_back_meanwhile():
    app = App("t")
    tried = asyncio.Event()

    @app.step(retry=Retry(attempts=2, backoff_s=0.15, jitter=0))
    async def work(ctx: Context) -> int:
        tried.set()
        if ctx.attempt == 1:
            raise RuntimeError("once")
        return ctx.attempt

    app.workflow("w").step(work, id="work")
    runtime = await start_runtime("memory:", app.catalog())
    try:
        started = await runtime.engine.runs.start("w", {})
        await tried.wait()
        while (await runtime.engine.runs.get(started.id)).steps[0].status != "retrying":
            await asyncio.sleep(0)
        runtime.clock.adjust(runtime.clock.now() - 100)
        view = await runtime.engine.runs.get(started.id, wait_s=20)
        assert view.output == {"work": 2}
    finally:
        await runtime.close()
