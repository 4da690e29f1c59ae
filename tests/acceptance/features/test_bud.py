"""Budgets: caps that halt a run before the call that would pass them, and money that adds up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from features.harness import Gate, ended, events, ran, seen, served, statuses, steps, types
from tenuto import App, Budget, Context
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.errors import RunMissing
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.wiring import WorkerOptions


class Priced(ScriptedModel):
    """A model that costs a fixed number of tokens and money, and may ask for more than it uses."""

    def __init__(self, tokens: int, cost: int = 0, bound: tuple[int, int] | None = None) -> None:
        """Use so much for each request."""
        super().__init__(lambda _: ModelReply(content="ok", input_tokens=tokens, cost_usd_micros=cost))
        self._bound = bound or (tokens, cost)

    def bound(self, request: ModelRequest) -> tuple[int, int]:
        """Return what a request may cost at most."""
        return self._bound


def counted(app: App, name: str = "search", gate: Gate | None = None) -> list[str]:
    """Register a tool; return its calls."""
    calls: list[str] = []

    @app.tool(name=name, effect="idempotent")
    async def search() -> str:
        calls.append(name)
        if gate is not None:
            await gate()
        return name

    return calls


def chain(app: App, name: str, n: int, tool: str = "search") -> Any:
    """Add a workflow that calls a tool n times in a row."""
    flow = app.workflow(name)
    for i in range(n):
        flow.tool(tool, id=f"t{i}", args={}, after=f"t{i - 1}" if i else ())
    return flow


async def test_bud01_a_token_cap_halts_the_run_and_is_named(both_url: str):
    app, model = App("t"), Priced(100)
    app.model("m:x", model)
    flow = app.workflow("w").budget(tokens=250)
    for i in range(4):
        flow.agent(f"a{i}", model="m:x", prompt="p", after=f"a{i - 1}" if i else ())
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w")
        last = (await types(engine, view.id))[-1]
    assert (view.status, last, len(model.requests)) == ("budget_exceeded", "run.budget_exceeded", 2)
    assert view.error is not None
    assert "tokens" in view.error.message
    assert "250" in view.error.message
    assert view.budget.spent["tokens"] == 200
    assert [steps(view)[f"a{i}"].status for i in range(2)] == ["completed"] * 2


async def test_bud01_equality_is_allowed():
    app, model = App("t"), Priced(100)
    app.model("m:x", model)
    app.workflow("w").budget(tokens=100).agent("a", model="m:x", prompt="p")
    async with app.engine("memory:") as engine:
        assert (await ran(engine, "w")).status == "completed"


async def test_bud01_a_tool_cap_halts_the_run():
    app = App("t")
    calls = counted(app)
    chain(app, "w", 5).budget(tool_calls=3)
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert (view.status, len(calls)) == ("budget_exceeded", 3)
    assert "tool_calls" in view.error.message


async def test_bud01_the_wall_clock_cuts_calls_in_flight(both_url: str):
    app, gate = App("t"), Gate()
    counted(app, gate=gate)
    chain(app, "w", 2).budget(wall_clock_s=0.2)
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w")
    assert (view.status, gate.cancelled) == ("budget_exceeded", 1)
    assert "wall_clock_s" in view.error.message
    assert statuses(view)["t0"] == "cancelled"


async def test_bud01_a_breach_aborts_what_is_in_flight():
    app, gate = App("t"), Gate()
    counted(app, gate=gate)
    counted(app, "other")
    flow = app.workflow("w").budget(tool_calls=1).tool("search", id="slow", args={})
    flow.wait_signal("go", id="go").tool("other", id="other", args={}, after="go")
    async with app.engine("memory:") as engine:
        run_id = (await engine.runs.start("w", {})).id
        await gate.wait()
        await engine.runs.signal(run_id, "go")
        await seen(engine, run_id, lambda e: e.type == "step.started" and e.step == "other")
        assert (await engine.runs.get(run_id)).status == "running"  # held: the first call may still give its money back
        await engine.runs.cancel(run_id)
        await ended(engine, run_id)
    assert gate.cancelled == 1


async def test_bud02_the_cap_of_one_tool_stops_the_run_although_others_have_room():
    app = App("t")
    calls = counted(app)
    chain(app, "w", 4).budget(tool_calls=100, per_tool={"search": 2})
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert (view.status, len(calls)) == ("budget_exceeded", 2)
    assert "per_tool.search" in view.error.message
    assert view.budget.spent["per_tool"] == {"search": 2}


async def test_bud02_a_tool_cap_holds_without_a_cap_on_all_tools():
    app = App("t")
    calls = counted(app)
    chain(app, "w", 4).budget(per_tool={"search": 0})
    async with app.engine("memory:") as engine:
        assert (await ran(engine, "w")).status == "budget_exceeded"
    assert calls == []


async def test_bud03_the_call_that_would_pass_a_cap_never_reaches_its_handler(sqlite_url: str):
    app = App("t")
    calls = counted(app)
    chain(app, "w", 2).budget(tool_calls=1)
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w")
        intended = [e.step for e in await events(engine, view.id) if e.type == "call.started"]
    assert len(calls) == 1
    assert intended == ["t0"]


async def test_bud05_calls_at_once_never_pass_a_cap(both_url: str):
    app, model = App("t"), Priced(60, bound=(100, 0))
    app.model("m:x", model)
    flow = app.workflow("w").budget(tokens=500)
    for i in range(20):
        flow.agent(f"a{i}", model="m:x", prompt="p")
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w")
        told = await events(engine, view.id)
    spent = held = 0
    for event in told:
        if event.type == "call.started":
            held += event.data["reserved"]["tokens"]
        elif event.type == "call.completed":
            spent, held = spent + event.data["used"]["tokens"], held - 100
        assert spent + held <= 500 or event.type == "call.unknown"
    assert view.status == "budget_exceeded"
    assert view.budget.spent["tokens"] <= 500
    assert len(model.requests) in (7, 8)


async def test_bud05_a_call_waits_for_money_that_may_come_back():
    app, gate, model = App("t"), Gate(), Priced(10, bound=(90, 0))
    app.model("m:x", model)

    @app.step
    async def hold() -> None:
        await gate()

    flow = app.workflow("w").budget(tokens=100)
    for i in range(5):
        flow.agent(f"a{i}", model="m:x", prompt="p")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    # 10 of 90 are used each time: two fit one after the other, the third asks for more than is left.
    assert view.status == "budget_exceeded"
    assert view.budget.spent["tokens"] == 20
    assert view.budget.reserved.get("tokens", 0) == 0


async def test_bud05_money_is_counted_to_the_millionth():
    app, model = App("t"), Priced(1, cost=333_333)
    app.model("m:x", model)
    flow = app.workflow("w").budget(cost_usd=1.0)
    for i in range(4):
        flow.agent(f"a{i}", model="m:x", prompt="p", after=f"a{i - 1}" if i else ())
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert (view.status, len(model.requests)) == ("budget_exceeded", 3)
    assert view.budget.spent["cost_usd_micros"] == 999_999
    assert "cost_usd_micros" in view.error.message


async def test_bud05_use_above_its_bound_is_an_overrun_that_halts():
    app = App("t")
    app.model("m:x", Priced(300, bound=(100, 0)))
    app.workflow("w").budget(tokens=200).agent("a", model="m:x", prompt="p").transform("after", value="1").edge("a", "after")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
        told = await events(engine, view.id)
    assert view.status == "budget_exceeded"
    assert view.budget.spent["tokens"] == 300
    assert view.budget.overrun["tokens"] == 100
    assert any(event.type == "run.budget_overrun" for event in told)


async def test_bud08_a_cap_met_in_a_loop_keeps_what_was_done_and_a_raised_cap_goes_on(both_url: str, tmp_path: Path):
    app = App("t")
    calls = counted(app)
    flow = app.workflow("w").budget(tool_calls=3)
    flow.tool("search", id="try", args={}).edge("try", "try", when="iteration < 5", max_iterations=9)
    flow.transform("end", value="'end'").edge("try", "end", when="iteration >= 5")
    async with served(app, both_url, tmp_path) as (engine, client):
        view = await ran(engine, "w")
        assert view.status == "budget_exceeded"
        done = [step for step in view.steps if step.status == "completed"]
        assert [step.output for step in done] == ["search"] * 3
        answer = await client.post(f"/runs/{view.id}/resume", json={"budget": {"tool_calls": 10}})
        assert answer.status_code == 202, answer.text
        await seen(engine, view.id, "run.completed")
        view = await ended(engine, view.id)
    assert (view.status, view.output) == ("completed", {"end": "end"})
    assert len(calls) == 5
    assert view.budget.spent["tool_calls"] == 5


async def test_bud14_high_goes_before_medium_before_low_and_no_more_at_once_than_allowed(sqlite_url: str):
    app, order, now, most = App("t"), [], [0], [0]

    @app.step
    async def work(n: str) -> None:
        order.append(n)
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0)
        now[0] -= 1

    app.workflow("w").step(work)
    async with app.engine(sqlite_url, worker=False) as client:
        ids = []
        for _ in range(4):
            for priority in ("low", "medium", "high"):
                ids.append((await client.runs.start("w", {"n": priority}, priority=priority)).id)
        async with app.engine(sqlite_url, options=WorkerOptions(concurrency=2, max_runs=2)):
            for run_id in ids:
                await ended(client, run_id)
    assert sorted(order, key=["high", "medium", "low"].index) == order
    assert most[0] <= 2


async def test_bud15_a_node_whose_tool_cap_is_used_up_asks_no_model(both_url: str):
    app, model = App("t"), ScriptedModel()
    app.model("m:x", model)
    calls = counted(app)
    flow = app.workflow("w").budget(per_tool={"search": 1}).tool("search", id="first", args={})
    flow.agent("think", model="m:x", prompt="p", tools=["search"], after="first")
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w")
    assert view.status == "budget_exceeded"
    assert "per_tool.search" in view.error.message
    assert (len(calls), model.requests) == (1, [])


async def test_bud15_a_node_whose_token_cap_is_used_up_asks_no_model():
    app, model = App("t"), Priced(100)
    app.model("m:x", model)
    app.workflow("w").budget(tokens=100).agent("a", model="m:x", prompt="p").agent("b", model="m:x", prompt="p", after="a")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert (view.status, len(model.requests)) == ("budget_exceeded", 1)
    assert view.error.message.startswith("tokens")


# --- stops and resumes of runs with structure ---------------------------------------------------------------------


def structured(app: App, gate: Gate) -> list[str]:
    """Add a workflow of a map, a loop and a sub-flow, all held at a gate; return what was done."""
    done: list[str] = []

    @app.step
    async def item(ctx: Context, item: int) -> int:
        if item == 2:
            await gate()
        done.append(f"item {item}")
        return item

    @app.step
    async def turn(ctx: Context, value: Any = None) -> str:
        if ctx.step.endswith(".2"):
            await gate()
        done.append(ctx.step)
        return ctx.step

    @app.step
    async def inner(ctx: Context) -> str:
        await gate()
        done.append("inner")
        return "inner"

    app.workflow("child").step(inner)
    flow = app.workflow("w")
    flow.map("m", over="[1, 2, 3, 4]", body=app.body().step(item, id="item", input={"item": "${item}"}), concurrency=2)
    flow.step(turn, id="turn").edge("turn", "turn", when="iteration < 3", max_iterations=5)
    flow.transform("left", value="'left'").edge("turn", "left", when="iteration >= 3")
    flow.subflow("sub", "child", input={})
    flow.join("end", after=["m", "left", "sub"])
    return done


EVERYTHING = {"inner", "item 1", "item 2", "item 3", "item 4", "turn~turn.1", "turn~turn.2", "turn~turn.3"}


async def _all_held(engine: Any, run_id: str, gate: Gate) -> str:
    """Wait until the map, the loop and the child are all at the gate; return the child's id."""
    child = (await seen(engine, run_id, "step.child_started")).data["child"]
    await seen(engine, run_id, lambda e: e.type == "step.started" and e.step == "turn~turn.2")
    await seen(engine, run_id, lambda e: e.type == "step.started" and e.step == "item~m.1")
    async with asyncio.timeout(20):
        while True:
            try:
                await seen(engine, child, "step.started")
                return child
            except RunMissing:  # it is made by a later transaction than its parent's record
                await asyncio.sleep(0)


