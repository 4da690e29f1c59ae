"""Requests beside the work itself, which must never halt a run: they are left out, and said to be, when money is gone."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.events import Charge
from tenuto.errors import Permanent, StepError
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.runtime.agents.asking import ask
from tenuto.runtime.agents.loop import Loop
from tenuto.runtime.agents.step import refusal_of


async def ask_if_paid(loop: Loop, request: ModelRequest, key: str) -> tuple[ModelReply | None, str]:
    """Make a request if the run's budget has room for it.

    Returns:
        The reply, or `None` and why there is none; the same in every attempt.
    """
    skipped = f"{key}/skipped"
    ctx, step = loop.ctx, loop.step
    if ctx.begun(skipped):
        return None, await ctx.note(skipped, "")
    if not ctx.begun(key):
        try:
            tokens, cost = step.model(request.model).bound(request)
        except Permanent as exc:
            return None, await ctx.note(skipped, exc.message)
        cap = refusal_of(step, Charge(tokens=tokens, cost_usd_micros=cost))
        if cap:
            return None, await ctx.note(skipped, f"the run's cap on {cap} has no room for it")
    try:
        return await ask(step, ctx, request, key, retries=loop.retries), ""
    except (StepError, Permanent) as exc:
        if exc.reason in ("budget.limit", "attempt.stale", "replay.diverged"):
            raise
        return None, await ctx.note(skipped, exc.message)


def shown(value: Any, most: int) -> str:
    """Return text cut to a number of characters, saying so where it was."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[:most]}\n(cut; {len(text):,} characters in all)"
