"""An app whose steps do what steps should not: for the tests of faults and of surfaces."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tenuto import App, Context

app = App("odd")


@app.step
def fine(value: Any = None) -> dict[str, Any]:
    """Do nothing wrong."""
    return {"ok": True, "value": value}


app.step(name="noop")(fine)


@app.step
def unserialisable() -> Any:
    """Return what has no JSON form."""
    return {"a socket": object()}


@app.step
def raises() -> None:
    """Raise."""
    raise RuntimeError("the bottom fell out")


@app.step(timeout_s=0.3)
async def hangs() -> None:
    """Never return."""
    await asyncio.Event().wait()


@app.step
def dies() -> None:
    """Take the process down."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.step(isolation="process")
def dies_apart() -> None:
    """Take a process of its own down."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.step
def exits() -> None:
    """Ask Python to end."""
    raise SystemExit(3)


@app.step
def huge() -> str:
    """Return 50 MB."""
    return "x" * (50 * 1024 * 1024)


@app.step
def secret_in(password: str) -> dict[str, int]:
    """Take a secret."""
    return {"length": len(password)}


@app.step
def noted(path: str, line: str = "x") -> dict[str, bool]:
    """Write a line to a file, as an effect that can be counted."""
    with Path(path).open("a", encoding="utf-8") as out:
        out.write(line + "\n")
    return {"noted": True}


@app.step
async def holds(path: str) -> str:
    """Wait until a file exists."""
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "released"


@app.step
def until_file(path: str) -> str:
    """Fail until a file exists."""
    if not Path(path).exists():
        raise RuntimeError(f"{path} is not there")
    return "found"


@app.tool(effect="idempotent")
async def buy(made: str, gate: str, n: int) -> int:
    """Write down that it was called, and wait until it may end."""
    noted(made, str(n))
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return n


@app.step
async def converse(ctx: Context, made: str, gate: str) -> int:
    """Make four calls, one after the other; the third is held."""

    async def ask(n: int) -> int:
        if n == 2:
            noted(made, "begun-2")
            while not Path(gate).exists():
                await asyncio.sleep(0.01)
        noted(made, f"call-{n}")
        return n

    return sum([await ctx.call(ask, n) for n in range(4)])


@app.step
def count(n: int = 0) -> dict[str, int]:
    """Count one more."""
    return {"n": n + 1}


ODD = ("unserialisable", "raises", "hangs", "exits", "huge", "dies_apart")
for _name in (*ODD, "dies"):
    app.workflow(_name).step(_name, id="odd").step(fine, id="other").step(fine, id="last", after="other")
app.workflow("fine").step(fine, id="a").step(fine, id="b", after="a").step(fine, id="c", after="b")
app.workflow("secretive").step(secret_in)
app.workflow("held").step(fine, id="first").step(holds, input={"path": "${input.path}"}, after="first").step(
    fine, id="end", after="holds"
)
(
    app.workflow("asks")
    .step(fine, id="first")
    .approval("ask", "May it?", after="first")
    .step(fine, id="yes", after="ask")
    .step(fine, id="no")
    .edge("ask", "no", on="rejected")
)
app.workflow("mends").step(until_file, input={"path": "${input.path}"}).step(fine, id="end", after="until_file")
app.workflow("notes").step(noted, id="one").step(noted, id="two", after="one").step(noted, id="three", after="two")
app.workflow("spends").map(
    "each", over=list(range(10)), concurrency=10,
    body=app.body().tool(buy, args={"made": "${input.made}", "gate": "${input.gate}", "n": "${item}"}),
)
app.workflow("converses").step(converse, input={"made": "${input.made}", "gate": "${input.gate}"})
app.workflow("long").transform("loop", "{'n': iteration}").transform(
    "end", template={"n": "${nodes.loop.output.n}"}, after="loop"
).edge("loop", "loop", when="output.n < input.n", max_iterations=10000)
