"""The code of simulated steps: quick, slow, failing, with effects, with durable calls. All of it asks the world."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from tenuto.domain.runs.events import Charge
from tenuto.runtime.tools.call import call_tool
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.worker.context import Context
from tenuto.sdk.app import App
from tenuto.testing.simulation_money import BOUND, PROVIDER
from tenuto.testing.simulation_world import WORLD

app = App("simulation")


def _note(ctx: Context) -> int:
    world = WORLD.get()
    world.executed[ctx.run_id, ctx.step] += 1
    return world.executed[ctx.run_id, ctx.step]


@app.step
async def work(ctx: Context) -> dict[str, Any]:
    """Take a moment; the result says which node it was."""
    _note(ctx)
    await WORLD.get().think()
    return {"v": ctx.node}


@app.step
async def echo(ctx: Context) -> Any:
    """Return the input."""
    _note(ctx)
    await WORLD.get().think(0.1)
    return ctx.input


@app.step
def plain() -> dict[str, Any]:
    """Return at once, without the engine."""
    return {"v": "plain"}


@app.step
async def slow(ctx: Context) -> dict[str, Any]:
    """Take seconds."""
    _note(ctx)
    await asyncio.sleep(1.5 + WORLD.get().random.random() * 2)
    return {"v": ctx.node}


@app.step
async def slow_echo(ctx: Context) -> Any:
    """Take seconds, and return the input."""
    _note(ctx)
    await asyncio.sleep(1.5 + WORLD.get().random.random() * 2)
    return ctx.input


@app.step
async def flaky_echo(ctx: Context) -> Any:
    """Fail twice, then return the input."""
    nth = _note(ctx)
    await WORLD.get().think(0.2)
    if nth <= 2:
        raise RuntimeError(f"not yet ({nth})")
    return ctx.input


@app.step
async def patches(ctx: Context) -> dict[str, Any]:
    """Put a node behind this one while it runs; every attempt, and every pass of a loop, asks for the same."""
    _note(ctx)
    await WORLD.get().think(0.2)
    extra = {"id": "extra", "kind": "function", "config": {"handler": "work"}}
    operations = [
        {"op": "add", "path": "/nodes/0", "value": extra},
        {"op": "add", "path": "/edges/0", "value": {"from": ctx.node, "to": "extra"}},
    ]
    told = await ctx.propose_patch(operations, reason="more to do")
    return {"v": ctx.node, "told": told["status"]}


@app.step
async def flaky(ctx: Context) -> dict[str, Any]:
    """Fail twice, then work."""
    nth = _note(ctx)
    await WORLD.get().think(0.2)
    if nth <= 2:
        raise RuntimeError(f"not yet ({nth})")
    return {"v": "flaky"}


@app.step
async def broken(ctx: Context) -> dict[str, Any]:
    """Fail always."""
    _note(ctx)
    await WORLD.get().think(0.2)
    raise RuntimeError("broken")


@app.step
async def repairable(ctx: Context) -> dict[str, Any]:
    """Fail until a person has repaired what the run needs."""
    _note(ctx)
    world = WORLD.get()
    await world.think(0.2)
    if ctx.run_id not in world.fixed:
        raise RuntimeError("not repaired")
    return {"v": "repaired"}


@app.step
async def odd(ctx: Context) -> dict[str, Any]:
    """Fail for items that are odd."""
    _note(ctx)
    await WORLD.get().think(0.2)
    if ctx.input["item"] % 2:
        raise RuntimeError("odd")
    return {"v": ctx.input["item"]}


@app.step
async def double(ctx: Context) -> dict[str, Any]:
    """Double an item."""
    _note(ctx)
    await WORLD.get().think(0.3)
    return {"v": ctx.input["item"] * 2}


@app.step
async def large(ctx: Context) -> dict[str, Any]:
    """Return more than fits into a record."""
    _note(ctx)
    await WORLD.get().think(0.1)
    return {"text": ctx.node * 6000, "n": 7}


@app.step
async def hangs(ctx: Context) -> dict[str, Any]:
    """Never return the first time."""
    nth = _note(ctx)
    if nth == 1:
        await asyncio.sleep(10_000)
    await WORLD.get().think(0.2)
    return {"v": "awake"}


@app.step
async def effect(ctx: Context) -> dict[str, Any]:
    """Have one effect under the step's key."""
    _note(ctx)
    await WORLD.get().apply(ctx.key)
    return {"v": "done"}


