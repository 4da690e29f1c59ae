"""Reads a definition from JSON-like data, whatever spelling it uses, and reports every fault at once.

Reading is about the shape of single fields; rules that need more than one node are in `check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import msgspec

from tenuto.domain.graph.bodies import body_to_json
from tenuto.domain.graph.kinds import KINDS, PATTERNS
from tenuto.domain.graph.limits import NAMES, Limits
from tenuto.domain.graph.loop_nodes import Draft, link_drafts
from tenuto.domain.graph.model import Budget, Definition, Edge, Node, Patching, Retry
from tenuto.domain.graph.reading import Findings, json_copy, kind_of, nearest, pointer, read_struct
from tenuto.domain.graph.spelling import (
    KIND_ALIASES,
    rename,
    spell_budget,
    spell_edge,
    spell_node,
    spell_retry,
)
from tenuto.errors import InvalidGraph, Problem

Object = dict[str, Any]

_TOP_FIELDS = ("name", "nodes", "edges", "input_schema", "budget", "retry", "metadata", "description", "patches",
               "limits")  # fmt: skip


class Reading(msgspec.Struct, frozen=True):
    """What could be read: a definition with stand-ins for unreadable nodes, and what is wrong.

    Attributes:
        definition: `None` when there is no list of nodes at all.
        broken: Places of the nodes that are stand-ins.
        node_places: Where each node of the definition was written, map bodies left out.
        edge_places: Where each edge was written, or the node that implied it.
    """

    definition: Definition | None
    problems: tuple[Problem, ...]
    broken: tuple[str, ...] = ()
    node_places: tuple[str, ...] = ()
    edge_places: tuple[str, ...] = ()

    def written(self, place: str) -> str:
        """Return where the author wrote what is at a place of the definition."""
        _, *keys = place.split("/", 3) if place else ("",)
        spots = {"nodes": self.node_places, "edges": self.edge_places}.get(keys[0], ()) if keys else ()
        if len(keys) < 2 or not keys[1].isdigit() or int(keys[1]) >= len(spots):
            return place
        return "/".join([spots[int(keys[1])], *keys[2:]])


def parse_definition(document: Any, *, name: str | None = None) -> Definition:
    """Return the canonical definition that a document describes.

    Args:
        document: Objects, lists and scalars as a JSON or YAML reader gives them.
        name: The workflow's name when the document has none.

    Raises:
        InvalidGraph: The document is not a definition; `problems` has every fault with its place.
    """
    reading = read_definition(document, name=name)
    if reading.problems or reading.definition is None:
        raise InvalidGraph("the workflow definition is not valid", problems=reading.problems)
    return reading.definition


def read_definition(document: Any, *, name: str | None = None) -> Reading:
    """Return all that can be read from a document, so that later checks can add their problems to these."""
    found = Findings()
    top: Any = json_copy(document, "", found)
    if not isinstance(top, dict):
        found.add("", f"a definition is an object with 'nodes' and 'edges', not {kind_of(top)}", code="graph.type")
        return Reading(None, tuple(found.items))
    fields = cast("Object", top)
    graph_place = _unwrap(fields, found)
    title = _name(fields, name, found)
    if "nodes" not in fields:
        found.add("", "a definition needs 'nodes'", code="graph.missing_field")
        _unknown_fields(fields, found)
        return Reading(None, tuple(found.items))
    broken: list[str] = []
    level = _read_level(fields, graph_place, found, broken)
    nodes, edges = link_drafts(level.drafts, level.edges, found)
    definition = Definition(
        name=title,
        nodes=nodes,
        edges=edges,
        input_schema=_object(fields, "input_schema", found),
        budget=_budget(fields, found),
        retry=_retry(fields, found),
        metadata=_object(fields, "metadata", found) or {},
        description=_text(fields, "description", found),
        patches=_patches(fields, found),
        limits=_limits(fields, found),
    )
    _unknown_fields(fields, found)
    return Reading(
        definition=definition,
        problems=tuple(found.items),
        broken=tuple(broken),
        node_places=tuple(draft.place for draft in level.drafts),
        edge_places=level.places_of(edges),
    )


def _unwrap(fields: Object, found: Findings) -> str:
    """Lift `graph: {nodes, edges}` to the top and return the place of the nodes' object."""
    for old, new in (("inputSchema", "input_schema"), ("budgets", "budget")):
        rename(fields, old, new, "", found)
    graph = fields.get("graph")
    if not isinstance(graph, dict):
        return ""
    for key, value in cast("Object", fields.pop("graph")).items():
        if key in fields:
            found.add(pointer("", "graph", key), "is set twice; keep one of them", code="graph.duplicate_field")
        fields[key] = value
    return "/graph"


