"""What a worker must have to serve a definition, read from the definition alone."""

from __future__ import annotations

from typing import Any

from tenuto.domain.graph.agents import entry_of, tool_lists
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


def models_of(definition: Definition) -> frozenset[str]:
    """Return the names of the models that agents name outright."""
    nodes = (node for level in levels_of(definition) for node in level.nodes if node.kind == "agent")
    names = (node.config.get("model") for node in nodes)
    return frozenset(name for name in names if isinstance(name, str) and name and "${" not in name)


def tools_of(node: Node) -> tuple[str, ...]:
    """Return the names of the tools a node may call, in the author's order, those of agents inside it included."""
    if node.kind == "function":
        entries: list[Any] = [node.config.get("tool")]
    else:
        entries = [entry for _, tools in tool_lists(node.config) for entry in tools] if node.kind == "agent" else []
    found = [entry_of(entry) for entry in entries]
    return tuple(dict.fromkeys(name for kind, name in found if kind == "tool" and name))


def _needs(node: Node) -> set[str]:
    needed = set(tools_of(node))
    handler = node.config.get("handler") if node.kind == "function" else None
    if isinstance(handler, str):
        needed.add(handler)
    return needed
