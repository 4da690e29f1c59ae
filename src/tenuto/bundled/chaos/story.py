"""The audit of a run that lost its worker, told line by line."""

from __future__ import annotations

from typing import Any, cast

from tenuto.bundled.chaos.journals import Journals
from tenuto.bundled.chaos.shapes import Planned
from tenuto.runtime.services.engine import Engine

_TOLD = 60


async def tell(engine: Engine, journals: Journals, planned: dict[str, Planned]) -> tuple[str, list[str]]:
    """Return the run whose story shows most, and the story."""
    stolen = [run for run, _ in journals.stolen.most_common() if run in planned]
    if not stolen:
        return "", []
    run = max(stolen[:30], key=lambda one: (sum(n for (r, _), n in journals.lost.items() if r == one), one))
    trail = await engine.audit.trail(run, limit=_TOLD)
    lines = [f"{planned[run].name}: {trail.records} records, chain {'verified' if trail.verified else 'BROKEN'}"]
    for entry in trail.entries:
        at = entry.at.strftime("%H:%M:%S.%f")[:-3] if entry.at else ""
        step = f" {entry.step}" if entry.step else ""
        lines.append(f"{at} {entry.id:>6} epoch {entry.epoch} {entry.type}{step}{_detail(entry.data)}")
    return run, lines


def _detail(data: dict[str, Any]) -> str:
    shown = {name: data[name] for name in ("worker", "from", "attempt", "reason", "decision") if data.get(name)}
    failure = data.get("error") or data.get("failure")
    if isinstance(failure, dict):
        shown["error"] = cast("dict[str, Any]", failure).get("message", "")
    return "".join(f" {name}={value}" for name, value in shown.items())
