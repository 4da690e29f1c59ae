"""Resources that are held while others are waited for.

The resources of one node are taken all at once, so two nodes cannot wait for each other. A map or a sub-flow holds
its own until what is inside is done, and what is inside takes more: there the order matters.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, cast

from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.cycles import all_cycles
from tenuto.domain.graph.loops import Adjacency
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.rules.subject import Spot, Subject

_MANY = 1000


def names_held(node: Node) -> frozenset[str]:
    """Return the resources a node has to itself: names, and objects that have nothing but a name."""
    found: set[str] = set()
    for item in node.resources:
        if isinstance(item, str):
            found.add(item)
        elif isinstance(item, dict):
            fields = cast("dict[str, Any]", item)
            if isinstance(fields.get("name"), str) and (set(fields) == {"name"} or fields.get("mode") == "exclusive"):
                found.add(fields["name"])
    return frozenset(found)


def find_lock_faults(scene: Scene) -> None:
    """Report nodes that wait for what is held around them, and circles of nodes that wait for each other."""
    s = scene.subject
    waits: dict[tuple[str, str], list[Spot]] = {}
    for spot in s.spots:
        wanted = names_held(spot.node)
        if not wanted:
            continue
        level = spot.level
        while s.levels[level].owner:
            owner = s.by_id[s.levels[level].owner]
            held = names_held(owner.node)
            for name in sorted(wanted & held):
                message = f"{spot.node.id!r} waits for {name!r}, which {owner.node.id!r} holds until its items are done"
                scene.add("lock.nested", pointer(spot.place, "resources"), message)
            for first in held:
                for second in wanted - held:
                    waits.setdefault((first, second), []).append(spot)
            level = owner.level
    if waits:
        _find_circles(scene, waits)


def _find_circles(scene: Scene, waits: dict[tuple[str, str], list[Spot]]) -> None:
    towards: Adjacency = {}
    for first, second in sorted(waits):
        towards.setdefault(first, []).append(second)
    for circle in all_cycles(towards, towards)[:_MANY]:
        spots = [waits[pair][0] for pair in zip(circle[:-1], circle[1:], strict=True)]
        if all(_may_overlap(scene, a, b) for a, b in combinations(spots, 2)):
            names = ", ".join(repr(spot.node.id) for spot in spots)
            message = f"{names} may wait for each other: {' -> '.join(circle)}"
            scene.add("lock.order", pointer(spots[0].place, "resources"), message)


def _may_overlap(scene: Scene, a: Spot, b: Spot) -> bool:
    """Return whether two nodes may run at once, in one level or in the bodies of different maps."""
    s = scene.subject
    for one in _around(s, a):
        for other in _around(s, b):
            if one.level == other.level:
                return one.node.id != other.node.id and scene.order.may_overlap(one.node.id, other.node.id)
    return False


def _around(s: Subject, spot: Spot) -> list[Spot]:
    found = [spot]
    while s.levels[found[-1].level].owner:
        found.append(s.by_id[s.levels[found[-1].level].owner])
    return found
