"""What is kept, for how long, what it saved, and that nothing invalidated comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenuto import App, Context
from tenuto.adapters.clock import SystemClock
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.errors import Invalid
from tenuto.ports.cache import CacheBounds, CacheOptions
from tenuto.runtime.services.requests import Replay
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import start_runtime
from tests.integration.cache.test_policies import counting, run


async def counted(engine: Any, steps: int) -> Any:
    """Return the statistics once the table of steps knows so many steps of the cache."""
    async with asyncio.timeout(10):
        while True:
            stats = await engine.cache.stats()
            total = stats.totals
            if total.hits + total.joined + total.misses + total.unread >= steps:
                return stats
            await asyncio.sleep(0.02)  # the projection wakes nobody


async def test_statistics_say_what_was_saved_by_workflow_and_node(url: str):
    app, _made = counting("read_through")
    app.workflow("v").node("other", "transform", value="input.n + 1", cache="write_only")
    async with app.engine(url) as engine:
        for n in (1, 1, 2, 1):
            await run(engine, {"n": n})
        await run(engine, {"n": 1}, "v")
        stats = await counted(engine, 5)
        listed = {row.id: row.cache for row in (await engine.steps.list()).items}
    found = {(node.workflow, node.node): node for node in stats.nodes}
    work, other = found["w", "work"], found["v", "other"]
    assert (work.hits + work.joined, work.misses, work.stored, work.entries) == (2, 2, 2, 2)
    assert (other.unread, other.stored, other.entries) == (1, 1, 1)
    assert work.bytes > 0 and stats.totals.entries == 3
    assert stats.totals.stored == 3
    assert listed["other"] == "unread" and listed["work"] in ("hit", "miss")


@pytest.mark.parametrize("what", ["key", "workflow", "node", "everything"])
async def test_what_is_invalidated_is_computed_again(what: str):
    app, made = counting("read_through")
    async with app.engine("memory:") as engine:
        _, said = await run(engine, {"n": 1})
        by: dict[str, Any] = {
            "key": {"key": said["work"]["key"]}, "workflow": {"workflow": "w"}, "node": {"node": "work"},
            "everything": {"everything": True},
        }[what]
        assert (await engine.cache.invalidate(workflow="another")).entries == 0
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == "hit"
        assert (await engine.cache.invalidate(**by)).entries == 1
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == "miss" and len(made) == 2
        with pytest.raises(Invalid):
            await engine.cache.invalidate()
        with pytest.raises(Invalid):
            await engine.cache.invalidate(key="abc")


@pytest.mark.parametrize("most", [1000, 5])
async def test_what_is_computed_while_it_is_invalidated_is_not_kept_and_given_to_nobody(url: str, most: int):
    """What is too large to be kept is given to those who wait, too, and is as old."""
    app = App("t")
    begun, go, made = asyncio.Event(), asyncio.Event(), []

    @app.step(effect="pure", cache={"policy": "read_through", "max_bytes": most})
    async def work(n: int) -> int:
        made.append(n)
        begun.set()
        await go.wait()
        return len(made)

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        first = await engine.runs.start("w", {"n": 1})
        await begun.wait()
        second = await engine.runs.start("w", {"n": 1})
        await engine.cache.invalidate(everything=True)
        go.set()
        outputs = [(await engine.runs.get(one.id, wait_s=15)).output["work"] for one in (first, second)]
        _, said = await run(engine, {"n": 1})
    assert outputs == [1, 2]
    assert said["work"]["how"] == ("hit" if most > 5 else "miss")


async def test_a_result_expires_by_the_clock_of_the_store():
    app, made = counting({"policy": "read_through", "ttl_s": 60})
    late = 0

    def clock() -> int:
        return SystemClock().now() + late

    runtime = await start_runtime("memory:", app.catalog(), store=MemoryStore(clock))
    try:
        for after in (0, 59_000, 61_000):
            late = after
            await run(runtime.engine, {"n": 1})
        assert len(made) == 2
    finally:
        await runtime.close(0)


async def test_no_more_is_kept_than_is_allowed():
    app, made = counting({"policy": "read_through", "max_bytes": 400})
    bounds = CacheBounds(max_entries=2)
    options = WorkerOptions(cache=CacheOptions(bounds=bounds))

    @app.step(effect="pure", cache={"max_bytes": 100})
    async def large() -> str:
        made.append("large")
        return "x" * 200

    app.workflow("v").map("each", "${input.items}", large)
    async with app.engine("memory:", options=options) as engine:
        for n in (1, 2, 3):
            await run(engine, {"n": n})
        assert (await engine.cache.stats()).totals.entries == 2
        _, said = await run(engine, {"n": 1})
        assert said["work"]["how"] == "miss"
        made.clear()
        _, said = await run(engine, {"items": [{}] * 10}, "v")
        assert made == ["large"], "who waits here needs no other result than one that is too large to keep"
        [miss] = [one for one in said.values() if one and one["how"] == "miss"]
        assert not miss.get("stored") and "at most 100 are kept" in miss["why"]


async def test_a_process_whose_settings_turn_it_off_computes():
    app, made = counting("read_through")
    async with app.engine("memory:", options=WorkerOptions(cache=CacheOptions(enabled=False))) as engine:
        for _ in range(2):
            _, said = await run(engine, {"n": 1})
            assert said["work"] is None
    assert len(made) == 2


async def test_the_code_is_in_the_key():
    made: list[str] = []
    store = MemoryStore()
    outputs: list[Any] = []
    for version in ("1", "1", "2"):
        app = App("t")

        @app.step(name="work", effect="pure", cache="read_through", version=version)
        async def work(label: str = version) -> str:
            made.append(label)
            return label

        app.workflow("w").step("work")
        runtime = await start_runtime("memory:", app.catalog(), store=store.view())
        try:
            outputs.append((await run(runtime.engine, {}))[0])
        finally:
            await runtime.close(0)
    assert made == ["1", "2"] and outputs == [{"work": "1"}, {"work": "1"}, {"work": "2"}]


async def test_who_waits_can_be_cancelled_and_holds_no_slot(url: str):
    app = App("t")
    begun, go = asyncio.Event(), asyncio.Event()

    @app.step(effect="pure", cache="read_through")
    async def slow(n: int) -> int:
        begun.set()
        await go.wait()
        return n

    @app.step
    async def quick() -> str:
        return "quick"

    app.workflow("w").step(slow, id="work")
    app.workflow("q").step(quick)
    async with app.engine(url, options=WorkerOptions(concurrency=2)) as engine:
        first = await engine.runs.start("w", {"n": 1})
        await begun.wait()
        others = [await engine.runs.start("w", {"n": 1}) for _ in range(5)]
        output, _ = await run(engine, {}, "q")  # the five have no slot that this one needs
        assert output == {"quick": "quick"}
        await engine.runs.cancel(others[0].id)
        assert (await engine.runs.get(others[0].id, wait_s=15)).status == "cancelled"
        await engine.runs.cancel(first.id)
        assert (await engine.runs.get(first.id, wait_s=15)).status == "cancelled"
        go.set()
        views = [await engine.runs.get(one.id, wait_s=15) for one in others[1:]]
        assert [view.output for view in views] == [{"work": 1}] * 4


async def test_a_person_who_wants_it_anew_gets_it_anew(url: str):
    app, made = App("t"), []

    @app.step(effect="pure", cache="read_through")
    async def work(ctx: Context, n: int) -> int:
        made.append(n)
        if len(made) == 1:
            raise RuntimeError("first")
        return len(made)

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        failed = await engine.runs.start("w", {"n": 1})
        assert (await engine.runs.get(failed.id, wait_s=15)).status == "failed"
        assert (await run(engine, {"n": 1}))[0] == {"work": 2}
        await engine.runs.retry(failed.id, "work", fresh=True)
        async with asyncio.timeout(15):
            while (view := await engine.runs.get(failed.id, wait_s=5)).status != "completed":
                await asyncio.sleep(0.02)  # a failed run wakes nobody who waits for its end
        assert view.output == {"work": 3}


async def test_frozen_and_shadow_replays_write_nothing():
    app, made = counting("read_through")
    async with app.engine("memory:") as engine:
        started = await engine.runs.start("w", {"n": 1})
        await engine.runs.get(started.id, wait_s=15)
        for mode, calls in (("freeze", 1), ("shadow", 2)):
            await engine.cache.invalidate(everything=True)
            view = await engine.runs.replay(started.id, Replay(mode=mode, from_step=0))
            assert (await engine.runs.get(view.id, wait_s=15)).status == "completed"
            assert (await engine.cache.stats()).totals.entries == 0
            assert len(made) == calls


