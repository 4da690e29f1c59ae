"""Which nodes wait for an approval, so that no patch lets one of them go ahead of it."""

from __future__ import annotations

from tenuto.domain.graph.compile import fallback_edges
from tenuto.domain.graph.loops import is_back
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.rules.approvals import approves
from tenuto.domain.graph.rules.subject import Subject

_GOES_ON = frozenset({"continue", "skip", "fallback"})


def runs_unanswered(s: Subject, approvals: frozenset[str] | None = None) -> frozenset[str]:
    """Return the nodes that may run although nobody ever answers some approvals: joins wait for those in vain.

    Args:
        approvals: Ids of those that nobody answers; `None` means every one.
    """
    ways: dict[str, list[tuple[str, bool]]] = {}
    for level in s.levels:
        for edge in level.edges:
            if not is_back(edge) and edge.from_ in s.by_id:
                counts = approvals is None or edge.from_ in approvals
                ways.setdefault(edge.to, []).append((edge.from_, counts and approves(s.by_id[edge.from_].node, edge)))
        for src, dst in fallback_edges(level):
            ways.setdefault(dst, []).append((src, False))
    found: set[str] = set()
    grown = True
    while grown:
        grown = False
        for level in s.levels:
            for node in level.nodes:
                if node.id not in found and _runs(node, ways.get(node.id, []), level.owner, found):
                    found.add(node.id)
                    grown = True
    return frozenset(found)


def _runs(node: Node, ways: list[tuple[str, bool]], owner: str, found: set[str]) -> bool:
    if not ways:
        return not owner or owner in found
    n_open = sum(src in found and not waits for src, waits in ways)
    if node.join == "all":
        return n_open == len(ways)
    return n_open >= (1 if node.join == "any" else node.join)


def may_be_passed_by(s: Subject, approval: str) -> bool:
    """Say whether a run may go on with an approval rejected, or never asked for: joins behind it then fire without it."""
    out = s.outgoing.get(approval, ())
    if any(edge.on == "rejected" or "approved" in edge.when or "decision" in edge.when for edge, _ in out):
        return True
    above, todo = {approval}, [approval]
    while todo:
        name = todo.pop()
        level = s.levels[s.by_id[name].level]
        for edge in level.edges:
            if edge.to != name or is_back(edge) or edge.from_ not in s.by_id:
                continue
            if edge.when or edge.on != "success" or _chooses(s.by_id[edge.from_].node):
                return True
            if edge.from_ not in above:
                above.add(edge.from_)
                todo.append(edge.from_)
        if level.owner and level.owner not in above:
            return True  # a map over an empty list asks nobody
    return False


def asked_less(old: Subject, new: Subject, approval: str) -> str:
    """Return a node that led to an approval, and need not lead to it any more; empty when there is none."""
    kept = {edge for level in new.levels for edge in level.edges if edge.to == approval}
    for level in old.levels:
        for edge in level.edges:
            if edge.to != approval or is_back(edge) or edge in kept:
                continue
            if edge.when or edge.on != "success" or not _leads(new, edge.from_, approval):
                return edge.from_
    return ""


def _leads(s: Subject, src: str, dst: str) -> bool:
    """Say whether one node leads to another whatever comes of those on the way."""
    seen, todo = {src}, [src]
    while todo:
        name = todo.pop()
        if name not in s.by_id or _chooses(s.by_id[name].node):
            continue
        for edge, _ in s.outgoing.get(name, ()):
            if edge.when or edge.on != "success" or is_back(edge) or edge.to in seen:
                continue
            if edge.to == dst:
                return True
            seen.add(edge.to)
            todo.append(edge.to)
    return False


def _chooses(node: Node) -> bool:
    """Say whether an outgoing edge of a node may be left out, or taken without its work."""
    handled = node.on_error is not None and node.on_error.action in _GOES_ON
    return node.route == "first" or node.kind == "switch" or bool(node.config.get("choices")) or handled
