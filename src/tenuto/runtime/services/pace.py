"""How often a caller may start runs: less often the more agents a workflow has, exactly, over all processes."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.terms import agents_of
from tenuto.errors import Exhausted
from tenuto.ports.starts import WINDOW_MS
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.requests import Pace

Tier = Literal["simple", "standard", "heavy"]
_STANDARD, _HEAVY = 1, 3


class StartsExhausted(Exhausted):
    """The caller has started as many runs of this weight as a minute allows."""

    code = "limit.starts"
    retryable = True


class Taken(msgspec.Struct, frozen=True):
    """A start that counts."""

    caller: str
    tier: Tier
    id: str


def tier_of(agents: int) -> Tier:
    """Return the tier of a workflow with so many agents."""
    return "heavy" if agents >= _HEAVY else "standard" if agents >= _STANDARD else "simple"


async def take(context: Context, pace: Pace | None, plan: Plan, run_id: str) -> Taken | None:
    """Count the start of a run.

    Raises:
        StartsExhausted: No room within this minute; names tier, limit, count and how long to wait.
    """
    if pace is None:
        return None
    tier = tier_of(agents_of(plan.definition))
    limit: int = getattr(pace, tier)
    if not limit:
        return None
    turn = await context.store.take_start(context.ns, pace.caller, tier, run_id, limit)
    if turn.taken:
        return Taken(pace.caller, tier, run_id)
    wait = max(1, math.ceil(turn.wait_ms / 1000))
    raise StartsExhausted(
        f"{turn.count} runs of {tier} workflows were started within {WINDOW_MS // 1000} s, and the limit is {limit}; "
        f"try again in {wait} s",
        tier=tier, limit=limit, count=turn.count, window_s=WINDOW_MS // 1000, retry_after_seconds=wait,
    )  # fmt: skip


async def give_back(context: Context, taken: Taken | None) -> None:
    """Count a start no longer: it began nothing."""
    if taken is not None:
        await context.store.return_start(context.ns, taken.caller, taken.tier, taken.id)
