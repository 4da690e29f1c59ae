"""MCP servers an operator offers to all workflows, and where those are that an app declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenuto.settings.keys import between, key, one_of


def _variables(values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        if not isinstance(value, str) or not value.replace("_", "").isalnum():
            return f"holds {name!r}, which names no environment variable; secrets are given by variable, never by value"
    return ""


def _mapping(help_: str) -> Any:
    return field(default_factory=dict[str, Any], metadata={"help": help_, "check": _variables, "env": ()})


@dataclass(frozen=True, kw_only=True)
class Mcp:
    """One server; see `App.mcp`."""

    command: tuple[str, ...] = key((), "program and arguments of a server that talks over stdio")
    url: str = key("", "address of a server that talks over streamable HTTP")
    cwd: str = key("", "directory the server's process works in")
    env_from: Mapping[str, Any] = _mapping("variable of the server's process -> variable here whose value it gets")
    bearer_env: str = key("", "variable with the token sent to the URL")
    headers_from: Mapping[str, Any] = _mapping("header sent to the URL -> variable with its value")
    tools: tuple[str, ...] = key((), "the tools that may be used; all when empty")
    prefix: str = key("", "first part of the tools' names; the server's name when empty")
    effect: str = key("effect", "what a repeated call does", one_of("pure", "idempotent", "effect"))
    unknown: str = key("", "what to do with a lost outcome: retry, ask, or a status hook; empty goes by the effect")
    read_only: tuple[str, ...] = key((), "tools known to change nothing")
    trust_hints: bool = key(False, "take the server's own word on which tools change nothing")
    timeout_s: float = key(60.0, "longest time for one call", between(0.001, 86_400, " s"))
    connect_s: float = key(20.0, "longest time for reaching the server", between(0.001, 600, " s"))
    check_s: float = key(30.0, "time between two looks at the server", between(0.01, 86_400, " s"))
    max_bytes: int = key(1024 * 1024, "largest result", between(1, 32 * 1024 * 1024, " bytes"))
