"""Sending a failed map round again: what is done stays done."""

from __future__ import annotations

import asyncio
from collections import Counter

from tenuto import App, Context, Engine, Permanent
from tenuto.domain.runs.views import RunView


async def ended(engine: Engine, run: str, status: str) -> RunView:
    while (view := await engine.runs.get(run, wait_s=20)).status != status:
        await asyncio.sleep(0)
    return view


async def test_a_redriven_map_makes_only_the_items_that_were_not_done():
    app = App("t")
    made: Counter[int] = Counter()
    calls: list[int] = []
    attempts: list[int] = []
    broken = [True]

    @app.step
    async def work(ctx: Context, value: int) -> int:
        async def pay() -> int:
            calls.append(value)
            return value

        made[value] += 1
        paid = await ctx.call(pay)
        if value == 1 and broken[0]:
            raise Permanent("no")
        if value == 1:
            attempts.append(ctx.attempt)
        return paid * 10

    flow = app.workflow("w")
    flow.map("m", over="${input.values}", body=app.body().step(work, id="work", input={"value": "${item}"}),
             concurrency=1)
    async with app.engine("memory:") as engine:
        started = await engine.runs.start("w", {"values": [0, 1, 2]})
        await ended(engine, started.id, "failed")
        broken[0] = False
        (letter,) = (await engine.dead_letters.list()).items
        await engine.dead_letters.redrive(letter.id)
        view = await ended(engine, started.id, "completed")
        checked = await engine.audit.verify(started.id)
    assert view.output == {"m": [0, 10, 20]}
    assert made == {0: 1, 1: 2, 2: 1}
    assert calls == [0, 1, 2]
    assert attempts == [2]
    assert checked.violations == []


async def test_items_with_several_steps_begin_anew_when_they_were_not_done():
    app = App("t")
    broken = [True]
    made: Counter[str] = Counter()

    @app.step
    async def first(value: int) -> int:
        made[f"first {value}"] += 1
        return value + 1

    @app.step
    async def second(value: int) -> int:
        if broken[0] and value == 2:
            raise Permanent("no")
        made[f"second {value}"] += 1
        return value * 10

    body = app.body().step(first, id="first", input={"value": "${item}"})
    body.step(second, id="second", input={"value": "${nodes.first.output}"}, after="first")
    app.workflow("w").map("m", over="${input.values}", body=body, concurrency=1)
    async with app.engine("memory:") as engine:
        started = await engine.runs.start("w", {"values": [0, 1, 2]})
        await ended(engine, started.id, "failed")
        broken[0] = False
        (letter,) = (await engine.dead_letters.list()).items
        await engine.dead_letters.redrive(letter.id)
        view = await ended(engine, started.id, "completed")
        checked = await engine.audit.verify(started.id)
    assert view.output == {"m": [10, 20, 30]}
    assert made == {"first 0": 1, "second 1": 1, "first 1": 2, "second 2": 1, "first 2": 1, "second 3": 1}
    assert checked.violations == []
