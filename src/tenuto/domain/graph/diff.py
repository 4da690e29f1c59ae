"""What changed between two definitions, by node id and by edge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.model import Definition, Edge, Node

EdgeKey = tuple[str, str, str, str]


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field with another value than before; a missing value is `None`."""

    field: str
    before: Any = None
    after: Any = None


class GraphDiff(msgspec.Struct, frozen=True, omit_defaults=True):
    """The difference between two definitions; empty when they mean the same.

    Attributes:
        nodes_changed: Fields that differ, by node id; moves between levels are a removal and an addition.
        edges_changed: Edges whose bound on passes differs.
        settings: Changed fields of the definition itself, such as `budget`.
    """

    nodes_added: tuple[str, ...] = ()
    nodes_removed: tuple[str, ...] = ()
    nodes_changed: dict[str, tuple[Change, ...]] = {}
    edges_added: tuple[Edge, ...] = ()
    edges_removed: tuple[Edge, ...] = ()
    edges_changed: tuple[Edge, ...] = ()
    settings: tuple[Change, ...] = ()


def diff_definitions(before: Definition, after: Definition) -> GraphDiff:
    """Return what was added, removed and changed from one definition to the next, map bodies included."""
    old_nodes, new_nodes = _nodes(before), _nodes(after)
    old_edges, new_edges = _edges(before), _edges(after)
    both = [key for key in old_nodes if key in new_nodes]
    changed = {key[1]: _changes(old_nodes[key], new_nodes[key]) for key in both}
    return GraphDiff(
        nodes_added=tuple(key[1] for key in new_nodes if key not in old_nodes),
        nodes_removed=tuple(key[1] for key in old_nodes if key not in new_nodes),
        nodes_changed={name: changes for name, changes in changed.items() if changes},
        edges_added=tuple(edge for key, edge in new_edges.items() if key not in old_edges),
        edges_removed=tuple(edge for key, edge in old_edges.items() if key not in new_edges),
        edges_changed=tuple(edge for key, edge in new_edges.items() if old_edges.get(key, edge) != edge),
        settings=_changes(before, after, skip=("nodes", "edges")),
    )


def _nodes(definition: Definition) -> dict[tuple[str, str], Node]:
    return {(level.owner, node.id): node for level in levels_of(definition) for node in level.nodes}


def _edges(definition: Definition) -> dict[EdgeKey, Edge]:
    edges = (edge for level in levels_of(definition) for edge in level.edges)
    return {(edge.from_, edge.to, edge.on, edge.when): edge for edge in edges}


def _changes(before: msgspec.Struct, after: msgspec.Struct, skip: Iterable[str] = ()) -> tuple[Change, ...]:
    old: dict[str, Any] = msgspec.to_builtins(before)
    new: dict[str, Any] = msgspec.to_builtins(after)
    for fields in (old, new):
        if fields.get("kind") == "map":
            fields["config"] = {key: value for key, value in fields.get("config", {}).items() if key != "body"}
    names = [name for name in dict.fromkeys([*old, *new]) if name not in skip]
    return tuple(
        Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)
    )
