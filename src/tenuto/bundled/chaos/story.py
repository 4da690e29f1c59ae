"""The audit of a run that lost its worker, told line by line."""

from __future__ import annotations

from typing import Any, cast

from tenuto.bundled.chaos.journals import Journals
from tenuto.bundled.chaos.shapes import Planned
from tenuto.runtime.services.engine import Engine

_READ = 1000
_SHOWN = 44


async def tell(engine: Engine, journals: Journals, planned: dict[str, Planned]) -> tuple[str, list[str]]:
    """Return the run whose story shows most, and the story."""
    stolen = [run for run, _ in journals.stolen.most_common() if run in planned]
    if not stolen:
        return "", []
    lost: dict[str, int] = {}
    for (one, _), n in journals.lost.items():
        lost[one] = lost.get(one, 0) + n
    best = sorted(stolen, key=lambda one: (lost.get(one, 0), journals.stolen[one], one), reverse=True)
    run, trail = best[0], await engine.audit.trail(best[0], limit=_READ)
    for run in best[:60]:
        trail = await engine.audit.trail(run, limit=_READ)
        if len(trail.entries) <= _SHOWN:
            break
    lines = [f"{planned[run].name}: {trail.records} records, chain {'verified' if trail.verified else 'BROKEN'}"]
    for entry in trail.entries[-_SHOWN:]:
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
