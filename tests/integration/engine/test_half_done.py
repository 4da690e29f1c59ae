"""Work a living worker took from the store and then failed to begin, or to report, is not forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto import App, Context
from tenuto.runtime.worker import tasks
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import start_runtime

OPTIONS = WorkerOptions(lease_ms=900, idle_s=0.1)


def shout(text: str) -> str:
    return text.upper()


async def test_a_run_claimed_and_not_opened_is_opened_after_all(url: str):
    app = App("t")

    @app.step
    async def wait(ctx: Context) -> Any:
        return await ctx.wait_signal("go")

    app.workflow("w").step(wait, id="wait")
    runtime = await start_runtime(url, app.catalog(), options=OPTIONS)
    store = runtime.store
    claim, load = store.claim, store.load
    broken: list[str] = []

    async def claimed(*args: Any) -> Any:
        claims = await claim(*args)
        broken.extend(item.run_id for item in claims)
        return claims

    async def fails_once(run_ids: Any) -> Any:
        if broken and set(run_ids) == set(broken):
            broken.clear()
            raise RuntimeError("out of memory")
        return await load(run_ids)

    try:
        run = (await runtime.engine.runs.start("w", {})).id
        while (await store.get_run(run)).state != "waiting":  # type: ignore[union-attr]
            await runtime.store.wait_hint(0.05)
        store.claim, store.load = claimed, fails_once  # type: ignore[method-assign]
        await runtime.engine.runs.signal(run, "go", 7)
        view = await runtime.engine.runs.get(run, wait_s=15)
        assert (view.status, view.output) == ("completed", {"wait": 7})
        row = await store.get_run(run)
        assert row is not None and row.epoch == 3, "claimed, and taken anew"
        assert (await runtime.engine.audit.verify(run)).ok
    finally:
        await runtime.close()


async def test_a_run_claimed_under_a_lease_that_ended_meanwhile_is_not_opened(url: str):
    """Under its next name a worker owns nothing of what it asked for under the last; the run is taken over."""
    app = App("t")

    @app.step
    async def wait(ctx: Context) -> Any:
        return await ctx.wait_signal("go")

    app.workflow("w").step(wait, id="wait")
    runtime = await start_runtime(url, app.catalog(), options=OPTIONS)
    assert runtime.worker is not None
    store, lease = runtime.store, runtime.worker.runs.lease
    claim = store.claim
    lost: list[str] = []

    async def loses_once(*args: Any) -> Any:
        claims = await claim(*args)
        if claims and not lost:
            lost.append(lease.id)
            lease.lose()
        return claims

    try:
        run = (await runtime.engine.runs.start("w", {})).id
        while (await store.get_run(run)).state != "waiting":  # type: ignore[union-attr]
            await store.wait_hint(0.05)
        store.claim = loses_once  # type: ignore[method-assign]
        await runtime.engine.runs.signal(run, "go", 7)
        view = await runtime.engine.runs.get(run, wait_s=15)
        assert (view.status, view.output) == ("completed", {"wait": 7})
        row = await store.get_run(run)
        assert lost and row is not None and row.epoch == 3, "claimed under the old name, taken over under the new"
        assert (await runtime.engine.audit.verify(run)).ok
    finally:
        await runtime.close()


async def test_a_result_is_reported_as_soon_as_the_store_takes_it(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    app = App("t")
    app.step(shout, isolation="process")
    app.workflow("w").step(shout, id="a", input={"text": "hi"}, isolation="process")
    runtime = await start_runtime(url, app.catalog(), options=OPTIONS)
    send = runtime.store.send
    refused: list[str] = []

    async def unwilling(run_id: str, key: str, body: bytes, **rest: Any) -> Any:
        if key.startswith("task/") and len(refused) < 3:
            refused.append(key)
            raise RuntimeError("not now")
        return await send(run_id, key, body, **rest)

    runtime.store.send = unwilling  # type: ignore[method-assign]
    try:
        run = (await runtime.engine.runs.start("w", {})).id
        view = await runtime.engine.runs.get(run, wait_s=20)
        assert (view.status, view.output) == ("completed", {"a": "HI"})
        assert len(refused) == 3
        assert not (await runtime.store.poll("nobody")).tasks
    finally:
        await runtime.close()
