"""Who speaks in a conversation: the node's own agent, or one of those inside it; and what each is offered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenuto.domain.graph.agents import TRANSFER, Helper, entry_of
from tenuto.ports.model import ToolSpec
from tenuto.runtime.tools.call import find_tool
from tenuto.runtime.tools.catalog import Catalog

MAX_TOKENS = 1024
_TASK: dict[str, Any] = {
    "type": "object", "required": ["task"], "additionalProperties": False,
    "properties": {"task": {"type": "string", "minLength": 1, "description": "What to do, with all it takes to do it."}},
}
_REASON: dict[str, Any] = {
    "type": "object", "additionalProperties": False,
    "properties": {"reason": {"type": "string", "description": "Why, for whoever takes over."}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One agent.

    Attributes:
        name: Empty for the node's own.
        tools: Names of the tools it may call.
        agents: Helpers it may ask as tools.
        handoffs: Helpers it may hand the conversation to.
    """

    name: str = ""
    system: str = ""
    model: str
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    handoffs: tuple[str, ...] = ()
    max_tokens: int = MAX_TOKENS
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def offer(self, catalog: Catalog, helpers: dict[str, Helper]) -> tuple[ToolSpec, ...]:
        """Return what the model is told that it may call; nothing else is ever called for it."""
        specs = [_spec(catalog, name) for name in self.tools]
        specs += [ToolSpec(name, helpers[name].description or f"Ask the agent {name}.", _TASK) for name in self.agents]
        specs += [
            ToolSpec(TRANSFER + name, f"Hand the conversation to {name}. {helpers[name].description}".strip(), _REASON)
            for name in self.handoffs
        ]
        return tuple(specs)


def own_role(config: dict[str, Any], model: str) -> Role:
    """Return the node's own agent."""
    tools, agents = _named(config.get("tools", []))
    return Role(
        system=config.get("system") or "", model=model, tools=tools, agents=agents,
        handoffs=tuple(config.get("handoffs") or ()), max_tokens=config.get("max_tokens", MAX_TOKENS),
        options=config.get("options") or {},
    )


def helper_role(name: str, helper: Helper, own: Role) -> Role:
    """Return a helper, with what it does not say taken from the node's own agent."""
    tools, agents = _named(helper.tools)
    return Role(
        name=name, system=helper.system, model=helper.model or own.model, tools=tools, agents=agents,
        handoffs=tuple(helper.handoffs), max_tokens=helper.max_tokens or own.max_tokens,
        options=helper.options or own.options,
    )


def _named(entries: list[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = [entry_of(entry) for entry in entries]
    return tuple(name for kind, name in found if kind == "tool"), tuple(name for kind, name in found if kind == "agent")


def _spec(catalog: Catalog, name: str) -> ToolSpec:
    tool = find_tool(catalog, name)
    return ToolSpec(tool.name, tool.description, tool.schema or {})
