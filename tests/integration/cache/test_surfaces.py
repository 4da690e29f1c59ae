"""The cache as a user meets it: over HTTP, in a run's steps and its `why`, in metrics, and changed by a patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tenuto import App
from tenuto.api.app import create_app
from tenuto.errors import InvalidPatch
from tenuto.runtime.telemetry.counts import Counts
from tenuto.settings import Settings
from tests.integration.cache.test_keeping import counted
from tests.integration.cache.test_policies import counting, run


async def test_statistics_and_invalidation_over_http(tmp_path: Path):
    app, _ = counting("read_through")
    async with app.engine("memory:") as engine:
        _, said = await run(engine, {"n": 1})
        await run(engine, {"n": 1})
        await counted(engine, 2)
        served = create_app(engine, Settings(no_auth=True, data_dir=str(tmp_path)))
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/v1") as client:
            stats = (await client.get("/cache/stats", params={"workflow": "w"})).json()
            assert stats["totals"]["hits"] == 1 and stats["nodes"][0]["node"] == "work"
            assert (await client.get("/cache/stats", params={"workflow": "v"})).json()["nodes"] == []
            refused = await client.delete("/cache")
            assert refused.status_code == 422 and refused.json()["code"] == "cache.unbounded"
            gone = await client.delete("/cache", params={"key": said["work"]["key"]})
            assert (gone.status_code, gone.json()) == (200, {"entries": 1})
            assert (await client.delete("/cache", params={"all": "true"})).json() == {"entries": 0}


async def test_a_run_says_which_of_its_steps_were_taken_from_the_cache():
    app, _ = counting("read_through")
    async with app.engine("memory:") as engine:
        await run(engine, {"n": 1})
        started = await engine.runs.start("w", {"n": 1})
        view = await engine.runs.get(started.id, wait_s=10)
        [step] = view.steps
        assert step.cache is not None and step.cache.how == "hit" and step.status == "completed"
        why = await engine.runs.why(started.id)
    assert "1 step was taken from the cache" in why.summary


async def test_metrics_count_hits_apart_from_attempts():
    app, _ = counting("read_through")
    counts = Counts()
    async with app.engine("memory:") as engine:
        for _ in range(3):
            started = await engine.runs.start("w", {"n": 1})
            await engine.runs.get(started.id, wait_s=10)
            for seq_body in await engine.runs._c.bodies(started.id):
                counts.hear(None, seq_body[1])  # type: ignore[arg-type]
    assert counts.cache == {"miss": 1, "hit": 2}
    assert counts.step_time.count == 1


def policy(node: str, group: str = "") -> dict[str, Any]:
    value: Any = {"policy": "read_through", "group": group} if group else "read_through"
    return {"op": "add", "path": f"/nodes/{node}/cache", "value": value}


async def test_a_patch_of_a_live_run_marks_nodes_and_is_refused_on_what_acts():
    app, made = App("t"), []

    @app.step(effect="pure")
    async def one() -> int:
        made.append("one")
        return 1

    @app.step(effect="pure")
    async def two() -> int:
        made.append("two")
        return 2

    @app.step(effect="effect")
    async def pay() -> int:
        return 3

    app.workflow("w").wait_signal("go").step(one, after="go").step(two, after="one").step(pay, after="two")
    async with app.engine("memory:") as engine:
        for n in range(2):
            started = await engine.runs.start("w", {})
            base = (await engine.patches.graph(started.id)).digest
            made.clear()
            with pytest.raises(InvalidPatch) as caught:
                await engine.patches.propose(started.id, [policy("pay")], base=base, by="ada")
            assert "graph.cache" in {problem.code for problem in caught.value.problems}
            await engine.patches.propose(started.id, [policy("one", "g"), policy("two", "g")], base=base, by="ada")
            await engine.runs.signal(started.id, "go", None)
            view = await engine.runs.get(started.id, wait_s=10)
            assert view.status == "completed"
            assert made == (["one", "two"] if n == 0 else [])
