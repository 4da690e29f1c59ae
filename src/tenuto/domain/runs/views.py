"""The public shape of a run and its steps, made from folded state: what the API and Python callers read.

Instants are UTC `datetime`s here and RFC 3339 text in JSON. Values over the inline limit stay references,
`{"$blob": digest, "size": n}`, until somebody resolves them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec


class View(msgspec.Struct, kw_only=True):
    """The base of public shapes; every field is always present in JSON."""


class ErrorView(View):
    """Why something failed: a stable code, a sentence for a person, and what a retry policy needs."""

    code: str
    message: str
    type: str = ""
    retryable: bool = False
    unknown: bool = False
    details: dict[str, Any] = {}


class BudgetView(View):
    """A run's money: caps, what settled calls used, what calls in flight hold.

    Attributes:
        unknown: The part of `spent` whose calls' outcomes are not known.
        overrun: Use above a call's declared upper bound, by cap.
    """

    limits: dict[str, Any] = {}
    spent: dict[str, Any] = {}
    reserved: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    overrun: dict[str, int] = {}


class WaitView(View):
    """One thing a step or run waits for.

    Attributes:
        title: The step as its author named it.
        kind: `timer`, `signal`, `approval`, `escalation`, `review`, `child`, `retry`, `predecessors`, `worker`,
            `concurrency`, `budget`, `start_at`, `paused`, `message`, `dead_letter`, `unknown_outcome`, `funds`, `integrity`.
        name: Which one: the signal's name, the ticket's or child run's id, the handler's name.
        who: Who can end the wait, in words, such as "anyone who may decide ticket t-…".
        until: When the wait ends by itself; `None` = never.
    """

    kind: str
    step: str = ""
    title: str = ""
    node: str = ""
    name: str = ""
    since: datetime | None = None
    until: datetime | None = None
    who: str = ""
    message: str = ""


class ItemsView(View):
    """Progress of a map, so that its items need not be listed."""

    count: int
    started: int
    done: int
    failed: int


class CacheView(View):
    """What the cache had to do with a step's outcome.

    Attributes:
        key: What the result is kept under.
        how: `hit` (kept before), `joined` (another step computed it meanwhile), `miss`, or `unread` (not looked for).
        stored: Whether the computed result is kept; of a group it is once all of it is there.
        why: Why a computed result is not kept, where its policy asks for it.
        group: The group the step was looked up with.
        saved_ms: What the result had taken to compute, with `saved_usd_micros`.
    """

    key: str
    how: str
    stored: bool = False
    why: str = ""
    group: str = ""
    saved_ms: int = 0
    saved_usd_micros: int = 0


class StepView(View):
    """One execution of a node.

    Attributes:
        id: Stable in its run and safe in a URL: the node, then `~owner.n` for each loop pass or map item.
        name: The id as the author spelt it: a step of a plain list keeps its own name, dots and all.
        iteration: Pass of the innermost loop, from 1; 0 outside loops.
        branch: Index of the innermost map item; `None` outside maps.
        key: Idempotency key the step gives to whoever it calls.
        ready_at: When nothing but a worker was missing.
        queued_ms: From ready to the first line of its code.
        took_ms: Of the attempt that succeeded.
        reused: Whether the outcome was taken over from the run this one replays.
        cache: What the cache had to do with the outcome; `None` for nothing.
        items: Set on map steps only.
    """

    id: str
    node: str
    kind: str
    name: str = ""
    iteration: int = 0
    branch: int | None = None
    status: str = "blocked"
    attempt: int = 0
    input: Any = None
    output: Any = None
    error: ErrorView | None = None
    waiting_for: WaitView | None = None
    key: str = ""
    ready_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_at: datetime | None = None
    queued_ms: int = 0
    took_ms: int = 0
    reused: bool = False
    cache: CacheView | None = None
    items: ItemsView | None = None


class ParentView(View):
    """The step of another run that started this one."""

    run: str
    step: str


class RunSummary(View):
    """A run as lists show it; its status may lag behind the journal by the projection's delay.

    Attributes:
        version: Digest of the graph it goes by: the version it was submitted with, unless it was patched.
    """

    id: str
    workflow: str
    version: str
    status: str
    goal: str = ""
    priority: str = "medium"
    labels: dict[str, str] = {}
    error: str = ""
    replay_of: str | None = None
    parent: str | None = None
    business_key: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class RunView(View):
    """A run, current to its last committed record.

    Attributes:
        version: Digest of the definition the run froze when it was submitted.
        graph: Digest of the graph it goes by now, which patches may have changed; `graph_number` counts them: `1.n`.
        seq: Its last record; `events(after="{seq}.…")` goes on from there.
        steps: At most 1,000, in the order they began; items of maps are counted on their map instead.
        n_steps: How many steps the run has in all.
        waiting_for: Set when the public status is `waiting` or `paused`: the first thing it waits for.
    """

    id: str
    workflow: str
    version: str
    graph: str
    status: str
    graph_number: str = "1.0"
    input: Any = None
    output: Any = None
    error: ErrorView | None = None
    goal: str = ""
    labels: dict[str, str] = {}
    priority: str = "medium"
    budget: BudgetView = msgspec.field(default_factory=BudgetView)
    replay_of: str | None = None
    from_step: str | int | None = None
    mode: str | None = None
    divergences: int = 0
    parent: ParentView | None = None
    by: str = ""
    worker: str | None = None
    seq: int = 0
    start_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    waiting_for: WaitView | None = None
    steps: list[StepView] = []
    n_steps: int = 0


class GraphNode(View):
    """A node as a picture needs it; `status` and `counts` are set when the graph is that of a run.

    Attributes:
        name: The node as its author named it.
        region: The loop header or map node whose region holds it; empty at the top.
        counts: Steps of the node by status, over all passes and items.
    """

    id: str
    kind: str
    name: str = ""
    region: str = ""
    status: str = "blocked"
    counts: dict[str, int] = {}
    description: str = ""


class GraphEdge(View):
    """An edge; `conditional` says whether it has a `when` or belongs to an outcome other than success."""

    from_: str = msgspec.field(name="from")
    to: str
    on: str = "success"
    when: str = ""
    conditional: bool = False
    back: bool = False
    max_iterations: int | None = None
    taken: int = 0


class GraphView(View):
    """The shape of a workflow, with the states of a run's steps laid over it when it is asked of a run."""

    workflow: str
    version: str
    nodes: list[GraphNode] = []
    edges: list[GraphEdge] = []
    budget: dict[str, Any] | None = None
    run: str | None = None
    at: int | None = None


def instant(ms: int) -> datetime | None:
    """Return the UTC instant of milliseconds since 1970; 0 means there is none."""
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
