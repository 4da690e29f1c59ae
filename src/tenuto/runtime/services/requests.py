"""What callers ask of the use cases when it takes more than a few parameters."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import msgspec

from tenuto.domain.graph.model import Budget, Definition
from tenuto.domain.runs.events import Parent
from tenuto.ports.optimizers import Gain
from tenuto.ports.usage import UsageState

Priority = Literal["high", "medium", "low"]
Mode = Literal["live", "freeze", "shadow"]
FindingState = Literal["kept", "deleted", "all"]


class Pace(msgspec.Struct, frozen=True):
    """Who starts runs, and how many of each tier a minute; 0 sets no limit."""

    caller: str
    simple: int
    standard: int
    heavy: int


class StartRun(msgspec.Struct, kw_only=True):
    """A run to start: exactly one of `workflow`, `definition` and `steps`.

    Attributes:
        definition: A `Definition`, or a document (mapping, JSON or YAML text) to be read as one.
        steps: A plain step list, `[{name, input, depends_on}]`.
        id: The new run's id; made when empty.
        input: `UNSET` is taken as null.
        tag: Which version of `workflow`: a tag or a full digest; resolved once, now.
        budget: Caps that replace the definition's, cap by cap.
        start_at: Milliseconds since 1970; 0 = now.
        business_key: At most one unfinished run has it; starting attaches to that run.
        idempotency_key: Repeats with the same body answer with the same run.
        body_digest: Digest the key is compared by; computed from the request when empty.
        traceparent: W3C context of the caller; anything else is left out.
        pace: How often its caller may start runs; `None` as often as it likes.
    """

    workflow: str | None = None
    definition: Definition | dict[str, Any] | str | bytes | None = None
    steps: list[Any] | None = None
    id: str = ""
    goal: str = ""
    input: Any = msgspec.UNSET
    tag: str = "latest"
    budget: Budget | None = None
    priority: Priority = "medium"
    labels: dict[str, str] = {}
    start_at: int = 0
    business_key: str | None = None
    idempotency_key: str | None = None
    body_digest: str = ""
    parent: Parent | None = None
    fidelity: str = "full"
    by: str = ""
    traceparent: str = ""
    pace: Pace | None = None


class StartOptions(TypedDict, total=False):
    """Keywords of `runs.start`; the fields of `StartRun` beside workflow and input."""

    goal: str
    tag: str
    budget: Budget | None
    priority: Priority
    labels: dict[str, str]
    start_at: int
    business_key: str | None
    idempotency_key: str | None
    by: str


class Edits(msgspec.Struct, kw_only=True):
    """What a replay changes against its origin.

    Attributes:
        nodes: Node id -> fields of the node to replace, `config` merged key by key.
        definition: A whole new graph instead; excludes `nodes`.
    """

    input: Any = msgspec.UNSET
    nodes: dict[str, dict[str, Any]] = {}
    budget: Budget | None = None
    definition: Definition | dict[str, Any] | str | bytes | None = None


class Replay(msgspec.Struct, kw_only=True):
    """Which part of a run to do again, and how; at most one of `from_step`, `from_node` and `at`.

    Attributes:
        from_step: A number keeps that many completed steps; a step's id starts again there.
        from_node: A node's id: its last pass, and all that follows from it, is done again.
        at: A record of the origin: everything up to it is kept.
        mode: `live`; `freeze` re-decides with recorded outcomes, those behind a step too; `shadow` has no effects.
    """

    from_step: int | str | None = None
    from_node: str | None = None
    at: int | None = None
    mode: Mode = "live"
    edits: Edits | None = None
    labels: dict[str, str] | None = None
    idempotency_key: str | None = None
    by: str = ""
    pace: Pace | None = None


class ListRuns(msgspec.Struct, kw_only=True):
    """Filters of a list of runs; unset fields do not filter. Times are ms since 1970."""

    status: tuple[str, ...] = ()
    workflow: str | None = None
    version: str | None = None
    labels: dict[str, str] = {}
    replay_of: str | None = None
    parent: str | None = None
    text: str = ""
    created_after: int = 0
    created_before: int = 0


class ListSteps(msgspec.Struct, kw_only=True):
    """Filters of a list of steps across runs."""

    run: str | None = None
    node: str | None = None
    kind: str | None = None
    status: tuple[str, ...] = ()
    after: int = 0
    before: int = 0


class ListFindings(msgspec.Struct, kw_only=True):
    """Filters of findings.

    Attributes:
        node: The agent that found it.
        text: Words of it, whatever their case.
        state: `kept`, `deleted` or `all`.
    """

    run: str | None = None
    workflow: str | None = None
    node: str | None = None
    category: str | None = None
    text: str = ""
    state: FindingState = "kept"


class ListUsage(msgspec.Struct, kw_only=True):
    """Filters of calls paid for.

    Attributes:
        since: The first millisecond that counts.
        until: The first that does not count any more; 0 = no end.
    """

    since: int = 0
    until: int = 0
    run: str | None = None
    workflow: str | None = None
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    agent: str | None = None
    purpose: str | None = None
    tool: str | None = None
    kind: str | None = None
    state: UsageState | None = None


class ListEvents(msgspec.Struct, kw_only=True):
    """Filters of a run's events.

    Attributes:
        types: Public names, or prefixes that end with a dot such as `step.`.
        errors: Only facts that say something went wrong.
    """

    node: str | None = None
    step: str | None = None
    types: tuple[str, ...] = ()
    errors: bool = False


class ProposePatch(msgspec.Struct, kw_only=True):
    """A change of a workflow for the runs to come.

    Attributes:
        operations: JSON Patch operations on `/nodes` and `/edges`.
        base: Version they are made for, by tag or digest; the tag has to point at it.
        author: `agent`, `person` or `optimizer`; `by` names it, `optimizer` and `rule` say which pass of which one.
    """

    operations: Any
    base: str = "latest"
    tag: str = "latest"
    author: str = "person"
    by: str = ""
    optimizer: str = ""
    rule: str = ""
    title: str = ""
    reason: str = ""
    gain: Gain = Gain()
    evidence: dict[str, Any] = {}


class Optimize(msgspec.Struct, kw_only=True):
    """What optimizers are asked.

    Attributes:
        tag: Which version of the workflow, and the tag that proposals are to move.
        dry_run: Only show what they suggest; nothing is stored.
        optimizers: Only these; empty is all of them.
    """

    tag: str = "latest"
    dry_run: bool = False
    optimizers: tuple[str, ...] = ()
