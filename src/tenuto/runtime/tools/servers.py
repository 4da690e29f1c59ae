"""Tools of servers elsewhere, under the terms of their operator: which of them, under which names, with what effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tenuto.domain.graph.model import Effect
from tenuto.errors import Invalid, Problem
from tenuto.ports.tools import OfferedTool, ToolSource, ToolUnavailable
from tenuto.runtime.tools.schemas import understood
from tenuto.runtime.tools.tool import Arguments, Tool
from tenuto.runtime.tools.tracing import traceparent

KEY_NAME = "idempotency_key"
MEBIBYTE = 1024 * 1024


class ServerInvalid(Invalid):
    """A declared server of tools cannot be what its declaration says."""

    code = "tools.server_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A declared MCP server: where it is, and the terms its tools are used on. Secrets are named, never held.

    Attributes:
        command: Program and arguments of a server that talks over stdio.
        url: Address of a server that talks over HTTP. Neither: the settings say where it is.
        env_from: Variable of the server's process -> variable of this one whose value it gets.
        bearer_env: Variable with the token sent to `url`.
        headers_from: Header sent to `url` -> variable with its value.
        cwd: Directory the server's process works in.
        tools: The tools that may be used; all of them when empty.
        prefix: First part of the tools' names here; the server's name when empty.
        effect: What a repeated call of its tools does to the world.
        unknown: What to do when an outcome was lost; empty goes by the effect.
        read_only: Tools that change nothing, as the operator knows.
        trust_hints: Whether the server's own word on that is taken.
        timeout_s: Longest time for one call.
        connect_s: Longest time for reaching it and for a listing.
        check_s: Time between two looks at it.
        max_bytes: Largest result.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env_from: Mapping[str, str] = field(default_factory=dict[str, str])
    bearer_env: str = ""
    headers_from: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str = ""
    tools: tuple[str, ...] = ()
    prefix: str = ""
    effect: Effect = "effect"
    unknown: str = ""
    read_only: tuple[str, ...] = ()
    trust_hints: bool = False
    timeout_s: float = 60.0
    connect_s: float = 20.0
    check_s: float = 30.0
    max_bytes: int = MEBIBYTE

    def __post_init__(self) -> None:
        """Refuse a declaration that cannot work.

        Raises:
            ServerInvalid: With every fault.
        """
        faults = [(place, message) for place, message in self._faults() if message]
        if faults:
            problems = tuple(Problem(f"mcp.{self.name}.{place}", message, code="tools.server") for place, message in faults)
            raise ServerInvalid(f"the MCP server {self.name!r} is not declared well", problems=problems)

    def _faults(self) -> list[tuple[str, str]]:
        plain = self.prefix or self.name
        return [
            ("prefix", "" if plain and "." not in plain and "*" not in plain else f"{plain!r} may hold no dot or star"),
            ("url", "a server has a 'command' or a 'url', not both" if self.command and self.url else ""),
            ("url", "" if not self.url or self.url.startswith(("http://", "https://")) else
                    f"{self.url!r} is no http or https address"),
            ("url", "credentials do not belong in a URL; use 'bearer_env' or 'headers_from'"
                    if "@" in self.url.partition("://")[2].partition("/")[0] else ""),
            ("timeout_s", "" if self.timeout_s > 0 and self.connect_s > 0 and self.check_s > 0 else "must be above 0"),
        ]

    @property
    def names(self) -> str:
        """Return the first part of its tools' names."""
        return self.prefix or self.name

    @property
    def placed(self) -> bool:
        """Return whether it is said where the server is."""
        return bool(self.command or self.url)


def merged(declared: Sequence[McpServer], placed: Sequence[McpServer]) -> tuple[McpServer, ...]:
    """Return the servers of an app with those of the settings, which win where both name one.

    Raises:
        ServerInvalid: An app declares a server and nobody says where it is, or two share a prefix.
    """
    found = {server.name: server for server in declared} | {server.name: server for server in placed}
    prefixes: dict[str, str] = {}
    for server in found.values():
        if not server.placed:
            raise ServerInvalid(
                f"the MCP server {server.name!r} is declared, and nobody says where it is; give it a command or a url "
                f"in the settings, under [mcp.{server.name}]"
            )
        if server.names in prefixes:
            raise ServerInvalid(
                f"the MCP servers {prefixes[server.names]!r} and {server.name!r} both have the prefix {server.names!r}; "
                f"give one of them another"
            )
        prefixes[server.names] = server.name
    return tuple(found.values())


class Toolset:
    """The tools of one server as they are now. A server that is away keeps the tools of its last listing."""

    def __init__(self, server: McpServer, source: ToolSource) -> None:
        """Offer the tools of a source on a declaration's terms."""
        self.server = server
        self.source = source
        self._listing: tuple[OfferedTool, ...] | None = None
        self._tools: dict[str, Tool] = {}

    @property
    def listed(self) -> bool:
        """Return whether the server was ever listed."""
        return self.source.offered is not None

    def tools(self) -> Mapping[str, Tool]:
        """Return the tools by the names they have here."""
        offered = self.source.offered
        if offered is not None and offered is not self._listing:
            allowed = set(self.server.tools)
            kept = [item for item in offered if not allowed or item.name in allowed]
            self._tools = {tool.name: tool for tool in map(self._tool, kept)}
            self._listing = offered
        return self._tools

    def away(self, name: str) -> ToolUnavailable:
        """Return the refusal of a tool while the server was never listed."""
        return ToolUnavailable(
            f"tool {name!r} was not called: the MCP server {self.server.name!r} is {self.source.health.condition}: "
            f"{self.source.health.reason or 'it was not reached yet'}", server=self.server.name,
        )

    def _tool(self, item: OfferedTool) -> Tool:
        server, source = self.server, self.source
        schema = understood(item.schema)
        properties = cast("dict[str, Any]", schema.get("properties", {}))
        wants_key = KEY_NAME in properties
        if wants_key:
            schema = _without_key(schema)
        effect = self._effect(item)

        def bind(arguments: Any, info: Any) -> Arguments:
            given = dict(cast("dict[str, Any]", arguments or {}))
            if wants_key:
                given[KEY_NAME] = info.key
            return [given, info.key], {}

        async def call(arguments: dict[str, Any], key: str) -> Any:
            return await source.call(item.name, arguments, key=key, traceparent=traceparent.get())

        return Tool(
            name=f"{server.names}.{item.name}", fn=call, bind=bind, effect=effect, is_async=True, schema=schema,
            on_unknown=server.unknown or ("ask" if effect == "effect" else "retry"), description=item.description,
            version=f"mcp:{server.name}", server=server.name,
        )

    def _effect(self, item: OfferedTool) -> Effect:
        """Return what a repeat does: by the declaration, and by the server's hints only where they are trusted."""
        if item.name in self.server.read_only:
            return "idempotent"
        if self.server.trust_hints and (item.reads_only or item.repeatable):
            return "idempotent"
        return self.server.effect


def _without_key(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without the parameter that gets the call's key: callers do not choose it."""
    properties = {name: item for name, item in schema["properties"].items() if name != KEY_NAME}
    required = [name for name in schema.get("required", []) if name != KEY_NAME]
    return {**schema, "properties": properties, "required": required}
