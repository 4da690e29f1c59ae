"""Runs from start to end through the public Python API, on every store."""

from __future__ import annotations

import asyncio
from typing import Any

import tenuto
from tenuto import App, Budget, Context, Permanent, Retry


async def end(engine: tenuto.Engine, run_id: str) -> Any:
    return await engine.runs.get(run_id, wait_s=20)


async def test_a_run_of_three_steps_completes_with_its_output(url: str):
    app = App("t")

    @app.step
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @app.step
    def double(value: int) -> dict[str, int]:
        return {"twice": value * 2}

    flow = app.workflow("sum")
    flow.step(add, id="add").step(double, id="double", input={"value": "${nodes.add.output}"}).edge("add", "double")
    async with app.engine(url) as engine:
        started = await engine.runs.start("sum", {"a": 4})
        view = await end(engine, started.id)
    assert view.status == "completed"
    assert view.output == {"double": {"twice": 10}}


async def test_finished_calls_are_not_repeated_by_a_retry(url: str):
    app = App("t")
    made: list[str] = []

    async def pay() -> str:
        made.append("pay")
        return "paid"

    @app.step(retry=Retry(attempts=3, backoff_s=0.01))
    async def work(ctx: Context) -> dict[str, Any]:
        receipt = await ctx.call(pay)
        await ctx.sleep(0.01)
        if ctx.attempt < 3:
            raise RuntimeError("later")
        return {"receipt": receipt, "attempt": ctx.attempt}

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {})
        view = await end(engine, started.id)
    assert view.output == {"work": {"receipt": "paid", "attempt": 3}}
    assert made == ["pay"]


async def test_a_parked_run_is_evicted_and_goes_on_after_its_signal(url: str):
    app = App("t")
    entered: list[int] = []

    @app.step
    async def wait(ctx: Context) -> Any:
        entered.append(1)
        return await ctx.wait_signal("go")

    app.workflow("w").step(wait, id="wait")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {})
        while (await engine.runs.get(started.id)).status != "waiting":
            await asyncio.sleep(0)
        await engine.runs.signal(started.id, "go", {"x": 1})
        view = await end(engine, started.id)
    assert view.output == {"wait": {"x": 1}}
    assert len(entered) == 2


async def test_an_approval_holds_the_run_and_a_decision_moves_it(url: str):
    app = App("t")
    flow = app.workflow("w")
    flow.approval("ask", message="Pay ${input.amount}?").transform("yes", template="paid").edge("ask", "yes")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {"amount": 5})
        while not (found := (await engine.tickets.list(state="open")).items):
            await asyncio.sleep(0)
        assert found[0].message == "Pay 5?"
        await engine.tickets.decide(found[0].id, "approve", reason="fine", by="ann")
        view = await end(engine, started.id)
    assert view.status == "completed"
    assert view.output == {"yes": "paid"}


async def test_a_sub_flow_runs_as_a_run_of_its_own(url: str):
    app = App("t")

    @app.step
    async def inner(n: int) -> int:
        return n + 1

    app.workflow("child").step(inner, id="inner")
    app.workflow("parent").subflow("sub", "child", input={"n": "${input.n}"})
    async with app.engine(url) as engine:
        started = await engine.runs.start("parent", {"n": 1})
        view = await end(engine, started.id)
    assert view.output == {"sub": {"inner": 2}}


async def test_a_token_cap_halts_the_run_before_the_call_that_would_pass_it(url: str):
    app = App("t")
    calls: list[int] = []

    @app.tool(effect="idempotent")
    async def search(query: str) -> str:
        calls.append(1)
        return query

    @app.step
    async def again(ctx: Context) -> int:
        return 1

    flow = app.workflow("w").budget(per_tool={"search": 2})
    for name in "abc":
        flow.tool(search, id=name, input={"query": "q"})
    flow.edge("a", "b").edge("b", "c")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {})
        view = await end(engine, started.id)
    assert view.status == "budget_exceeded"
    assert "per_tool.search" in str(view.error)
    assert len(calls) == 2


async def test_ten_thousand_items(url: str):
    app = App("t")

    @app.step
    async def square(item: int) -> int:
        return item * item

    @app.step
    async def total(values: list[int]) -> int:
        return sum(values)

    flow = app.workflow("w")
    flow.map("m", over="${input.n}", body=app.body().step(square, id="square", input={"item": "${item}"}))
    flow.step(total, id="total", input={"values": "${nodes.m.output}"}).edge("m", "total")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {"n": list(range(10_000))})
        view = await engine.runs.get(started.id, wait_s=60)
    assert view.output == {"total": sum(i * i for i in range(10_000))}


async def test_a_permanent_failure_is_listed_as_a_dead_letter_and_redriven(url: str):
    app = App("t")
    broken = [True]

    @app.step
    async def work() -> str:
        if broken[0]:
            raise Permanent("no disk")
        return "ok"

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {})
        assert (await end(engine, started.id)).status == "failed"
        dead = (await engine.dead_letters.list()).items
        assert [d.step for d in dead] == ["work"]
        broken[0] = False
        await engine.dead_letters.redrive(dead[0].id)
        while (view := await engine.runs.get(started.id)).status != "completed":
            await asyncio.sleep(0)
    assert view.output == {"work": "ok"}


async def test_a_cancel_reaches_code_that_runs(url: str):
    app = App("t")
    reached: list[str] = []

    @app.step
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reached.append("cancelled")
            raise

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {})
        while not (await engine.runs.get(started.id)).steps:
            await asyncio.sleep(0)
        await engine.runs.cancel(started.id, reason="enough")
        view = await end(engine, started.id)
    assert view.status == "cancelled"
    assert reached == ["cancelled"]


async def test_a_wall_clock_cap_ends_the_run(url: str):
    app = App("t")

    @app.step
    async def work() -> None:
        await asyncio.Event().wait()

    app.workflow("w").step(work, id="work")
    async with app.engine(url) as engine:
        started = await engine.runs.start("w", {}, budget=Budget(wall_clock_s=0.3))
        view = await end(engine, started.id)
    assert view.status == "budget_exceeded"
    assert "wall_clock_s" in str(view.error)