async def test_bud01_a_wall_clock_breach_ends_children_too_and_a_raised_cap_goes_on(both_url: str):
    app, gate = App("t"), Gate()
    done = structured(app, gate)
    async with app.engine(both_url) as engine:
        run_id = (await engine.runs.start("w", {}, budget=Budget(wall_clock_s=1.5))).id
        child = await _all_held(engine, run_id, gate)
        view = await ended(engine, run_id)
        assert view.status == "budget_exceeded"
        below = await ended(engine, child)
        assert below.status in ("cancelled", "budget_exceeded")
        assert gate.cancelled == 3
        gate.open.set()
        await engine.runs.resume(run_id, budget=Budget(wall_clock_s=60))
        await seen(engine, run_id, "run.completed")
        view = await ended(engine, run_id)
    assert view.status == "completed", view.error
    assert set(done) == EVERYTHING
    assert len(done) == len(EVERYTHING)
    assert view.output["end"]["m"] == [1, 2, 3, 4]


async def test_dur23_a_cancel_ends_map_loop_and_child(both_url: str):
    app, gate = App("t"), Gate()
    done = structured(app, gate)
    async with app.engine(both_url) as engine:
        run_id = (await engine.runs.start("w", {})).id
        child = await _all_held(engine, run_id, gate)
        await engine.runs.cancel(run_id, reason="enough")
        assert (await ended(engine, run_id)).status == "cancelled"
        assert (await ended(engine, child)).status == "cancelled"
        verified = await engine.audit.verify(run_id)
        assert verified.ok, verified
    assert gate.cancelled == 3
    assert set(done) <= {"item 1", "turn~turn.1", "item 3", "item 4"}


