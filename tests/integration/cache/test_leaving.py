"""Workers that leave, and stores that seal: nobody waits for one that is gone, and nothing kept can be read."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.wiring import start_runtime
from tests.integration.cache.test_policies import counting, run


async def test_a_worker_that_leaves_gives_back_what_it_computes_and_who_waits_for_it(tmp_path: Path):
    app = App("t")
    begun, made = asyncio.Event(), []

    @app.step(effect="pure", cache="read_through")
    async def work(n: int) -> int:
        made.append(n)
        if len(made) == 1:
            begun.set()
            await asyncio.Event().wait()
        return n

    app.workflow("w").step(work, id="work")
    url = f"sqlite:///{tmp_path}/t.db"
    first = await start_runtime(url, app.catalog())
    runs = [(await first.engine.runs.start("w", {"n": 4})).id for _ in range(4)]
    await begun.wait()
    await first.close(0.01)
    second = await start_runtime(url, app.catalog())
    try:
        views = [await second.engine.runs.get(one, wait_s=15) for one in runs]
        assert [view.output for view in views] == [{"work": 4}] * 4
        assert made == [4, 4]
        trail = [await second.engine.audit.trail(one) for one in runs]
        assert all(one.verified for one in trail)
        assert not any(entry.type == "step.lost" for one in trail for entry in one.entries)
    finally:
        await second.close(0)


async def test_results_kept_in_a_sealed_store_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    canary = "canary-51ab77"
    monkeypatch.setenv("TENUTO_TEST_KEY", base64.b64encode(bytes(range(32))).decode())
    app = App("t")

    @app.step(effect="pure", cache="read_through")
    async def work(text: str) -> dict[str, Any]:
        return {"said": text}

    app.workflow("w").step(work, id="work")
    runtime = await start_runtime(f"sqlite:///{tmp_path}/t.db", app.catalog(), master_keys=["env:TENUTO_TEST_KEY"])
    try:
        keys: set[str] = set()
        for _ in range(2):
            output, said = await run(runtime.engine, {"text": canary})
            keys.add(said["work"]["key"])
        assert output == {"work": {"said": canary}} and said["work"]["how"] == "hit"
        assert (await runtime.engine.cache.stats()).totals.entries == 1
        (key,) = keys
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("t.db*"))
        assert canary.encode() not in stored and key.encode() not in stored
        assert (await runtime.engine.cache.invalidate(key=key)).entries == 1
    finally:
        await runtime.close(0)


async def test_a_run_of_its_own_is_not_needed_to_be_asked(tmp_path: Path):
    """Another process finds what was kept, in the same file."""
    app, made = counting("read_through")
    for how in ("miss", "hit"):
        runtime = await start_runtime(f"sqlite:///{tmp_path}/t.db", app.catalog())
        try:
            _, said = await run(runtime.engine, {"n": 1})
            assert said["work"]["how"] == how
        finally:
            await runtime.close(0)
    assert made == [1]


async def test_a_flight_ends_although_who_waited_behind_it_was_served_from_elsewhere():
    app, made = App("t"), []
    begun, go = asyncio.Event(), asyncio.Event()

    @app.step(effect="pure")
    async def work(n: int) -> int:
        made.append(n)
        if len(made) == 1:
            begun.set()
            await go.wait()
        return n

    for name in ("read_through", "write_only", "read_only"):
        app.workflow(name).step(work, id="work", cache=name)
    async with app.engine("memory:") as engine:
        first = await engine.runs.start("read_through", {"n": 1})
        await begun.wait()
        second = await engine.runs.start("read_through", {"n": 1})
        _, said = await run(engine, {"n": 1}, "write_only")
        _, said = await run(engine, {"n": 1}, "read_only")
        assert said["work"]["how"] == "hit"
        assert (await engine.runs.get(second.id, wait_s=15)).output == {"work": 1}
        go.set()
        assert (await engine.runs.get(first.id, wait_s=15)).output == {"work": 1}
        await no_flight(engine, said["work"]["key"])


@pytest.mark.parametrize("broken", ["take_flights", "cache_get", "end_flights"])
async def test_a_store_that_fails_once_leaves_no_flight_behind(broken: str, monkeypatch: pytest.MonkeyPatch):
    """Whatever of the three fails: nobody has to wait for a flight that nobody is on until this worker is gone."""
    monkeypatch.setattr("tenuto.runtime.worker.memo.AGAIN_S", 0.01)
    app, _made = counting({"policy": "read_through", "max_bytes": 1})
    async with app.engine("memory:") as engine:
        _, said = await run(engine, {"n": 1})
        whole, calls = getattr(engine.store, broken), []

        async def failing(*given: Any, **named: Any) -> Any:
            found = await whole(*given, **named)
            calls.append(given)
            if len(calls) == (2 if broken == "cache_get" else 1):
                raise OSError("cut off")
            return found

        async def refusing(*given: Any, **named: Any) -> Any:
            calls.append(given)
            if len(calls) == 1:
                raise OSError("cut off")
            return await whole(*given, **named)

        monkeypatch.setattr(engine.store, broken, refusing if broken == "end_flights" else failing)
        output, _ = await run(engine, {"n": 1})
        assert output["work"]["calls"] == 2 and calls
        await no_flight(engine, said["work"]["key"])


async def no_flight(engine: Any, key: str) -> None:
    """Wait until nobody is on a flight."""
    async with asyncio.timeout(5):
        while await engine.store.busy_flights([("default", key)]):  # a store wakes workers, not tests
            await asyncio.sleep(0.01)
