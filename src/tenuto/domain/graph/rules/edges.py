"""Rules of single edges and of the edges that leave one node."""

from __future__ import annotations

from tenuto.domain.graph.model import Edge, Node
from tenuto.domain.graph.reading import nearest, pointer
from tenuto.domain.graph.requirements import PREDICATE
from tenuto.domain.graph.rules.subject import Subject
from tenuto.domain.graph.rules.texts import condition_fault


def check_edges(s: Subject) -> None:
    """Report every fault in conditions, outcomes and defaults."""
    for name, edges in s.outgoing.items():
        for edge, place in edges:
            _check_condition(s, edge, pointer(place, "when"))
        spot = s.by_id.get(name)
        if spot is None:
            continue
        for edge, place in edges:
            _check_outcome(s, spot.node, edge, place)
        _check_defaults(s, spot.node, edges)


def _check_condition(s: Subject, edge: Edge, place: str) -> None:
    text = edge.when.strip()
    if not text:
        return
    if not text.startswith(PREDICATE):
        if fault := condition_fault(text):
            s.report(place, f"{text!r} is not a condition: {fault}", "graph.condition")
        return
    name = text[len(PREDICATE) :]
    if s.known.predicates is not None and name not in s.known.predicates:
        message = f"there is no predicate {name!r}"
        s.report(place, message, "graph.unknown_predicate", nearest(name, s.known.predicates))


def _check_outcome(s: Subject, node: Node, edge: Edge, place: str) -> None:
    if edge.on == "rejected" and node.kind != "approval":
        message = f"only an approval can be rejected; {node.id!r} is of kind {node.kind!r}"
        s.report(pointer(place, "on"), message, "graph.rejected_edge")
    if edge.on == "pushed_back" and node.kind != "approval":
        message = f"only an approval can be pushed back; {node.id!r} is of kind {node.kind!r}"
        s.report(pointer(place, "on"), message, "graph.push_back_edge")
    if edge.on == "pushed_back" and edge.max_iterations is None:
        message = "an edge 'on: pushed_back' leads back to an earlier step, so it needs 'max_iterations'"
        s.report(pointer(place, "max_iterations"), message, "graph.push_back_edge")
    if edge.on in ("default", "limit") and edge.when:
        message = f"an edge 'on: {edge.on}' has no condition"
        s.report(pointer(place, "when"), message, "graph.default_edge")
    if edge.on == "limit" and edge.max_iterations is not None:
        message = "an edge 'on: limit' leaves a loop, so it has no 'max_iterations'"
        s.report(pointer(place, "max_iterations"), message, "graph.limit_edge")
    action = node.on_error.action if node.on_error else "fail"
    by_value = node.on_error is not None and node.on_error.fallback is not None and not node.on_error.fallback.node
    if edge.on == "error" and (action in ("skip", "continue") or (action == "fallback" and by_value)):
        message = f"{node.id!r} has 'on_error: {action}', so this edge is never taken; keep one of them"
        s.report(pointer(place, "on"), message, "graph.error_edge")


def _check_defaults(s: Subject, node: Node, edges: list[tuple[Edge, str]]) -> None:
    success = [(edge, place) for edge, place in edges if edge.on == "success"]
    defaults = [(edge, place) for edge, place in edges if edge.on == "default"]
    for _, place in defaults[1:]:
        message = f"{node.id!r} has a default edge already"
        s.report(pointer(place, "on"), message, "graph.default_edge")
    if defaults and node.route != "first" and not any(edge.when for edge, _ in success):
        message = f"no other edge of {node.id!r} has a condition, so there is nothing to be the default of"
        s.report(pointer(defaults[0][1], "on"), message, "graph.default_edge")
    if node.route != "first":
        return
    open_at = next((at for at, (edge, _) in enumerate(success) if not edge.when), None)
    after = [*success[open_at + 1 :], *defaults] if open_at is not None else []
    for _, place in after:
        message = f"an edge of {node.id!r} before this one has no condition, so this one is never taken"
        s.report(place, message, "graph.shadowed_edge", "make the edge without a condition 'on: default'")
