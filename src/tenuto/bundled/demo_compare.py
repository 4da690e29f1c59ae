"""What the demo shows of two runs side by side: few lines, each a difference that matters."""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.runs.diff import RunDiff

SHOWN = ("weigh", "panel", "summary")
WIDE = 44


def rows_of(found: RunDiff) -> list[tuple[str, str]]:
    """Return what differs and matters, a line a fact: fields of outputs, then the route."""
    rows: list[tuple[str, str]] = []
    for step in found.steps:
        pair = step.fields.get("output")
        if step.change == "changed" and step.node in SHOWN and pair:
            rows += [(step.node if at == 0 else "", text) for at, text in enumerate(_changes(*pair))]
    before, now = (_route(found.routing.get(side, [])) for side in ("only_a", "only_b"))
    return [*rows, ("route", f"{before}  →  {now}")]


def _route(edges: list[str]) -> str:
    """Return the node that a run was sent to at the switch."""
    found = [edge.removeprefix("decide -> ") for edge in edges if edge.startswith("decide -> ")]
    return ", ".join(found) or "nowhere else"


def _changes(a: Any, b: Any) -> list[str]:
    if not isinstance(a, dict) or not isinstance(b, dict):
        return [_pair(a, b)]
    before, now = cast("dict[str, Any]", a), cast("dict[str, Any]", b)
    differ = [key for key, value in before.items() if value != now.get(key) and not isinstance(value, list | dict)]
    return [f"{key}: {_pair(before[key], now.get(key))}" for key in differ]


def _pair(a: Any, b: Any) -> str:
    """Return two values side by side; long texts from the word on in which they differ."""
    if isinstance(a, str) and isinstance(b, str) and max(len(a), len(b)) > WIDE:
        same = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        start = a.rfind(" ", 0, same) + 1
        a, b = f"...{a[start:]}", f"...{b[start:]}"
    return f"{_brief(a)}  →  {_brief(b)}"


def _brief(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "nothing"}[value]
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= WIDE else text[: WIDE - 3] + "..."
