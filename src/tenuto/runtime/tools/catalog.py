"""What a process can serve: handlers, tools, predicates, hooks, models and workflows, by name.

A catalog is a value: an app makes one, and workers, services and tests read it. What it holds never changes; the tools
of servers elsewhere are asked for at each use, since such servers come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tenuto.domain.graph.bodies import body_of, body_to_json
from tenuto.domain.graph.model import Definition, Node
from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.requirements import TOOL
from tenuto.domain.graph.validate import Known
from tenuto.ports.services import Checked
from tenuto.runtime.tools.servers import McpServer, Toolset
from tenuto.runtime.tools.tool import Arguments, Bind, CallInfo, Handler, Tool

__all__ = ["Arguments", "Bind", "CallInfo", "Catalog", "Handler", "Tool"]

@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything an app offers.

    Attributes:
        handlers: By name; a name that ends in `.*` serves every name with that prefix.
        predicates: Each takes the variables of a condition by name and returns true or false.
        hooks: Each takes the key of a call with a lost outcome and says what became of it.
        models: Model objects by `provider:model` name.
        providers: Names of the providers that are set up for other models; `None` lets any name go.
        builtin: Tools that come with Tenuto, for nodes that name them; a tool of the app hides one of the same name.
        servers: Servers of tools that are declared; their tools have names that begin with the server's.
        toolsets: Those of them that this process is in touch with.
        apis: APIs whose operations are among the tools.
    """

    handlers: Mapping[str, Handler] = field(default_factory=dict[str, Handler])
    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    predicates: Mapping[str, Callable[[dict[str, Any]], bool]] = field(
        default_factory=dict[str, Callable[[dict[str, Any]], bool]]
    )
    hooks: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])
    models: Mapping[str, Any] = field(default_factory=dict[str, Any])
    providers: frozenset[str] | None = None
    workflows: tuple[Definition, ...] = ()
    builtin: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    servers: tuple[McpServer, ...] = ()
    toolsets: tuple[Toolset, ...] = ()
    apis: tuple[Checked, ...] = ()

    def handler(self, name: str) -> Handler | None:
        """Return the handler of a name: its own, else the one for its prefix, else the tool of that name."""
        return self.handlers.get(name) or self.handlers.get(name.partition(".")[0] + ".*") or self.tool(name)

    def tool(self, name: str) -> Tool | None:
        """Return the tool of a name: the app's own, a server's as it is now, else the one that comes with Tenuto."""
        toolset = self.toolset(name)
        found = self.tools.get(name) or (toolset.tools().get(name) if toolset is not None else None)
        return found or self.builtin.get(name)

    def toolset(self, name: str) -> Toolset | None:
        """Return the tools of the server that a tool's name begins with."""
        first = name.partition(".")[0]
        return next((item for item in self.toolsets if item.server.names == first), None)

    def is_remote(self, name: str) -> bool:
        """Return whether a name is that of a server's tool, also while the server is away."""
        first = name.partition(".")[0]
        return name not in self.tools and any(server.names == first for server in self.servers)

    def tool_names(self) -> frozenset[str]:
        """Return the names of all tools; `SERVER.*` stands for those of a server that was not listed yet."""
        found = {*self.builtin, *self.tools}
        near = {item.server.names: item for item in self.toolsets}
        for server in self.servers:
            toolset = near.get(server.names)
            found.update(toolset.tools() if toolset is not None and toolset.listed else {f"{server.names}.*"})
        return frozenset(found)

    def served_tools(self) -> list[str]:
        """Return the tools this process serves whatever becomes of servers; `SERVER.*` stands for all of a server."""
        return sorted({*self.builtin, *self.tools, *(f"{server.names}.*" for server in self.servers)})

    def serves(self, name: str) -> bool:
        """Return whether this process serves a name; a server's tools count while it is away, for it may be back."""
        first = name.partition(".")[0]
        return self.handler(name) is not None or any(server.names == first for server in self.servers)

    def missing(self, plan: Plan) -> tuple[str, ...]:
        """Return what a plan names and this process cannot serve, sorted."""
        names = {name for name in plan.handlers if not self.serves(name)}
        return tuple(sorted(names | {f"py:{name}" for name in plan.predicates if name not in self.predicates}))

    def known(self) -> Known:
        """Return the names a definition may use. Workflows may also live elsewhere, so any name of theirs goes."""
        names = self.tool_names()
        tools = {TOOL + name: tool for name in names if (tool := self.tool(name)) is not None}
        by_name: dict[str, Handler] = {**self.handlers, **tools}
        return Known(
            handlers=frozenset(self.handlers),
            tools=names,
            builtin=frozenset(self.builtin) - frozenset(self.tools),
            predicates=frozenset(self.predicates),
            hooks=frozenset(self.hooks),
            models=frozenset(self.models) if self.providers is not None else None,
            providers=self.providers,
            effects={name: handler.effect for name, handler in by_name.items()},
            deterministic=frozenset(name for name, handler in by_name.items() if handler.deterministic),
            irreversible=frozenset(name for name, handler in by_name.items() if handler.irreversible),
        )

    def complete(self, definition: Definition) -> Definition:
        """Return the definition with what handlers declare written into the nodes that do not say otherwise.

        A version then means the same on every worker, whatever its own code declares.
        """
        return msgspec.structs.replace(definition, nodes=tuple(self._complete(node) for node in definition.nodes))

    def _complete(self, node: Node) -> Node:
        body = body_of(node)
        if body is not None:
            inner_body = body_to_json(tuple(self._complete(inner) for inner in body.nodes), body.edges)
            return msgspec.structs.replace(node, config={**node.config, "body": inner_body})
        name = node.config.get("handler") if node.kind == "function" else None
        handler = self.handler(name) if isinstance(name, str) else None
        return _with_defaults(node, handler) if handler is not None else node


def _with_defaults(node: Node, handler: Handler) -> Node:
    changes: dict[str, Any] = {}
    if node.effect is None and handler.effect != "idempotent":
        changes["effect"] = handler.effect
    for name in ("timeout_s", "heartbeat_s", "retry", "on_unknown"):
        if not getattr(node, name) and getattr(handler, name):
            changes[name] = getattr(handler, name)
    if node.cache is None and handler.cache is not None:
        changes["cache"] = handler.cache
    if node.isolation == "inline" and handler.isolation != "inline":
        changes["isolation"] = handler.isolation
    for name in ("deterministic", "irreversible"):
        if getattr(handler, name) and not getattr(node, name):
            changes[name] = True
    return msgspec.structs.replace(node, **changes) if changes else node
