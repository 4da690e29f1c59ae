"""Holds what an app has registered, and finds the name of a function wherever one is used instead of a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from tenuto.domain.graph.model import Definition, Effect, Retry
from tenuto.domain.graph.validate import Known
from tenuto.errors import InvalidGraph, Problem
from tenuto.runtime.tools.builtin.tools import builtin_tools
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.openapi import Api
from tenuto.runtime.tools.servers import McpServer
from tenuto.runtime.tools.tool import Handler, Tool
from tenuto.sdk import functions
from tenuto.sdk.predicates import read_predicate

Function = Callable[..., Any]
Policy = Retry | int | None


class Registry:
    """Every function and model of an app by name; names are unique among things of one sort."""

    def __init__(self) -> None:
        """Start empty."""
        self.handlers: dict[str, Handler] = {}
        self.tools: dict[str, Tool] = {}
        self.predicates: dict[str, Callable[[dict[str, Any]], bool]] = {}
        self.hooks: dict[str, Function] = {}
        self.models: dict[str, Any] = {}
        self.servers: dict[str, McpServer] = {}
        self.apis: dict[str, Api] = {}
        self._predicate_names: dict[Function, str] = {}

    def add_step(
        self, fn: Function, name: str = "", *, effect: Effect = "idempotent", on_unknown: str = "",
        timeout_s: float | None = None, heartbeat_s: float | None = None, retry: Policy = None,
        deterministic: bool = False, irreversible: bool = False,
        isolation: Literal["inline", "process"] = "inline", cache: str | dict[str, Any] | None = None,
        version: str = "",
    ) -> str:
        """Register a function as a step and return its name.

        Raises:
            InvalidGraph: It cannot be called with a JSON input, or the name is taken.
        """
        title = self._free(fn, name, self.handlers, "step")
        signature = functions.read_signature(fn, title)
        self.handlers[title] = Handler(
            name=title, fn=fn, bind=functions.bind_step(signature, title), effect=effect, on_unknown=on_unknown,
            timeout_s=timeout_s, heartbeat_s=heartbeat_s, retry=_policy(retry), wants_ctx=bool(signature.context),
            is_async=signature.is_async, version=version or functions.version_of(fn),
            target=functions.target_of(fn), cache=cache,
            schema=functions.schema_of(fn, signature, closed=False), description=functions.summary_of(fn),
            deterministic=deterministic or effect == "pure", irreversible=irreversible, isolation=isolation,
        )
        return title

    def add_tool(
        self, fn: Function, name: str = "", *, effect: Effect = "effect", unknown: str = "",
        timeout_s: float | None = None, retry: Policy = None, deterministic: bool = False,
        irreversible: bool = False, description: str = "",
    ) -> str:
        """Register a function as a tool and return its name.

        Raises:
            InvalidGraph: It cannot be described, or the name is taken.
        """
        title = self._free(fn, name, self.tools, "tool")
        signature = functions.read_signature(fn, title, tool=True)
        self.tools[title] = Tool(
            name=title, fn=fn, bind=functions.bind_tool(signature, title), effect=effect,
            on_unknown=unknown or ("ask" if effect == "effect" else "retry"), timeout_s=timeout_s,
            retry=_policy(retry), is_async=signature.is_async, version=functions.version_of(fn),
            target=functions.target_of(fn), schema=functions.schema_of(fn, signature, closed=True),
            description=description or functions.summary_of(fn), deterministic=deterministic or effect == "pure",
            irreversible=irreversible,
        )
        return title

    def take_tool(self, tool: Tool) -> None:
        """Register a tool that is no function of the app's.

        Raises:
            InvalidGraph: The name is taken.
        """
        first = tool.name.partition(".")[0]
        if tool.name in self.tools or any(server.names == first for server in self.servers.values()):
            raise taken(tool.name, "tool")
        self.tools[tool.name] = tool

    def add_api(self, api: Api) -> None:
        """Register an API whose operations were taken; declared again with others, it offers all of them."""
        before = self.apis.get(api.name)
        self.apis[api.name] = replace(api, tools=(*before.tools, *api.tools)) if before is not None else api

    def add_server(self, server: McpServer) -> None:
        """Register a server of tools.

        Raises:
            InvalidGraph: Another server has the name, or a tool has a name that begins like its tools' names.
        """
        clash = next((name for name in self.tools if name.partition(".")[0] == server.names and "." in name), None)
        if clash is not None:
            raise taken(clash, "tool")
        if any(server.names == other.names for other in self.servers.values()):
            raise taken(server.names, "server of tools")
        self.servers[server.name] = server

    def add_predicate(self, fn: Function, name: str = "") -> str:
        """Register a function as a predicate and return its name.

        Raises:
            InvalidGraph: It cannot be asked about a condition's variables, or the name is taken.
        """
        title = name or name_of(fn)
        if title in self.predicates and self._predicate_names.get(fn) != title:
            raise taken(title, "predicate")
        self.predicates[title] = read_predicate(fn, title)
        self._predicate_names[fn] = title
        return title

    def step_name(self, fn: Function) -> str:
        """Return the name of a step, registering the function when it is none yet."""
        found = next((name for name, handler in self.handlers.items() if handler.fn is fn), None)
        return found or self.add_step(fn)

    def tool_name(self, fn: Function) -> str:
        """Return the name of a tool, registering the function when it is none yet."""
        found = next((name for name, tool in self.tools.items() if tool.fn is fn), None)
        return found or self.add_tool(fn)

    def predicate_name(self, fn: Function) -> str:
        """Return the name of a predicate, registering the function when it is none yet."""
        return self._predicate_names.get(fn) or self.add_predicate(fn)

    def known(self) -> Known:
        """Return the names that workflows may use."""
        return self.catalog().known()

    def complete(self, definition: Definition) -> Definition:
        """Return a definition with the defaults of the registered handlers."""
        return self.catalog().complete(definition)

    def catalog(self, workflows: tuple[Definition, ...] = ()) -> Catalog:
        """Return everything registered so far."""
        return Catalog(
            handlers=dict(self.handlers), tools=dict(self.tools), predicates=dict(self.predicates),
            hooks=dict(self.hooks), models=dict(self.models), workflows=workflows,
            builtin=builtin_tools(), servers=tuple(self.servers.values()), apis=tuple(self.apis.values()),
        )

    def _free(self, fn: Function, name: str, others: dict[str, Any], what: str) -> str:
        title = name or name_of(fn)
        if title == "<lambda>":
            problem = Problem(place=what, message="a lambda has no name", hint="pass name=", code="app.name")
            raise InvalidGraph(f"the {what} has no name", problems=(problem,))
        if title in others and others[title].fn is not fn:
            raise taken(title, what)
        return title


def name_of(fn: Function) -> str:
    """Return the name a function goes by when it is given no other."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def taken(name: str, what: str) -> InvalidGraph:
    """Return the error that a name is in use."""
    message = f"the app already has a {what} named {name!r}"
    problem = Problem(place=name, message=message, hint="give one of them another name", code="app.duplicate")
    return InvalidGraph(message, problems=(problem,))


def _policy(retry: Policy) -> Retry | None:
    return Retry(attempts=retry) if isinstance(retry, int) else retry