@app.step
async def calls(ctx: Context) -> dict[str, Any]:
    """Mix durable calls, sleeps, effects and signals."""
    _note(ctx)
    world = WORLD.get()

    async def draw() -> int:
        return world.random.randrange(1_000_000)

    first = await ctx.call(draw)
    await ctx.sleep(0.5 + world.random.random())
    await ctx.perform("call", "pay", {"n": 1}, world.apply, key="pay", effect="effect", on_unknown="retry")
    second = await ctx.call(draw)
    note = await ctx.wait_signal("note")
    again = await ctx.call(draw, key="third")
    return {"first": first, "second": second, "third": again, "note": note}


@app.step
async def asks(ctx: Context) -> dict[str, Any]:
    """Make an effect that must be asked about when its outcome is lost, then ask a person."""
    _note(ctx)
    await ctx.perform("call", "wire", {"n": 2}, WORLD.get().apply, key="wire", effect="effect", on_unknown="ask")
    answer = await ctx.approve("Go on?")
    return {"approved": answer["approved"]}


@app.step
async def fans(ctx: Context) -> dict[str, Any]:
    """Make several calls at once, then wait and make one more."""
    _note(ctx)
    world = WORLD.get()

    async def square(x: int) -> int:
        await world.think(0.3)
        return x * x

    squares = await ctx.map(square, [1, 2, 3, 4])
    await ctx.sleep(0.3)
    return {"sum": sum(squares)}


@app.step
async def both(ctx: Context) -> dict[str, Any]:
    """Wait durably while an effect is made, both at once."""
    _note(ctx)
    made = ctx.perform("call", "send", {"n": 5}, WORLD.get().apply, key="send", effect="effect", on_unknown="retry")
    await asyncio.gather(ctx.sleep(1.0, key="nap"), made)
    await ctx.sleep(0.5, key="rest")
    return {"v": "both"}


@app.step
async def impatient(ctx: Context) -> dict[str, Any]:
    """Have an effect that hangs the first time, until the attempt's time is over."""
    nth = _note(ctx)
    world = WORLD.get()

    async def make(key: str) -> str:
        await world.apply(key)
        if nth == 1:
            await asyncio.sleep(10_000)
        return "ok"

    await ctx.perform("call", "slowpay", {"n": 3}, make, key="slowpay", effect="effect", on_unknown="retry")
    return {"v": "paid"}


@app.step
async def overspends(ctx: Context) -> dict[str, Any]:
    """Use more than was reserved."""
    _note(ctx)

    async def make(_: str) -> str:
        await WORLD.get().think(0.2)
        return "ok"

    await ctx.perform("model", "m", {"n": 4}, make, hold=Charge(tokens=10), used=lambda _: Charge(tokens=50))
    return {"v": "spent"}


@app.step
async def buys(ctx: Context) -> dict[str, Any]:
    """Buy four things from one shop, two of them at once, under caps that all runs share."""
    _note(ctx)
    world = WORLD.get()

    async def buy(n: int) -> Any:
        return await ctx.perform(
            "model", "m", {"n": n}, lambda key: world.buy(key, BOUND), key=f"buy{n}", slot=PROVIDER if n else "",
            effect="effect", on_unknown="retry", hold=Charge(tokens=1, cost_usd_micros=BOUND),
            used=lambda price: Charge(tokens=1, cost_usd_micros=price),
        )

    await buy(0)
    await asyncio.gather(buy(1), buy(2))
    await ctx.sleep(0.3, key="rest")
    await buy(3)
    return {"v": "bought"}


@app.tool(effect="effect", unknown="retry")
async def charge(amount: int, idempotency_key: str) -> dict[str, Any]:
    """Charge a card."""
    await WORLD.get().apply(idempotency_key)
    return {"charged": amount}


@app.step
async def spends(ctx: Context) -> dict[str, Any]:
    """Charge three cards at once, as far as the budget goes."""
    _note(ctx)
    made = [call_tool(ctx, catalog(), "charge", {"amount": n}, key=f"c{n}") for n in range(3)]
    await asyncio.gather(*made)
    return {"v": "spent"}


@cache
def catalog() -> Catalog:
    """Return all of the above."""
    return app.catalog()
