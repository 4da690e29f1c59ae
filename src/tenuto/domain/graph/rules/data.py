"""The rule that a node refers only to what can exist when it runs."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.base.references import Reference, ReferenceSyntaxError, parse_template
from tenuto.domain.graph.cycles import depth_first_order
from tenuto.domain.graph.kinds import CONFIG
from tenuto.domain.graph.reading import nearest, pointer
from tenuto.domain.graph.requirements import PREDICATE
from tenuto.domain.graph.rules.requests import check_answer_read
from tenuto.domain.graph.rules.subject import Shape, Spot, Subject
from tenuto.domain.graph.rules.texts import nodes_read


def check_references(s: Subject) -> None:
    """Report every template that cannot be read or that names what cannot have run before."""
    upstream = Upstream(s)
    for spot in s.spots:
        for value, place in templates(spot):
            try:
                references = parse_template(value).references
            except ReferenceSyntaxError as error:
                s.report(place, error.message, "graph.reference")
                continue
            for reference in references:
                _check_reference(s, spot, reference, place + reference.place, upstream)
                within = spot.node.kind == "http" and place == pointer(spot.place, "config", "requests")
                check_answer_read(s, spot.node, reference, place + reference.place, within=within)
        _check_expressions(s, spot, upstream)


def _check_expressions(s: Subject, spot: Spot, upstream: Upstream) -> None:
    """Report nodes that the conditions of a node, or of its edges, name and that cannot have run."""
    config = spot.node.config
    texts = [(config.get(key), pointer(spot.place, "config", key), False) for key in CONFIG[spot.node.kind].conditions]
    texts += [(edge.when, pointer(place, "when"), True) for edge, place in s.outgoing.get(spot.node.id, ())]
    for text, place, condition in texts:
        if not isinstance(text, str) or not text or text.startswith(PREDICATE):
            continue
        for name in nodes_read(text, condition=condition):
            if not (condition and name == spot.node.id):
                reference = Reference(f"nodes.{name}", "nodes", name, (), "")
                _check_reference(s, spot, reference, place, upstream)


def templates(spot: Spot) -> list[tuple[Any, str]]:
    """Return what of a node may hold references, with its places."""
    node = spot.node
    found: list[tuple[Any, str]] = []
    if node.input is not msgspec.UNSET:
        found.append((node.input, pointer(spot.place, "input")))
    for key in CONFIG[node.kind].templates:
        if key in node.config:
            found.append((node.config[key], pointer(spot.place, "config", key)))
    return found


def _check_reference(s: Subject, spot: Spot, reference: Reference, place: str, upstream: Upstream) -> None:
    name = reference.node
    if reference.root in ("item", "index") and not s.levels[spot.level].owner:
        message = f"{reference.text} has a value inside the body of a map only"
        s.report(place, message, "graph.reference")
    if not name:
        return
    if name not in s.by_id:
        s.report(place, f"{reference.text} names no node", "graph.unknown_node", nearest(name, s.by_id))
    elif not upstream.can_see(spot, name):
        message = f"{reference.text}: {name!r} does not run before {spot.node.id!r}"
        s.report(place, message, "graph.not_upstream", f"draw an edge from {name!r}, directly or through others")


class Upstream:
    """Which nodes can have an outcome when a node runs; sets are bits, so 10,000 nodes stay cheap."""

    def __init__(self, s: Subject) -> None:
        self._s = s
        self._bit = {name: 1 << at for at, name in enumerate(s.by_id)}
        self._before: dict[str, int] = {}
        for shape in s.shapes:
            self._add_level(shape)

    def _add_level(self, shape: Shape) -> None:
        before = dict.fromkeys(shape.names, 0)
        outermost = {name: loop for loop in reversed(shape.loops) for name in loop.body}
        bodies: dict[str, int] = {}
        for loop in shape.loops:
            bodies[loop.header] = 0
            for name in loop.body:
                bodies[loop.header] |= self._bit[name]
        for name in depth_first_order(shape.names, shape.forward):
            if name in outermost:
                before[name] |= bodies[outermost[name].header]
            passed_on = before[name] | self._bit[name]
            for other in shape.forward.get(name, ()):
                before[other] |= passed_on
        self._before.update(before)

    def can_see(self, spot: Spot, name: str) -> bool:
        """Return whether a node can have an outcome, here or around the maps, when another runs."""
        seen, level = self._before.get(spot.node.id, 0), spot.level
        around = {level}
        while self._s.levels[level].owner:
            owner = self._s.levels[level].owner
            seen |= self._before.get(owner, 0)
            level = self._s.levels[level].parent
            around.add(level)
        other = self._s.by_id[name]
        while other.level not in around:
            other = self._s.by_id[self._s.levels[other.level].owner]
        return bool(seen & self._bit[other.node.id])
