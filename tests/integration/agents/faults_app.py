"""The app that a worker serves while its models and tools fail; the model is told by the prompt what to do."""

from __future__ import annotations

import asyncio

from tenuto import App

app = App("faults")


@app.tool(effect="idempotent")
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@app.tool(effect="idempotent", timeout_s=0.2)
async def look() -> None:
    """Look something up, without an end."""
    await asyncio.Event().wait()


@app.tool(effect="effect", timeout_s=0.2)
async def pay() -> None:
    """Pay, without an end."""
    await asyncio.Event().wait()


for _name in ("busy", "cut", "malformed", "hang", "lost", "echo"):
    app.workflow(_name).agent("a", "loop", model="mine:m", prompt=_name, tools=["add", "look", "pay"], max_tokens=50)
app.workflow("never").agent("a", model="mine:m", prompt="never", model_retries=0)
app.workflow("long").agent("a", model="narrow:m", prompt="${input.text}", max_tokens=50)
app.workflow("keyless").agent("a", model="keyless:m", prompt="keyless")
