"""What an agent node may be told besides its prompt: its limits, helpers, checks and memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

import msgspec

MERGES = ("collect", "vote", "first", "reduce", "best")
TRANSFER = "transfer_to_"
CORRECTIONS = 1
"""Times an answer that does not fit is asked for again, where a node does not say."""
MODEL_RETRIES = 5
"""Times a request is made again that a provider could not serve, where a node does not say."""
BRANCHES = 3
"""Agents of a swarm, where a node does not say."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an agent's work ends by itself.

    Attributes:
        rounds: Rounds of tool calls in one conversation; a model that then asks for more has not finished.
        tool_calls: Tool calls that are made in one round; the model is told of the others.
        bad_calls: Calls of one conversation that could not be made: unknown tools, arguments that do not fit.
        depth: Agents that ask agents, nested.
        children: Agents asked as tools in one conversation.
        handoffs: Times a conversation changes hands.
        history: Newest rounds that are sent to the model; the first messages always are, and the journal keeps all.
    """

    rounds: int = 10
    tool_calls: int = 16
    bad_calls: int = 5
    depth: int = 3
    children: int = 10
    handoffs: int = 5
    history: int = 50


class Helper(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent inside a node: others ask it as a tool, or hand the conversation to it.

    Attributes:
        description: What the model of another agent reads about it.
        model: The node's when empty.
        tools: Names of tools, and `{agent: NAME}` for other helpers.
        handoffs: Helpers it may hand the conversation to.
    """

    description: str = ""
    system: str = ""
    model: str = ""
    tools: list[Any] = []
    handoffs: list[str] = []
    max_tokens: int | None = None
    options: dict[str, Any] = {}


class Verify(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model's judgement of the node's output before it counts.

    Attributes:
        criteria: What the output must meet.
        model: Who judges; the node's own model when empty.
        max_retries: Times the work is done again with what was missing; a person is asked then.
        max_chars: Most characters of the output that are shown.
    """

    criteria: str | list[str]
    model: str = ""
    max_retries: int = 2
    max_chars: int = 8000


class Knowledge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent leaves to later ones of its run, and takes from earlier ones.

    Attributes:
        extract: Ask a model for findings in the output, and keep them with it.
        inject: Show findings of earlier steps, newest first, as far as they fit.
        max_chars: Most characters that are shown.
        min_chars: Outputs shorter than this are not searched.
    """

    extract: bool = False
    inject: bool = False
    max_chars: int = 3000
    min_chars: int = 200
    model: str = ""


class Upstream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much of each predecessor's output stands in the prompt, in characters."""

    upstream: int = 2000


class Judge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who merges a swarm's branches, for `reduce` and `best`, and by what."""

    prompt: str = ""
    model: str = ""


class Routing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is chosen by, where the node names none or says `auto`.

    Attributes:
        task_type: A row of the settings' table of routes; types without a row go by `other`.
        tier: Overrides the choice by type and complexity.
    """

    task_type: str = ""
    complexity: Literal["simple", "medium", "complex"] = "medium"
    tier: str = ""


FIELDS: dict[str, Any] = {
    "pattern": Literal["pipeline", "loop", "supervisor", "swarm"], "model": str, "prompt": Any, "system": str,
    "tools": list[Any], "args": Any, "choices": list[str], "schema": dict[str, Any], "corrections": int,
    "max_tokens": int, "options": dict[str, Any], "n": int, "merge": Literal[MERGES], "judge": Judge,
    "max_rounds": int, "limits": Limits, "model_retries": int, "agents": dict[str, Any], "handoffs": list[str],
    "routing": Routing, "verify": Verify, "knowledge": Knowledge, "context": Literal["upstream"] | Upstream,
}
"""Every field of an agent's config and its type."""


def helpers_of(config: dict[str, Any]) -> dict[str, Helper]:
    """Return the agents inside a checked node's config, by name."""
    given: dict[str, Any] = config.get("agents") or {}
    return {name: msgspec.convert(item, Helper) for name, item in given.items()}


def entry_of(entry: Any) -> tuple[str, str]:
    """Return what an entry of `tools` names: `("tool", name)`, `("agent", name)`, or two empty texts."""
    if isinstance(entry, str):
        return "tool", entry
    if isinstance(entry, dict):
        fields = cast("dict[str, Any]", entry)
        for kind, field in (("tool", "name"), ("agent", "agent")):
            if isinstance(fields.get(field), str):
                return kind, fields[field]
    return "", ""


def tool_lists(config: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], list[Any]]]:
    """Yield every list of tools in a config, the node's own first, with the path to it."""
    own = config.get("tools")
    if isinstance(own, list | tuple):
        yield ("tools",), list(cast("list[Any]", own))
    helpers = config.get("agents")
    if isinstance(helpers, dict):
        for name, item in cast("dict[str, Any]", helpers).items():
            tools: Any = cast("dict[str, Any]", item).get("tools") if isinstance(item, dict) else None
            if isinstance(tools, list):
                yield ("agents", name, "tools"), cast("list[Any]", tools)
