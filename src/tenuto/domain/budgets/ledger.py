"""The arithmetic of a run's budget: reserve the upper bound, settle what was used, never pass a cap unseen.

`spent + held <= cap + overrun` holds after every function here (invariant I8). Lost outcomes stay in `spent`,
marked unknown, until somebody says what became of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tenuto.domain.graph.model import Budget

CAPS = ("tokens", "tool_calls", "cost_usd_micros")
WARN_SHARE = 0.8


class Amounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Quantities in the three currencies of a budget; all >= 0."""

    tokens: int = 0
    tool_calls: int = 0
    cost_usd_micros: int = 0


class Refused(msgspec.Struct, frozen=True):
    """A cap that an ask does not fit under.

    Attributes:
        cap: `tokens`, `tool_calls`, `cost_usd_micros` or `per_tool.<name>`.
        final: Whether even a full refund of everything held would not make room.
    """

    cap: str
    limit: float
    spent: float
    ask: float
    final: bool


Verdict = Literal["fits"] | Refused


def admit(caps: Budget | None, spent: Amounts, held: Amounts, ask: Amounts, tool: str,
          tool_spent: int, tool_held: int) -> Refused | None:
    """Say whether an ask fits under every cap; equality is allowed.

    Returns:
        `None` when it fits; else the first cap it breaks, final refusals before those that may resolve themselves.
    """
    if caps is None:
        return None
    waiting: Refused | None = None
    for cap in CAPS:
        limit = getattr(caps, cap)
        if limit is None:
            continue
        refused = _against(cap, limit, getattr(spent, cap), getattr(held, cap), getattr(ask, cap))
        if refused is not None:
            if refused.final:
                return refused
            waiting = waiting or refused
    if tool and tool in caps.per_tool:
        refused = _against(f"per_tool.{tool}", caps.per_tool[tool], tool_spent, tool_held, ask.tool_calls)
        if refused is not None:
            if refused.final:
                return refused
            waiting = waiting or refused
    return waiting


def _against(cap: str, limit: int, spent: int, held: int, ask: int) -> Refused | None:
    if ask <= 0 or spent + held + ask <= limit:
        return None
    return Refused(cap, limit, spent, ask, final=spent + ask > limit)


def plus(a: Amounts, b: Amounts) -> Amounts:
    """Return the sum."""
    return Amounts(a.tokens + b.tokens, a.tool_calls + b.tool_calls, a.cost_usd_micros + b.cost_usd_micros)


def minus(a: Amounts, b: Amounts) -> Amounts:
    """Return the difference, never below zero in any currency."""
    return Amounts(
        max(0, a.tokens - b.tokens),
        max(0, a.tool_calls - b.tool_calls),
        max(0, a.cost_usd_micros - b.cost_usd_micros),
    )
