"""What a process can serve: handlers, tools, predicates, hooks, models and workflows, by name.

A catalog is a value: an app makes one, and workers, services and tests read it. It never changes afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from tenuto.domain.graph.bodies import body_of, body_to_json
from tenuto.domain.graph.model import Definition, Effect, Node, Retry
from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.requirements import TOOL
from tenuto.domain.graph.validate import Known

Arguments = tuple[list[Any], dict[str, Any]]
Bind = Callable[[Any, Any], Arguments]
"""Makes the arguments of one call, or raises `InvalidInput`: from context and input for a handler, from arguments
and `CallInfo` for a tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """Which call a tool serves.

    Attributes:
        key: Idempotency key: the same however often the call is tried.
        project: What the run's label `project` says; empty without one.
    """

    key: str
    ns: str = "default"
    run: str = ""
    step: str = ""
    project: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function that does the work of nodes.

    Attributes:
        bind: `(ctx, input)` to the arguments of `fn`, whose result has to be awaited when `is_async`.
        effect: What a repeat of the call does to the world.
        on_unknown: `retry`, `ask` or the name of a status hook: what to do when an outcome was lost.
        wants_ctx: Whether the function takes the context of its step.
        version: Digest of the source, or the place of the function when there is no source.
        target: `module:qualname`, from which another process can import the function; empty when it cannot.
        schema: JSON Schema of the input; `None` means that anything goes.
        deterministic: Whether equal inputs always give equal outputs, so that results may be cached.
        irreversible: Whether the work needs an approval upstream.
    """

    name: str
    fn: Callable[..., Any]
    bind: Bind
    effect: Effect = "idempotent"
    on_unknown: str = ""
    timeout_s: float | None = None
    heartbeat_s: float | None = None
    retry: Retry | None = None
    wants_ctx: bool = False
    is_async: bool = False
    version: str = ""
    target: str = ""
    schema: dict[str, Any] | None = None
    description: str = ""
    deterministic: bool = False
    irreversible: bool = False
    isolation: Literal["inline", "process"] = "inline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Handler):
    """A function that agents and nodes may call, described by a schema; presumed to have an effect.

    Attributes:
        bind: `(arguments, CallInfo)` to the arguments of `fn`; a parameter `idempotency_key` gets the key.
    """

    effect: Effect = "effect"
    on_unknown: str = "ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything an app offers.

    Attributes:
        handlers: By name; a name that ends in `.*` serves every name with that prefix.
        predicates: Each takes the variables of a condition by name and returns true or false.
        hooks: Each takes the key of a call with a lost outcome and says what became of it.
        models: Model objects by `provider:model` name.
        builtin: Tools that come with Tenuto, for nodes that name them; a tool of the app hides one of the same name.
    """

    handlers: Mapping[str, Handler] = field(default_factory=dict[str, Handler])
    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    predicates: Mapping[str, Callable[[dict[str, Any]], bool]] = field(
        default_factory=dict[str, Callable[[dict[str, Any]], bool]]
    )
    hooks: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])
    models: Mapping[str, Any] = field(default_factory=dict[str, Any])
    workflows: tuple[Definition, ...] = ()
    builtin: Mapping[str, Tool] = field(default_factory=dict[str, Tool])

    def tool(self, name: str) -> Tool | None:
        """Return the tool of a name: the app's own, else the one that comes with Tenuto."""
        return self.tools.get(name) or self.builtin.get(name)

    def handler(self, name: str) -> Handler | None:
        """Return the handler of a name: its own, else the one for its prefix, else the tool of that name."""
        return self.handlers.get(name) or self.handlers.get(name.partition(".")[0] + ".*") or self.tool(name)

    def missing(self, plan: Plan) -> tuple[str, ...]:
        """Return what a plan names and this process cannot serve, sorted."""
        names = {name for name in plan.handlers if self.handler(name) is None}
        return tuple(sorted(names | {f"py:{name}" for name in plan.predicates if name not in self.predicates}))

    def known(self) -> Known:
        """Return the names a definition may use. Models and workflows may also live elsewhere, so any name goes."""
        tools = {**self.builtin, **self.tools}
        by_name: dict[str, Handler] = {**self.handlers, **{TOOL + name: tool for name, tool in tools.items()}}
        return Known(
            handlers=frozenset(self.handlers),
            tools=frozenset(tools),
            builtin=frozenset(self.builtin) - frozenset(self.tools),
            predicates=frozenset(self.predicates),
            hooks=frozenset(self.hooks),
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
    if node.isolation == "inline" and handler.isolation != "inline":
        changes["isolation"] = handler.isolation
    for name in ("deterministic", "irreversible"):
        if getattr(handler, name) and not getattr(node, name):
            changes[name] = True
    return msgspec.structs.replace(node, **changes) if changes else node
