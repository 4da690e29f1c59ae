"""Two that write one thing at once: files of the workspace, objects in buckets, resources behind one URL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any, cast

from tenuto.domain.graph.analysis.locks import names_held
from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.requests import method_of, requests_of
from tenuto.domain.graph.rules.subject import Spot, Subject, text_of

_WRITERS: dict[str, tuple[str, ...]] = {"write_file": ("path",), "upload_file": ("destination", "path")}
"""Built-in tools that write, and the arguments that name what."""
_OVERWRITES = ("PUT", "PATCH", "DELETE")
_PAIRS = 40


def find_races(scene: Scene) -> None:
    """Report nodes that may run at once and write the same thing under no common lock."""
    s = scene.subject
    written: dict[tuple[int, str], list[Spot]] = {}
    for spot in s.spots:
        for what in dict.fromkeys(_written(s, spot.node)):
            _check_items(scene, spot, what)
            level = spot.level
            written.setdefault((level, what), []).append(spot)
            while s.levels[level].owner:  # the maps around it write it as well
                level = s.by_id[s.levels[level].owner].level
                written.setdefault((level, what), []).append(spot)
    for (level, what), spots in written.items():
        _check_pairs(scene, level, what, spots)


def _check_pairs(scene: Scene, level: int, what: str, spots: list[Spot]) -> None:
    order, s = scene.order, scene.subject
    here = sorted(((_at_level(s, spot, level), spot) for spot in spots), key=lambda pair: order.position[pair[0].node.id])
    pairs = combinations(here, 2) if len(here) <= _PAIRS else pairwise(here)
    for (top, spot), (other_top, other) in pairs:
        a, b = top.node.id, other_top.node.id
        held = _held(s, spot) & _held(s, other)
        if a != b and not held and order.may_overlap(a, b):
            message = f"{spot.node.id!r} and {other.node.id!r} may run at once, and both write {what}"
            scene.add("race.shared_write", other.place, message)
            return


def _check_items(scene: Scene, spot: Spot, what: str) -> None:
    s, level = scene.subject, spot.level
    while s.levels[level].owner:
        owner = s.by_id[s.levels[level].owner]
        over: Any = owner.node.config.get("over")
        single = isinstance(over, list) and len(cast("list[Any]", over)) < 2
        if owner.node.config.get("concurrency") != 1 and not single and not names_held(spot.node):
            message = f"every item of {owner.node.id!r} writes {what}"
            scene.add("race.map_items", spot.place, message)
            return
        level = owner.level


def _at_level(s: Subject, spot: Spot, level: int) -> Spot:
    while spot.level != level:
        spot = s.by_id[s.levels[spot.level].owner]
    return spot


def _held(s: Subject, spot: Spot) -> frozenset[str]:
    held = names_held(spot.node)
    level = spot.level
    while s.levels[level].owner:
        owner = s.by_id[s.levels[level].owner]
        held |= names_held(owner.node)
        level = owner.level
    return held


def _written(s: Subject, node: Node) -> Iterator[str]:
    """Yield what a node writes, as far as its definition says so in plain text; nothing where data decides."""
    for request, _ in requests_of(node):
        url = text_of(request.get("url"))
        if method_of(request) in _OVERWRITES and url and "${" not in url and not request.get("query"):
            yield f"{url!r}"
    tool = text_of(node.config.get("tool")) if node.kind == "function" else ""
    if tool not in _WRITERS or (s.known.tools is not None and tool not in s.known.builtin):
        return
    args: Any = node.config.get("args", node.input)
    if not isinstance(args, dict):
        return
    given = [text_of(cast("dict[str, Any]", args).get(key)) for key in _WRITERS[tool]]
    if all(given) and not any("${" in text for text in given):
        yield f"the file {given[0]!r}" if tool == "write_file" else f"{given[1]!r} at {given[0]!r}"

