"""What a worker must have to serve a definition, read from the definition alone."""

from __future__ import annotations

from typing import Any, cast

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.model import Definition, Node

PREDICATE = "py:"
TOOL = "tool:"


def handlers_of(definition: Definition) -> frozenset[str]:
    """Return the names of the handlers and tools that the nodes name."""
    nodes = (node for level in levels_of(definition) for node in level.nodes)
    return frozenset(name for node in nodes for name in _needs(node))


def predicates_of(definition: Definition) -> frozenset[str]:
    """Return the names of the registered predicates that conditions name."""
    whens = (edge.when.strip() for level in levels_of(definition) for edge in level.edges)
    return frozenset(when[len(PREDICATE) :] for when in whens if when.startswith(PREDICATE))


def tools_of(node: Node) -> tuple[str, ...]:
    """Return the names of the tools a node may call, in the author's order."""
    one: Any = node.config.get("tool") if node.kind == "function" else None
    many: Any = node.config.get("tools") if node.kind == "agent" else None
    names: list[Any] = [one, *(many if isinstance(many, list | tuple) else ())]
    return tuple(_tool_name(name) for name in names if _tool_name(name))


def _tool_name(entry: Any) -> str:
    """Return the name in a tool entry: text, or an object with a `name`."""
    if isinstance(entry, str):
        return entry
    name = cast("dict[str, Any]", entry).get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _needs(node: Node) -> set[str]:
    needed = set(tools_of(node))
    handler = node.config.get("handler") if node.kind == "function" else None
    if isinstance(handler, str):
        needed.add(handler)
    return needed
