"""What a worker must have to serve a definition, read from the definition alone."""

from __future__ import annotations

from typing import Any

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.model import Definition, Node

PREDICATE = "py:"
TOOL = "tool:"


def requirements_of(definition: Definition) -> frozenset[str]:
    """Return the handlers by name, the tools as `tool:NAME` and the predicates as `py:NAME`."""
    needed: set[str] = set()
    for level in levels_of(definition):
        needed.update(edge.when.strip() for edge in level.edges if edge.when.strip().startswith(PREDICATE))
        for node in level.nodes:
            needed.update(_needs(node))
    return frozenset(needed)


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
    name: Any = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _needs(node: Node) -> set[str]:
    needed = {TOOL + name for name in tools_of(node)}
    handler = node.config.get("handler") if node.kind == "function" else None
    if isinstance(handler, str):
        needed.add(handler)
    return needed
