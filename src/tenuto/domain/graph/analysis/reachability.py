"""Conditions that are the same in every run, and the nodes they cut off."""

from __future__ import annotations

from functools import lru_cache

from tenuto.domain.base.expressions import ExpressionError, ExpressionFailed, compile_condition
from tenuto.domain.graph.analysis.scene import Scene, conditions_of
from tenuto.domain.graph.compile import fallback_edges
from tenuto.domain.graph.loops import is_back
from tenuto.domain.graph.requirements import PREDICATE


def find_constant_conditions(scene: Scene) -> None:
    """Report conditions that read nothing, and nodes that only such conditions lead to."""
    for text, place in conditions_of(scene.subject):
        value = _constant(text)
        if value is not None:
            scene.add("condition.constant", place, f"{text!r} is always {'true' if value else 'false'}")
    _find_cut_off(scene)


@lru_cache(maxsize=1024)
def _constant(text: str) -> bool | None:
    try:
        expression = compile_condition(text)
        return None if expression.reads else bool(expression.evaluate({}))
    except (ExpressionError, ExpressionFailed):
        return None


def _find_cut_off(scene: Scene) -> None:
    s = scene.subject
    for names, level, shape in zip(scene.order.sorted, s.levels, s.shapes, strict=True):
        alive = {name for name in names if shape.n_in[name] == 0}
        spare = {dst: src for src, dst in fallback_edges(level)}
        open_to: dict[str, list[str]] = {}
        for edge in shape.edges:
            text = edge.when.strip()
            never = bool(text) and not text.startswith(PREDICATE) and _constant(text) is False
            if not is_back(edge) and not never:
                open_to.setdefault(edge.to, []).append(edge.from_)
        for name in names:
            ways = [*open_to.get(name, ()), *([spare[name]] if name in spare else [])]
            if name in alive or any(src in alive for src in ways):
                alive.add(name)
            else:
                scene.add("reach.never_taken", s.by_id[name].place, f"no run ever comes to {name!r}")
