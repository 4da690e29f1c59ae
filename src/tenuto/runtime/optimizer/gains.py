"""What a change did to the runs, by what those before and after it took. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.requests import requests_of
from tenuto.ports.optimizers import Statistics

NOISE = 0.1
"""Share by which a figure has to grow before a change counts as worse."""
NOISE_MS = 2.0
"""Milliseconds it has to grow by: times are whole ones."""
FAILURES = 0.05
"""Share of runs that have to fail in addition."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What runs saved; below 0 they take more.

    Attributes:
        status: `waiting` until there are enough runs of both versions; then nothing is claimed, and `note` says why.
        worse: What got worse, in words; empty when nothing did.
    """

    status: Literal["measured", "waiting"] = "waiting"
    note: str = ""
    ms: float | None = None
    steps: float | None = None
    requests: float | None = None
    cost_usd_micros: float | None = None
    worse: str = ""


def requests_a_run(definition: Definition, found: Statistics) -> float | None:
    """Return how many requests of HTTP a run made by its `http` nodes; `None` where the graph has none or no run ended."""
    made = {node.id: len(requests_of(node)) for level in levels_of(definition) for node in level.nodes}
    ended = found.runs + found.failed
    if not ended or not any(made.values()):
        return None
    return sum(made.get(name, 0) * (node.completed - node.reused) for name, node in found.nodes.items()) / ended


def compare(
    before: Statistics, after: Statistics, requests: tuple[float | None, float | None], enough: int
) -> Comparison:
    """Return what runs of a version save against those of the former one.

    Args:
        requests: A run makes, before and after.
        enough: Ended runs of each that are needed to tell.
    """
    now, then = after.runs + after.failed, before.runs + before.failed
    if now < enough:
        return Comparison(note=f"not enough runs yet ({now} of {enough})")
    if then < enough:
        return Comparison(note=f"not enough runs of the former version ({then} of {enough})")
    ms = before.p50_ms - after.p50_ms if before.p50_ms is not None and after.p50_ms is not None else None
    saved = requests[0] - requests[1] if requests[0] is not None and requests[1] is not None else None
    return Comparison(
        status="measured", note=f"{then} runs before, {now} after", ms=ms, steps=before.steps - after.steps,
        requests=saved, cost_usd_micros=before.cost_usd_micros - after.cost_usd_micros, worse=_worse(before, after),
    )


def _worse(before: Statistics, after: Statistics) -> str:
    found: list[str] = []
    if before.p50_ms is not None and after.p50_ms is not None:
        grown = after.p50_ms - before.p50_ms
        if grown > max(NOISE_MS, before.p50_ms * NOISE):
            found.append(f"a run takes {after.p50_ms:.0f} ms instead of {before.p50_ms:.0f}")
    if after.cost_usd_micros > before.cost_usd_micros * (1 + NOISE) + 1:
        was, now = before.cost_usd_micros / 1_000_000, after.cost_usd_micros / 1_000_000
        found.append(f"a run costs {now:.6f} USD instead of {was:.6f}")
    failing = [one.failed / (one.runs + one.failed) for one in (before, after)]
    if failing[1] > failing[0] + FAILURES:
        found.append(f"{failing[1]:.0%} of the runs fail instead of {failing[0]:.0%}")
    return "; ".join(found)
