"""What each kind of node takes in its config, in one table that reading and checking share."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from tenuto.domain.graph.agents import FIELDS as AGENT
from tenuto.domain.graph.model import Kind

PATTERNS = ("pipeline", "supervisor", "swarm")
"""Patterns of agents that may stand as a node's kind; `loop` as a kind was taken."""
KINDS: tuple[str, ...] = get_args(Kind)
AGGREGATES = ("sum", "count", "min", "max", "avg", "collect", "concat", "merge", "first", "last", "unique")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


REQUEST: dict[str, Any] = {
    "id": str, "url": str, "method": str, "headers": dict[str, Any], "query": dict[str, Any], "body": Any,
    "allow": list[str], "expect_status": int | list[int] | str, "after": list[str], "timeout_s": float,
}
"""The fields of one request among several of an `http` node, and their types."""


class ConfigRule(msgspec.Struct, frozen=True):
    """The fields of one kind's config.

    Attributes:
        keys: Every field and its type, as for `msgspec.convert`.
        one_of: Groups of which exactly one field must be given.
        required: Fields that must be given.
        templates: Fields that may hold references to other nodes.
        conditions: Fields that hold a CEL expression.
    """

    keys: dict[str, Any]
    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()


CONFIG: dict[str, ConfigRule] = {
    "function": ConfigRule(
        keys={"handler": str, "tool": str, "args": Any, "name": str},
        one_of=(("handler", "tool"),),
        templates=("args",),
    ),
    "agent": ConfigRule(
        keys=AGENT,
        required=("pattern",),
        templates=("prompt", "args"),
    ),
    "http": ConfigRule(
        keys={
            "url": str, "method": str, "headers": dict[str, Any], "query": dict[str, Any], "body": Any,
            "allow": list[str], "expect_status": int | list[int] | str, "requests": list[dict[str, Any]], "result": str,
        },
        one_of=(("url", "requests"),),
        templates=("url", "headers", "query", "body", "requests"),
    ),
    "transform": ConfigRule(
        keys={"value": str, "template": Any},
        one_of=(("value", "template"),),
        templates=("template",),
        conditions=("value",),
    ),
    "aggregate": ConfigRule(
        keys={"over": Any, "op": Literal[AGGREGATES], "field": str, "initial": Any},
        templates=("over",),
    ),
    "filter": ConfigRule(
        keys={"over": Any, "when": str}, required=("when",), templates=("over",), conditions=("when",)
    ),
    "switch": ConfigRule(keys={}),
    "map": ConfigRule(
        keys={"over": Any, "body": dict[str, Any], "concurrency": int, "on_failure": str | dict[str, int]},
        required=("body",),
        templates=("over",),
    ),
    "join": ConfigRule(keys={}),
    "approval": ConfigRule(
        keys={
            "message": str, "approvers": list[str], "timeout_s": float, "data": Any,
            "schema": dict[str, Any], "on_timeout": Literal["approve", "reject"] | dict[str, Any], "quorum": int,
            "reject_quorum": int, "not_requester": bool,
        },
        templates=("message", "data"),
    ),
    "wait": ConfigRule(
        keys={"signal": str, "timeout_s": float, "seconds": Any, "until": Any},
        one_of=(("signal", "seconds", "until"),),
        templates=("seconds", "until"),
    ),
    "subflow": ConfigRule(
        keys={"workflow": str, "tag": str, "version": str, "detach": bool, "budget": dict[str, Any]},
        required=("workflow",),
    ),
}
