"""What the steps and tools of the chaos run do: a little work that the ledger sees, with failures and deaths."""

from __future__ import annotations

import os
import signal
from typing import Any

from tenuto.bundled.chaos.outside import ask, ask_blocking, facts, record, stumble, stumble_in
from tenuto.errors import Permanent
from tenuto.runtime.worker.context import Context

EFFECT_MS = 400
"""How long an effect waits for its answer: long enough to be stopped or killed meanwhile."""


async def bump(ctx: Context, n: int) -> int:
    """Add one."""
    await record(ctx, "step")
    stumble_in(ctx)
    return n + 1


async def take_time(ctx: Context, n: int) -> int:
    """Add one, slowly."""
    await record(ctx, "step", hold_ms=700)
    stumble_in(ctx)
    return n + 1


async def item(ctx: Context, value: int) -> int:
    """Square an item; some can never succeed."""
    await record(ctx, "step")
    if value % 5 == 3:
        raise Permanent(f"item {value} is bad")
    stumble_in(ctx)
    return value * value


async def broken(ctx: Context) -> int:
    """Fail for good."""
    await record(ctx, "step")
    raise Permanent("this never works")


def threaded(ctx: Any, n: int) -> int:
    """Add one, on a thread."""
    ask_blocking(**facts("step", ctx.key, run=ctx.run_id, step=ctx.step, attempt=ctx.attempt, hold_ms=100))
    stumble_in(ctx)
    return n + 1


def crunch(value: int, run: str, index: int) -> int:
    """Square an item in a process of its own."""
    key = f"{run}/crunch/{index}"
    tries = ask_blocking(op="try", key=key)["tries"]
    ask_blocking(**facts("step", key, run=run, hold_ms=150))
    stumble(tries, key)
    return value * value


async def calls(ctx: Context) -> dict[str, Any]:
    """Make calls of every sort; each returns its position in the ledger, so a repeated one would show."""

    async def first() -> int:
        return await record(ctx, "call", "first")

    async def second() -> int:
        return await record(ctx, "call", "second", hold_ms=150)

    async def part(index: int) -> int:
        return await record(ctx, "call", f"parts[{index}]")

    async def charge() -> int:
        return await record(ctx, "effect", "charge", hold_ms=EFFECT_MS)

    found: dict[str, Any] = {"first": await ctx.call(first)}
    await ctx.sleep(0.5)
    stumble_in(ctx)
    found["charge"] = await ctx.call(charge, effect="effect", on_unknown="ledger")
    found["second"] = await ctx.call(second)
    found["parts"] = await ctx.map(part, [0, 1, 2], key="parts")
    return found


async def hear(ctx: Context) -> list[Any]:
    """Wait for two signals and return what they carried, in order."""
    one = await ctx.wait_signal("go")
    await record(ctx, "step")
    stumble_in(ctx)
    two = await ctx.wait_signal("go")
    return [one, two]


async def never(ctx: Context) -> Any:
    """Wait for a signal nobody sends."""
    await record(ctx, "step")
    return await ctx.wait_signal("never")


async def consent(ctx: Context) -> str:
    """Ask a person from within the code."""
    answer = await ctx.approve("May the chaos go on?")
    await record(ctx, "step")
    stumble_in(ctx)
    return str(answer["decision"])


async def ship(ctx: Context, order: str) -> dict[str, str]:
    """Have an effect as a step: not known to be repeatable."""
    stumble_in(ctx)
    await record(ctx, "effect", hold_ms=EFFECT_MS)
    return {"receipt": ctx.key, "order": order}


def poison(run: str) -> str:
    """Kill the process it runs in, until somebody mends it."""
    if not ask_blocking(op="mended", run=run)["mended"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "cured"


async def venom(ctx: Context) -> str:
    """Kill the worker itself every time, until somebody mends it: it cannot run elsewhere."""
    if not (await ask(op="mended", run=ctx.run_id))["mended"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "cured"


# --- tools -----------------------------------------------------------------------------------------------------


async def _pay(idempotency_key: str) -> dict[str, str]:
    run, step, call = idempotency_key.split("/", 2)
    tries = (await ask(op="try", key=idempotency_key))["tries"]
    stumble(tries + 1, idempotency_key)
    await ask(**facts("effect", idempotency_key, run=run, step=step, call=call, hold_ms=EFFECT_MS))
    return {"receipt": idempotency_key}


async def pay_again(order: str, idempotency_key: str) -> dict[str, str]:
    """Pay at a bank that knows keys: asking twice pays once."""
    return await _pay(idempotency_key)


async def pay_ask(order: str, idempotency_key: str) -> dict[str, str]:
    """Pay at a bank where a person has to look."""
    return await _pay(idempotency_key)


async def pay_hook(order: str, idempotency_key: str) -> dict[str, str]:
    """Pay at a bank that can be asked what became of a payment."""
    return await _pay(idempotency_key)


async def search(query: str) -> str:
    """Look something up."""
    return query


async def outcome(key: str) -> Any:
    """Ask the ledger what became of an effect."""
    found = await ask(op="status", key=key)
    if not found["times"]:
        return "retry"
    return "succeeded", ({"receipt": key} if "/pay" in key else found["seq"])
