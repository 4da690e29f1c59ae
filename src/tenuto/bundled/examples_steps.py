"""Handlers of plain step lists: `tool_call.*`, `llm_call.*`, and nothing at all for every other name."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from tenuto.domain.graph.model import Retry
from tenuto.errors import StepError
from tenuto.ports.model import Message, ModelReply, ModelRequest
from tenuto.runtime.worker.context import Context
from tenuto.sdk.app import App

ATTEMPTS = 5
_ECHO = 200


class ToolDown(StepError):
    """The tool pretends to be down, as its input asked it to; trying again may help."""

    code = "example.tool_down"


def register(app: App) -> None:
    """Add the handlers to an app; a call that fails is tried five times."""
    retry = Retry(attempts=ATTEMPTS)
    app.step(name="tool_call.*", retry=retry)(tool_call)
    app.step(name="llm_call.*", retry=retry)(llm_call)
    app.step(name="noop")(noop)


async def tool_call(ctx: Context, value: Any) -> dict[str, Any]:
    """Pretend to call a tool; the input may ask for failures.

    `failureRate` is the share of attempts that fail; which ones depends on step and attempt alone, so it is
    repeatable. `failures` fails so many attempts and no more. `simulateFailure` by itself fails every attempt, and
    set to false switches the others off.
    """
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    simulate = given.get("simulateFailure")
    rate = _number(given.get("failureRate"), 1.0 if simulate is True else 0.0)
    limit = _number(given.get("failures"), float("inf") if rate else 0.0)
    if "failures" in given and "failureRate" not in given:
        rate = 1.0
    if simulate is not False and ctx.attempt <= limit and _share(ctx) < rate:
        raise ToolDown(f"attempt {ctx.attempt} of {ctx.name} fails because its input asked for it")
    return {"ok": True, "tool": ctx.name, "input": value, "attempt": ctx.attempt, "key": ctx.key}


async def llm_call(ctx: Context, value: Any) -> dict[str, Any]:
    """Answer a prompt offline; the request is journaled like any other, so a crash does not repeat it."""
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {"prompt": value}
    prompt = str(given.get("prompt") or given)
    request = ModelRequest(model="offline:echo", messages=(Message("user", prompt),), max_tokens=256)

    async def ask() -> dict[str, Any]:
        reply = ModelReply(content="offline:" + prompt[:_ECHO], model=request.model, provider="offline")
        return {"content": reply.content, "model": reply.model}

    return await ctx.call(ask, key="model")


async def noop(value: Any) -> dict[str, Any]:
    """Do nothing, and hand the input on."""
    return {"ok": True, "input": value}


def _number(raw: Any, default: float) -> float:
    return float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else default


def _share(ctx: Context) -> float:
    """Return a number from 0 to 1 that is the same whenever this attempt is made again."""
    digest = hashlib.sha256(f"{ctx.key}/{ctx.attempt}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
