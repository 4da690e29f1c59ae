"""People who are asked too late, or whose silence counts as a yes."""

from __future__ import annotations

from typing import TypeVar

from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.rules.approvals import reached_unapproved

_USELESS, _GUARDS = 1, 2

T = TypeVar("T", str, int)


def find_late_approvals(scene: Scene) -> None:
    """Report approvals that follow what they should have come before."""
    s = scene.subject
    asked = [spot for spot in s.spots if spot.node.kind == "approval"]
    if not asked:
        return
    acting = {spot.node.id: spot.node.id for spot in s.spots if scene.acts(spot.node)}
    later = _after(scene, _with_owners(scene, acting), "")
    for spot in asked:
        name = later[spot.node.id]
        if spot.node.config.get("on_timeout") == "approve" and name:
            message = f"when nobody answers {spot.node.id!r} in time, {name!r} goes ahead"
            scene.add("approval.approves_itself", pointer(spot.place, "config", "on_timeout"), message)
    worth = {spot.node.id: _GUARDS if later[spot.node.id] else _USELESS for spot in asked}
    follows = _after(scene, _with_owners(scene, worth), 0)
    free = reached_unapproved(s)
    for name in acting:
        if name in free and follows[name]:
            message = f"{name!r} acts on the world, and the first approval comes after it"
            id = "approval.after_effect" if follows[name] == _USELESS else "approval.effect_before"
            scene.add(id, s.by_id[name].place, message)


def _with_owners(scene: Scene, values: dict[str, T]) -> dict[str, T]:
    """Give maps the greatest value of what is inside them."""
    found = dict(values)
    for level in reversed(scene.subject.levels):
        inside = [found[node.id] for node in level.nodes if node.id in found]
        if level.owner and inside:
            found[level.owner] = max(inside)
    return found


def _after(scene: Scene, values: dict[str, T], nothing: T) -> dict[str, T]:
    """Return for each node the greatest value among those that come after it, around the maps it is in as well."""
    found: dict[str, T] = {}
    for names, level, shape in zip(scene.order.sorted, scene.subject.levels, scene.subject.shapes, strict=True):
        outside = found.get(level.owner, nothing)
        for name in reversed(names):
            best = outside
            for other in shape.forward.get(name, ()):
                best = max(best, found[other], values.get(other, nothing))
            found[name] = best
    return found
