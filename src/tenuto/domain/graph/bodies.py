"""The levels of a definition: the run's own graph, and one graph for each body of a map.

Ids are unique over all levels and edges stay inside one, so most rules are checked level by level.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tenuto.domain.graph.model import Definition, Edge, Node
from tenuto.domain.graph.reading import pointer


class Body(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The graph that a map runs once for each item."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()


class Level(msgspec.Struct, frozen=True):
    """One graph of a definition with its place in the document.

    Attributes:
        owner: The map whose body this is; empty for the run's own graph.
        parent: Index of the level that holds the owner; the root is its own.
        place: JSON pointer of the object that has `nodes` and `edges`.
    """

    owner: str
    parent: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    place: str


def body_to_json(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> dict[str, Any]:
    """Return a body as the plain JSON a map's config holds, defaults left out."""
    return msgspec.json.decode(msgspec.json.encode(Body(nodes, edges)))


def body_of(node: Node) -> Body | None:
    """Return the body of a map node in canonical form, or `None` when it has none or is no map."""
    body: Any = node.config.get("body") if node.kind == "map" else None
    if not isinstance(body, dict):
        return None
    try:
        return msgspec.convert(cast("dict[str, Any]", body), Body)
    except msgspec.ValidationError:
        return None


def levels_of(definition: Definition) -> tuple[Level, ...]:
    """Return every level, parents before children, otherwise in the author's order."""
    found = [Level("", 0, definition.nodes, definition.edges, "")]
    for index, level in enumerate(found):
        for at, node in enumerate(level.nodes):
            body = body_of(node)
            if body is not None:
                place = pointer(level.place, "nodes", at, "config", "body")
                found.append(Level(node.id, index, body.nodes, body.edges, place))
    return tuple(found)
