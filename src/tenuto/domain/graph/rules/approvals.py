"""The rule that nothing irreversible happens unless a person approved it first."""

from __future__ import annotations

from tenuto.domain.graph.compile import fallback_edges
from tenuto.domain.graph.model import Edge, Node
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requirements import TOOL, tools_of
from tenuto.domain.graph.rules.subject import Subject

_MEANS_APPROVED = frozenset({
    "", "output.approved", "output.approved==true", "output.decision=='approve'", 'output.decision=="approve"',
})


def check_approvals(s: Subject) -> None:
    """Report every irreversible node that some path reaches without an approval."""
    marked = [spot for spot in s.spots if why_irreversible(s, spot.node)]
    if not marked:
        return
    before = reached_unapproved(s)
    for spot in marked:
        name = spot.node.id
        if name not in before:
            continue
        path = [name]
        while before[path[-1]]:
            path.append(before[path[-1]])
        message = (
            f"{name!r} cannot be undone ({why_irreversible(s, spot.node)}), "
            f"and no approval is on the path {' -> '.join(reversed(path))}"
        )
        s.report(pointer(spot.place), message, "graph.approval_missing", "put a node of kind 'approval' before it")


def why_irreversible(s: Subject, node: Node) -> str:
    """Return why a node counts as irreversible; nothing when it does not."""
    if node.irreversible:
        return "it is marked irreversible"
    for tool in tools_of(node):
        if TOOL + tool in s.known.irreversible:
            return f"the tool {tool!r} is irreversible"
    handler = node.config.get("handler") if node.kind == "function" else None
    return f"the handler {handler!r} is irreversible" if handler in s.known.irreversible else ""


def reached_unapproved(s: Subject, approvals: frozenset[str] | None = None) -> dict[str, str]:
    """Return every node that can run before an approval, with the node that leads to it (none for entries).

    Args:
        approvals: Ids of those that count; `None` means every one.
    """
    fallbacks = {src: dst for level in s.levels for src, dst in fallback_edges(level)}
    entries = {level.owner: shape.entries for level, shape in zip(s.levels, s.shapes, strict=True)}
    before = dict.fromkeys(entries[""], "")
    counts = approvals.__contains__ if approvals is not None else _any
    todo = list(before)
    while todo:
        name = todo.pop()
        spot = s.by_id.get(name)
        if spot is None:
            continue
        following = [edge.to for edge, _ in s.outgoing.get(name, ()) if not (counts(name) and approves(spot.node, edge))]
        following += [fallbacks[name]] if name in fallbacks else []
        following += entries.get(name, []) if spot.node.kind == "map" else []
        for other in following:
            if other not in before:
                before[other] = name
                todo.append(other)
    return before


def _any(name: str) -> bool:
    return True


def approves(node: Node, edge: Edge) -> bool:
    """Say whether an edge is taken only when a person has approved at the node it leaves."""
    return (
        node.kind == "approval" and edge.on == "success" and "".join(edge.when.split()) in _MEANS_APPROVED
        and (node.on_error is None or node.on_error.action in ("fail", "escalate", "skip"))
    )
