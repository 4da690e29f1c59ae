"""Turns what other notations say with nodes into edges: loop nodes, default branches, `depends_on`.

The canonical form has one way to say each of these, so nothing after parsing knows the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from tenuto.domain.graph.model import Edge, EdgeOn, Node
from tenuto.domain.graph.reading import Findings, kind_of, nearest, pointer

_LOOP_FIELDS = ("max_iterations", "loop_back_to", "condition", "break_path", "timeout_path")


@dataclass(slots=True)
class Draft:
    """A node as read, with what its notation says about edges.

    Attributes:
        written: The kind as the author wrote it.
        needs: Names this node depends on, each with its place.
        loop: Settings of a loop node.
    """

    node: Node
    place: str
    written: str = ""
    needs: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    loop: dict[str, Any] | None = None


def link_drafts(
    drafts: list[Draft], edges: list[Edge], found: Findings
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """Return the canonical nodes and edges of one level."""
    names = {draft.node.id for draft in drafts}
    edges = [*edges, *(edge for draft in drafts for edge in _needed_edges(draft, names, found))]
    for draft in drafts:
        if draft.written == "loop":
            edges = _loop_edges(draft, names, edges, found)
        elif draft.written in ("conditional", "branch"):
            edges = _default_edges(draft.node.id, edges)
    return tuple(_with_input(draft, edges) for draft in drafts), tuple(edges)


def _needed_edges(draft: Draft, names: set[str], found: Findings) -> list[Edge]:
    edges: list[Edge] = []
    for name, place in draft.needs:
        if name not in names:
            message = f"{draft.node.id!r} depends on {name!r}, which does not exist"
            found.add(place, message, hint=nearest(name, names), code="graph.unknown_node")
        else:
            edges.append(Edge(from_=name, to=draft.node.id))
    return edges


def _default_edges(node: str, edges: list[Edge]) -> list[Edge]:
    """Make the unconditional edges of a branch the ones taken when no condition holds."""
    own = [edge for edge in edges if edge.from_ == node and edge.on == "success"]
    if not any(edge.when for edge in own):
        return edges
    return [
        msgspec.structs.replace(edge, on="default")
        if edge.from_ == node and edge.on == "success" and not edge.when
        else edge
        for edge in edges
    ]


def _loop_edges(draft: Draft, names: set[str], edges: list[Edge], found: Findings) -> list[Edge]:
    """Return the edges with those of a loop node added: the back edge, the way out, the way at the limit."""
    loop, place, node = draft.loop or {}, pointer(draft.place, "config"), draft.node.id
    for key in loop:
        if key not in _LOOP_FIELDS:
            found.unknown_field(place, key, _LOOP_FIELDS, "a loop")
    header, passes, condition = loop.get("loop_back_to"), loop.get("max_iterations"), loop.get("condition")
    if isinstance(condition, dict):
        condition = cast("dict[str, Any]", condition).get("expression")
    if not isinstance(passes, int) or isinstance(passes, bool) or passes < 1:
        message = f"a loop needs 'max_iterations', a whole number from 1; it is {passes!r}"
        found.add(pointer(place, "max_iterations"), message, code="graph.loop_limit")
        passes = 1
    leave = _targets(loop, "break_path", place, names, found)
    late = _targets(loop, "timeout_path", place, names, found)
    if not isinstance(header, str) or header not in names:
        hint = nearest(header, names) if isinstance(header, str) else ""
        message = f"a loop needs 'loop_back_to', the id of a node; {header!r} is none"
        found.add(pointer(place, "loop_back_to"), message, hint=hint, code="graph.unknown_node")
        return edges
    if not condition:
        late = late or leave
    when = condition.strip() if isinstance(condition, str) else ""
    rest = [edge for edge in edges if not (edge.from_ == node and (edge.to == header or edge.to in (*leave, *late)))]
    rest.append(Edge(from_=node, to=header, when=when, max_iterations=passes))
    ways: list[tuple[list[str], EdgeOn]] = [(leave, "success"), (late, "limit")]
    rest.extend(Edge(from_=node, to=target, on=on) for targets, on in ways for target in targets)
    return rest


def _targets(loop: dict[str, Any], key: str, place: str, names: set[str], found: Findings) -> list[str]:
    data: Any = loop.get(key) or []
    items = [data] if isinstance(data, str) else data
    if not isinstance(items, list):
        found.add(pointer(place, key), f"is {kind_of(data)}; allowed: a list of node ids", code="graph.type")
        return []
    good: list[str] = []
    for at, name in enumerate(cast("list[Any]", items)):
        if isinstance(name, str) and name in names:
            good.append(name)
        else:
            hint = nearest(name, names) if isinstance(name, str) else ""
            found.add(pointer(place, key, at), f"{name!r} is no node", hint=hint, code="graph.unknown_node")
    return good


def _with_input(draft: Draft, edges: list[Edge]) -> Node:
    """Return the node; one that only passes on what comes in gets its single predecessor's output as input."""
    node = draft.node
    if draft.written not in ("conditional", "branch", "loop", "parallel") or node.input is not msgspec.UNSET:
        return node
    before = [edge.from_ for edge in edges if edge.to == node.id and edge.max_iterations is None]
    if len(before) != 1:
        return node
    return msgspec.structs.replace(node, input=f"${{nodes.{before[0]}.output}}")
