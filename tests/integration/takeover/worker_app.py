"""The app that the workers of these tests serve; every step tells the test where it is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import msgspec

from tenuto import App, Context

app = App("takeover")


def _address() -> tuple[str, int]:
    host, _, port = os.environ["TENUTO_TEST_STAGE"].rpartition(":")
    return host, int(port)


def _line(name: str, pid: int, facts: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"name": name, "pid": pid, **facts}) + b"\n"


async def visit(name: str, **facts: Any) -> Any:
    """Tell the test, and wait for its answer."""
    reader, writer = await asyncio.open_connection(*_address())
    try:
        writer.write(_line(name, os.getpid(), facts))
        return msgspec.json.decode(await reader.readline())
    finally:
        writer.close()


def visit_blocking(name: str, pid: int, **facts: Any) -> Any:
    """The same from a process of its own."""
    with socket.create_connection(_address()) as link, link.makefile("rb") as answers:
        link.sendall(_line(name, pid, facts))
        return msgspec.json.decode(answers.readline())


@app.step
async def before(ctx: Context) -> str:
    return "before"


@app.step
async def work(ctx: Context) -> dict[str, Any]:
    async def pay() -> int:
        return await visit("pay")

    paid = await ctx.call(pay)
    answer = await visit("inside", attempt=ctx.attempt)
    return {"paid": paid, "answer": answer, "attempt": ctx.attempt}


@app.step
def deadly(run: str) -> str:
    if visit_blocking("deadly", os.getpid()) != "live":
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@app.step(isolation="process")
def apart(index: int) -> int:
    visit_blocking("apart", os.getppid(), index=index)
    return index * index


app.workflow("w").step(before, id="before").step(work, id="work", after="before")
app.workflow("deadly").step(deadly, id="deadly", input={"run": "${run.id}"})
app.workflow("spread").map("m", over="${input.n}", body=app.body().step(apart, id="apart", input={"index": "${item}"}))
