"""The rule that no cap is negative."""

from __future__ import annotations

from tenuto.domain.graph.model import Budget
from tenuto.domain.graph.reading import pointer
from tenuto.errors import Problem


def budget_problems(budget: Budget, place: str) -> tuple[Problem, ...]:
    """Return a problem for every cap below zero."""
    caps: dict[str, float | None] = {
        "tokens": budget.tokens,
        "tool_calls": budget.tool_calls,
        "cost_usd_micros": budget.cost_usd_micros,
        "wall_clock_s": budget.wall_clock_s,
    }
    spots = {pointer(place, key): cap for key, cap in caps.items()}
    spots |= {pointer(place, "per_tool", tool): cap for tool, cap in budget.per_tool.items()}
    return tuple(
        Problem(place=spot, message=f"{cap!r} is not allowed; allowed: 0 or more", code="graph.range")
        for spot, cap in spots.items()
        if cap is not None and cap < 0
    )