def _name(fields: Object, given: str | None, found: Findings) -> str:
    metadata = fields.get("metadata")
    inner = cast("Object", metadata) if isinstance(metadata, dict) else {}
    for source in ("name", "description"):
        if source not in fields and isinstance(inner.get(source), str):
            fields[source] = inner[source]
    if "name" not in fields and given is not None:
        fields["name"] = given
    if "name" not in fields:
        found.add("", "a definition needs 'name', at the top or in 'metadata'", code="graph.missing_field")
        return "unnamed"
    return _text(fields, "name", found)


def _unknown_fields(fields: Object, found: Findings) -> None:
    for key in fields:
        if key not in _TOP_FIELDS:
            found.unknown_field("", key, _TOP_FIELDS, "a definition")


def _text(fields: Object, key: str, found: Findings) -> str:
    value = fields.get(key, "")
    if isinstance(value, str):
        return value
    found.add(pointer("", key), f"is {kind_of(value)}; allowed: text", code="graph.type")
    return ""


def _object(fields: Object, key: str, found: Findings) -> Object | None:
    value = fields.get(key)
    if value is None or isinstance(value, dict):
        return cast("Object | None", value)
    found.add(pointer("", key), f"is {kind_of(value)}; allowed: an object", code="graph.type")
    return None


def _retry(fields: Object, found: Findings) -> Retry | None:
    spell_retry(fields, "/retry", found)
    data = _object(fields, "retry", found)
    return None if data is None else read_struct(Retry, data, "/retry", found, owner="a retry policy")


def _budget(fields: Object, found: Findings) -> Budget | None:
    data = _object(fields, "budget", found)
    if data is None:
        return None
    spell_budget(data, "/budget", found)
    return read_struct(Budget, data, "/budget", found, owner="a budget")


def _patches(fields: Object, found: Findings) -> Patching | None:
    data = _object(fields, "patches", found)
    if data is None:
        return None
    read = read_struct(Patching, data, "/patches", found, owner="a rule for patches")
    for name in ("max_agents", "max_nodes", "max_patches"):
        value = getattr(read, name, None)
        if value is not None and value < 0:
            found.add(pointer("/patches", name), f"{value} is not possible; allowed: 0 or more", code="graph.range")
    return read


def _limits(fields: Object, found: Findings) -> Limits | None:
    data = _object(fields, "limits", found)
    if data is None:
        return None
    read = read_struct(Limits, data, "/limits", found, owner="a limit of a run")
    for name in NAMES:
        value = getattr(read, name, None)
        if value is not None and value < 1:
            found.add(pointer("/limits", name), f"{value} is not possible; allowed: 1 or more", code="graph.range")
    return read


# --- one level -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Level:
    """One graph as read; `places` says where each edge is."""

    drafts: list[Draft]
    edges: list[Edge]
    places: list[str]

    def places_of(self, edges: tuple[Edge, ...]) -> tuple[str, ...]:
        """Return where each linked edge was written, or the node that implied it."""
        written: dict[tuple[str, str], list[str]] = {}
        for edge, place in zip(self.edges, self.places, strict=True):
            written.setdefault((edge.from_, edge.to), []).append(place)
        nodes = {draft.node.id: draft.place for draft in self.drafts}
        spots: list[str] = []
        for edge in edges:
            queue = written.get((edge.from_, edge.to))
            spots.append(queue.pop(0) if queue else nodes.get(edge.from_, ""))
        return tuple(spots)


def _read_level(fields: Object, place: str, found: Findings, broken: list[str]) -> _Level:
    drafts = _read_nodes(fields.get("nodes"), pointer(place, "nodes"), found, broken)
    edges, places = _read_edges(fields.get("edges"), pointer(place, "edges"), found)
    return _Level(drafts, edges, places)


def _read_nodes(data: Any, place: str, found: Findings, broken: list[str]) -> list[Draft]:
    if isinstance(data, dict):
        named = cast("Object", data)
        data = [
            {"id": key, **cast("Object", value)} if isinstance(value, dict) else value for key, value in named.items()
        ]
        places = [pointer(place, key) for key in named]
    elif isinstance(data, list):
        places = [pointer(place, at) for at in range(len(cast("list[Any]", data)))]
    else:
        found.add(place, f"is {kind_of(data)}; allowed: a list of nodes", code="graph.type")
        return []
    items = cast("list[Any]", data)
    return [_read_node(item, spot, found, broken) for item, spot in zip(items, places, strict=True)]


