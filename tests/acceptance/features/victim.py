"""A process that starts runs and is killed inside all of them: `python victim.py URL LEDGER SCENARIO...`.

It prints the runs' ids, then `reached` from inside each step that never ends here. The same app goes on to the end in
the process of the test, where nothing hangs.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from features.harness import Ledger
from tenuto import App, Context, Retry
from tenuto.wiring import WorkerOptions

LEASE_MS = 3000
Hang = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Go on."""


def build(ledger: Ledger, hang: Hang = nothing) -> App:
    """Return the app of every scenario; `hang` is awaited at the place of the crash."""
    app = App("victim")

    @app.step
    async def before(ctx: Context) -> str:
        ledger.write("before")
        return "b"

    @app.step
    async def middle(ctx: Context) -> dict[str, object]:
        paid = await ctx.call(pay, key="pay")
        ledger.write("middle", key=ctx.key, attempt=ctx.attempt)
        await hang()
        return {"paid": paid, "attempt": ctx.attempt}

    async def pay() -> str:
        ledger.write("pay")
        return "receipt"

    @app.step
    async def after(ctx: Context) -> str:
        ledger.write("after")
        return "a"

    @app.tool(unknown="ask")
    async def send(idempotency_key: str) -> str:
        ledger.write("send", key=idempotency_key)
        await hang()
        return "sent"

    @app.tool(unknown="retry")
    async def resend(idempotency_key: str) -> str:
        ledger.write("resend", key=idempotency_key)
        await hang()
        return "sent"

    @app.tool(unknown="look")
    async def looked(idempotency_key: str) -> str:
        ledger.write("looked", key=idempotency_key)
        await hang()
        return "sent"

    @app.status_hook("look")
    async def look(key: str) -> object:
        ledger.write("asked", key=key)
        return ("succeeded", "found") if any(e.get("key") == key for e in ledger.read()) else "retry"

    @app.step(effect="effect")
    async def charge(ctx: Context) -> str:
        ledger.write("charge", key=ctx.key)
        await hang()
        return "charged"

    @app.step(effect="effect", on_unknown="retry")
    async def recharge(ctx: Context) -> str:
        ledger.write("recharge", key=ctx.key)
        await hang()
        return "charged"

    @app.step(effect="effect", on_unknown="look")
    async def seen(ctx: Context) -> str:
        ledger.write("seen", key=ctx.key)
        await hang()
        return "charged"

    @app.step(retry=Retry(attempts=1))
    async def stuck() -> str:
        ledger.write("stuck")
        await hang()
        return "moved"

    app.workflow("chain").step(before).then(middle).then(after)
    app.workflow("send").step(before).tool(send, args={}).edge("before", "send")
    app.workflow("resend").tool(resend)
    app.workflow("looked").tool(looked)
    app.workflow("charge").step(charge)
    app.workflow("recharge").step(recharge)
    app.workflow("seen").step(seen)
    app.workflow("stuck").step(stuck)
    return app


async def main(url: str, path: str, *scenarios: str) -> None:
    """Start runs and hang in all of them; the lease is short, so that nobody waits long for what is left behind."""
    told = asyncio.Event()

    async def reached() -> None:
        await told.wait()
        print("reached", flush=True)
        await asyncio.Event().wait()

    app = build(Ledger(Path(path)), reached)
    async with app.engine(url, options=WorkerOptions(lease_ms=LEASE_MS)) as engine:
        for scenario in scenarios:
            print((await engine.runs.start(scenario, {})).id, flush=True)
        told.set()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
