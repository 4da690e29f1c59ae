"""The four policies, seen from outside: what is computed, what is taken, what is kept, and what the journal says of it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tenuto import App, Retry
from tenuto.errors import InvalidGraph


def counting(policy: Any, **more: Any) -> tuple[App, list[Any]]:
    """Return an app whose one step says what it was given, and the list of what it was given."""
    app, made = App("t"), []

    @app.step(effect="pure")
    async def work(n: int = 0) -> dict[str, int]:
        made.append(n)
        return {"n": n, "calls": len(made)}

    app.workflow("w").step(work, id="work", cache=policy, **more)
    return app, made


async def run(engine: Any, given: Any, name: str = "w") -> tuple[Any, dict[str, Any]]:
    """Return a run's output and what the journal says the cache had to do with its steps, by step."""
    started = await engine.runs.start(name, given)
    view = await engine.runs.get(started.id, wait_s=15)
    assert view.status == "completed", view.error
    events = [event async for event in engine.history.stream(started.id)]
    done = {event.step: event.data.get("cache") for event in events if event.type == "step.completed"}
    return view.output, done


@pytest.mark.parametrize(("policy", "hows", "stored", "calls"), [
    ("off", [None, None], [None, None], 2),
    ("read_through", ["miss", "hit"], [True, False], 1),
    ("read_only", ["miss", "miss"], [False, False], 2),
    ("write_only", ["unread", "unread"], [True, True], 2),
])
async def test_a_policy_says_what_is_looked_for_and_what_is_kept(url: str, policy: str, hows: Any, stored: Any, calls: int):
    app, made = counting(policy)
    async with app.engine(url) as engine:
        seen = [(await run(engine, {"n": 3}))[1]["work"] for _ in range(2)]
    assert [one and one["how"] for one in seen] == hows
    assert [one and one.get("stored", False) for one in seen] == stored
    assert len(made) == calls


async def test_a_hit_costs_no_attempt_of_the_handler_and_says_what_it_saved(url: str):
    app = App("t")

    @app.step(effect="pure", cache="read_through")
    async def work(n: int) -> dict[str, Any]:
        return {"big": "x" * 20_000, "n": n}

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        first, _ = await run(engine, {"n": 1})
        again, said = await run(engine, {"n": 1})
        other, _ = await run(engine, {"n": 2})
    assert first == again != other
    assert said["work"]["how"] == "hit" and said["work"]["key"].startswith("sha256:")


async def test_a_thousand_items_that_are_the_same_compute_once(url: str):
    app, made = App("t"), []

    @app.step(effect="pure", cache="read_through")
    async def work(n: int) -> int:
        made.append(n)
        await asyncio.sleep(0)
        return n

    app.workflow("w").map("each", "${input.items}", work)
    async with app.engine(url) as engine:
        output, said = await run(engine, {"items": [{"n": 7}] * 1000})
    assert output == {"each": [7] * 1000}
    assert made == [7]
    hows = [one["how"] for step, one in said.items() if one]
    assert hows.count("miss") == 1 and hows.count("joined") + hows.count("hit") == 999


async def test_who_waits_does_not_fail_with_who_computes(url: str):
    app, made = App("t"), []

    @app.step(effect="pure", cache="read_through", retry=Retry(attempts=1))
    async def work(n: int) -> int:
        made.append(n)
        if len(made) == 1:
            raise RuntimeError("the first one fails")
        return n

    app.workflow("w").map("each", "${input.items}", work, on_failure="collect")
    async with app.engine(url) as engine:
        output, _ = await run(engine, {"items": [{"n": 7}] * 20})
    assert len(made) == 2
    assert sum(isinstance(item, dict) for item in output["each"]) == 1
    assert output["each"].count(7) == 19


@pytest.mark.parametrize("fault", [
    {"effect": "effect"}, {"effect": "idempotent"}, {},
])
async def test_what_is_not_sure_to_be_the_same_is_refused_with_the_reason(fault: dict[str, Any]):
    app = App("t")

    @app.step(**fault)
    async def work() -> int:
        return 1

    with pytest.raises(InvalidGraph) as caught:
        app.workflow("w").step(work, id="work", cache="read_through").build()
    [problem] = caught.value.problems
    assert problem.code == "graph.cache" and "declare the node 'pure'" in problem.hint


async def test_an_isolated_step_runs_in_its_process_and_is_kept(url: str):
    app = App("t")
    app.workflow("w").node("work", "function", handler="pid", effect="pure", isolation="process", cache="read_through")
    app.step(pid_of_mine, name="pid", effect="pure")
    async with app.engine(url) as engine:
        first, _ = await run(engine, {})
        again, said = await run(engine, {})
    assert first == again and first["work"] != os.getpid()
    assert said["work"]["how"] == "hit"


def pid_of_mine() -> int:
    return os.getpid()