def _read_node(data: Any, place: str, found: Findings, broken: list[str]) -> Draft:
    if not isinstance(data, dict):
        found.add(place, f"a node is an object, not {kind_of(data)}", code="graph.type")
        broken.append(place)
        return Draft(Node(id=_stand_in(place), kind="join"), place)
    fields = cast("Object", data)
    before = len(found.items)
    written = spell_node(fields, place, found)
    needs = _dependencies(fields, place, found)
    loop = _loop_config(fields) if written == "loop" else None
    known_kind = _check_kind(fields, place, found)
    if fields.get("kind") == "map":
        _read_body(fields, place, found, broken)
    node = read_struct(Node, fields, place, found, owner="a node") if known_kind else None
    if node is None or len(found.items) > before:
        broken.append(place)
    if node is None:
        name = fields.get("id")
        node = Node(id=name if isinstance(name, str) else _stand_in(place), kind="join")
    return Draft(node, place, written, needs, loop)


def _stand_in(place: str) -> str:
    """Return an id for a node that has none; no author can write it."""
    return "?" + place


def _check_kind(fields: Object, place: str, found: Findings) -> bool:
    kind = fields.get("kind")
    if "kind" not in fields or (isinstance(kind, str) and kind in KINDS):
        return True
    allowed = (*KINDS, *KIND_ALIASES, *PATTERNS)
    hint = nearest(kind, allowed) if isinstance(kind, str) else ""
    message = f"{kind!r} is not a kind of node; allowed: {', '.join(KINDS)}"
    found.add(pointer(place, "kind"), message, hint=hint, code="graph.unknown_kind")
    if isinstance(fields.get("id"), str):
        read_struct(Node, {**fields, "kind": "join"}, place, found, owner="a node")
    return False


def _dependencies(fields: Object, place: str, found: Findings) -> list[tuple[str, str]]:
    """Take the names a node depends on out of it, each with its place."""
    key = "dependsOn" if "dependsOn" in fields else "depends_on"
    names = fields.pop(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
        found.add(pointer(place, key), "allowed: a list of node ids", code="graph.type")
        return []
    return [(name, pointer(place, key, at)) for at, name in enumerate(cast("list[str]", names))]


def _loop_config(fields: Object) -> Object:
    """Take the settings of a loop node out of it; it routes by edges afterwards."""
    config = fields.get("config")
    fields["config"] = {}
    return cast("Object", config) if isinstance(config, dict) else {}


def _read_body(fields: Object, place: str, found: Findings, broken: list[str]) -> None:
    """Replace a map's body by its canonical form: `{nodes, edges}`, whatever it was written as."""
    config = fields.get("config")
    body = cast("Object", config).get("body") if isinstance(config, dict) else None
    if not isinstance(body, dict):
        return
    level = cast("Object", body)
    spot = pointer(place, "config", "body")
    if "nodes" not in level:
        owner = fields.get("id")
        level.setdefault("id", f"{owner}_item" if isinstance(owner, str) else "item")
        draft = _read_node(level, spot, found, broken)
        nodes, edges = link_drafts([draft], [], found)
    else:
        for key in level:
            if key not in ("nodes", "edges"):
                found.unknown_field(spot, key, ("nodes", "edges"), "a map's body")
        inner = _read_level(level, spot, found, broken)
        nodes, edges = link_drafts(inner.drafts, inner.edges, found)
    cast("Object", config)["body"] = body_to_json(nodes, edges)


def _read_edges(data: Any, place: str, found: Findings) -> tuple[list[Edge], list[str]]:
    edges: list[Edge] = []
    places: list[str] = []
    if data is None:
        return edges, places
    if not isinstance(data, list):
        found.add(place, f"is {kind_of(data)}; allowed: a list of edges", code="graph.type")
        return edges, places
    for at, item in enumerate(cast("list[Any]", data)):
        spot = pointer(place, at)
        if not isinstance(item, dict):
            found.add(spot, f"an edge is an object with 'from' and 'to', not {kind_of(item)}", code="graph.type")
            continue
        fields = cast("Object", item)
        spell_edge(fields, spot, found)
        edge = read_struct(Edge, fields, spot, found, owner="an edge")
        if edge is not None:
            edges.append(edge)
            places.append(spot)
    return edges, places
