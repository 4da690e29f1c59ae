"""A database that crashes under a run."""

from __future__ import annotations

import asyncio

from tenuto import App
from tenuto.bundled.postgres import LocalPostgres


async def test_a_run_goes_on_by_itself_after_the_database_has_crashed():
    app = App("t")
    inside, go_on = asyncio.Event(), asyncio.Event()
    made: list[str] = []

    @app.step
    async def work() -> str:
        made.append("work")
        inside.set()
        await go_on.wait()
        return "done"

    @app.step
    async def after(work: str) -> str:
        made.append("after")
        return work

    app.workflow("w").step(work, id="work").step(after, id="after", after="work")
    server = await asyncio.to_thread(LocalPostgres.start)
    try:
        async with app.engine(server.create_database()) as engine:
            started = await engine.runs.start("w", {})
            await inside.wait()
            await asyncio.to_thread(server.restart, "immediate")
            go_on.set()
            async with asyncio.timeout(60):
                view = await engine.runs.result(started.id)
            checked = await engine.audit.verify(started.id)
    finally:
        await asyncio.to_thread(server.stop)
    assert view.output == {"after": "done"}
    assert made == ["work", "after"]
    assert checked.violations == []