async def test_dur23_a_pause_starts_nothing_new_and_a_resume_goes_on(both_url: str):
    app, gate = App("t"), Gate()
    done = structured(app, gate)
    async with app.engine(both_url) as engine:
        run_id = (await engine.runs.start("w", {})).id
        await _all_held(engine, run_id, gate)
        await engine.runs.pause(run_id)
        await seen(engine, run_id, "run.paused")
        started = (await types(engine, run_id)).count("step.started")
        gate.open.set()
        for step in ("item~m.1", "turn~turn.2", "sub"):
            await seen(engine, run_id, lambda e, step=step: e.type == "step.completed" and e.step == step)
        assert (await types(engine, run_id)).count("step.started") == started
        assert (await engine.runs.get(run_id)).status == "paused"
        await engine.runs.resume(run_id)
        await seen(engine, run_id, "run.completed")
        view = await ended(engine, run_id)
    assert view.status == "completed"
    assert set(done) == EVERYTHING
    assert len(done) == len(EVERYTHING)


@pytest.mark.parametrize("cap", ["tool_calls", "tokens"])
async def test_bud08_a_child_takes_from_its_parents_budget_and_gives_back(cap: str):
    app = App("t")
    calls = counted(app)
    model = Priced(10)
    app.model("m:x", model)
    inner = app.workflow("child")
    inner.tool("search", id="s", args={}).agent("a", model="m:x", prompt="p", after="s")
    flow = app.workflow("w").budget(tool_calls=3, tokens=30)
    flow.subflow("one", "child", input={}).subflow("two", "child", input={}, after="one").subflow("three", "child", input={}, after="two")
    flow.tool("search", id="more", args={}, after="three") if cap == "tool_calls" else flow.agent(
        "more", model="m:x", prompt="p", after="three"
    )
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert view.status == "budget_exceeded", view.error
    assert cap in view.error.message
    assert (view.budget.spent["tool_calls"], view.budget.spent["tokens"]) == (3, 30)
    assert (len(calls), len(model.requests)) == (3, 3)
