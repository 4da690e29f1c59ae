"""A workflow's definition in its one canonical form, whatever it was written in.

The definition is plain data: the builder, typed functions, JSON, YAML and step lists all become this, and its
digest is the workflow's version. Nothing here checks rules that need more than one node; see `validate`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tenuto.domain.graph.limits import Limits

Kind = Literal[
    "function", "agent", "http", "transform", "aggregate", "filter", "switch", "map", "join", "approval", "wait",
    "subflow",
]
Effect = Literal["pure", "idempotent", "effect"]
EdgeOn = Literal["success", "error", "rejected", "pushed_back", "limit", "default"]


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How often and how patiently a failed attempt is made again.

    Attributes:
        attempts: Definite failures allowed, the first try included; 1 means no retry.
        backoff_s: Wait before the second attempt, in seconds.
        multiplier: Factor between one wait and the next.
        max_backoff_s: No wait is longer than this, in seconds.
        jitter: Share of each wait that varies, 0 to 1; derived from run, step and attempt, so it is repeatable.
        non_retryable: Error types or codes that end the step at once.
    """

    attempts: int = 1
    backoff_s: float = 1.0
    multiplier: float = 2.0
    max_backoff_s: float = 60.0
    jitter: float = 0.1
    non_retryable: tuple[str, ...] = ()


class Fallback(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What stands in for a node that failed for good: a value, or another node of the graph."""

    value: Any = msgspec.UNSET
    node: str = ""


class OnError(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What follows when a node's attempts are spent.

    Attributes:
        action: `fail` (dead letter), `skip` (outgoing edges die), `continue` (edges taken with a null output),
            `escalate` (a ticket asks a person), `fallback`.
        fallback: Set when the action is `fallback`.
    """

    action: Literal["fail", "skip", "continue", "escalate", "fallback"] = "fail"
    fallback: Fallback | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One piece of work in a workflow.

    Attributes:
        id: Unique in the whole definition, bodies of maps included; letters, digits, `_` and `-`.
        config: Settings of the kind, such as `handler` of a function or `over` of a map.
        input: Template with references; `UNSET` means the outputs of the taken predecessors by id.
        timeout_s: Limit of one attempt, waits excluded; `None` means the worker's default.
        heartbeat_s: An attempt that reports nothing for this long is cancelled; `None` means never.
        join: `all`, `any`, or a number: how many incoming edges must be taken.
        cancel_losers: Whether an `any` or quorum join cancels the branches it did not wait for.
        route: `all` true edges are taken, or only the `first` in the author's order.
        effect: What a repeat of the work does to the world; `None` means the kind's default.
        on_unknown: What to do with an attempt or call whose outcome was lost: `retry` with the same key, `ask` a
            person, or the name of a registered status hook.
        isolation: Where the code runs: on the event loop or a thread (`inline`), or in a `process` of a pool.
        deterministic: Whether equal inputs always give equal results, so that an idempotent node may be cached.
        cache: A policy (`off`, `read_only`, `read_through`, `write_only`), or an object of `policy`, `ttl_s`, `max_bytes` and
            `group`, whose nodes are kept as one.
    """

    id: str
    kind: Kind
    config: dict[str, Any] = {}
    input: Any = msgspec.UNSET
    retry: Retry | None = None
    timeout_s: float | None = None
    heartbeat_s: float | None = None
    on_error: OnError | None = None
    join: Literal["all", "any"] | int = "all"
    cancel_losers: bool = False
    route: Literal["all", "first"] = "all"
    effect: Effect | None = None
    on_unknown: str = ""
    isolation: Literal["inline", "process"] = "inline"
    deterministic: bool = False
    irreversible: bool = False
    cache: dict[str, Any] | str | None = None
    resources: tuple[Any, ...] = ()
    output_schema: dict[str, Any] | None = None
    description: str = ""


class Edge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A dependency between two nodes.

    Attributes:
        when: Condition in CEL, or `py:NAME` for a registered predicate; empty means always.
        on: Which outcome of the source the edge belongs to. `default` is taken when no other edge is.
        max_iterations: Set on back edges only: how many passes the loop may make.
    """

    from_: str = msgspec.field(name="from")
    to: str
    when: str = ""
    on: EdgeOn = "success"
    max_iterations: int | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Caps of one run; `None` means no cap.

    Attributes:
        tokens: Model tokens, input and output together.
        tool_calls: Calls of any tool.
        per_tool: Calls by tool name.
        cost_usd_micros: Millionths of a US dollar.
        wall_clock_s: Seconds from the first start, waits included.
    """

    tokens: int | None = None
    tool_calls: int | None = None
    per_tool: dict[str, int] = {}
    cost_usd_micros: int | None = None
    wall_clock_s: float | None = None


class Patching(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What patches may do to the graph of a run; `None` leaves a limit to the settings.

    Attributes:
        authors: Who may propose: `agent` (a step of the run), `person`, `optimizer`.
        approval: Which patches wait for a person: those by an author of that name, `effects` (nodes that act on the
            world are added or changed), `agents` (agents are added), `large` (many nodes at once), or `all`.
        max_agents: Agent nodes of the whole graph; a graph that began with more may keep them.
        max_nodes: Nodes of the whole graph, bodies of maps included.
        max_patches: Overlays one run may take.
    """

    authors: tuple[Literal["agent", "person", "optimizer"], ...] = ("agent", "person", "optimizer")
    approval: tuple[Literal["agent", "person", "optimizer", "effects", "agents", "large", "all"], ...] | None = None
    max_agents: int | None = None
    max_nodes: int | None = None
    max_patches: int | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A workflow as its author wrote it, in canonical form.

    Attributes:
        name: Letters, digits, `_`, `-`, `.` and `/`.
        input_schema: JSON Schema that every run's input must fit; `None` accepts anything.
        retry: How often a run that failed is sent round again by itself; `None` means never.
        nodes: In the author's order.
        edges: In the author's order, which decides `route: first`.
        metadata: Free form; part of the digest.
        patches: What patches may do; `None` is what the settings say.
        limits: What a run may do before a person is asked; `None` is what the settings say.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    input_schema: dict[str, Any] | None = None
    budget: Budget | None = None
    retry: Retry | None = None
    metadata: dict[str, Any] = {}
    description: str = ""
    patches: Patching | None = None
    limits: Limits | None = None
