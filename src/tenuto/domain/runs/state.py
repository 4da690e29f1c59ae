"""A run's state: what folding its journal yields, and the bytes of a snapshot.

Only `fold` changes a state. Fields are ordered and defaulted so that encoding is deterministic: equal journals give
equal bytes. Keys of `steps`, `joins` and `calls` are step keys (`plan.step_key`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import MaybeRaw
from tenuto.domain.budgets.ledger import Amounts
from tenuto.domain.graph.model import Budget
from tenuto.domain.graph.people import Terms
from tenuto.domain.runs.events import Cached, Charge, Failure, Fork, Parent
from tenuto.domain.runs.events_tickets import Vote

RunStatus = Literal[
    "queued", "running", "paused", "cancelling", "completed", "failed", "cancelled", "budget_exceeded"
]
"""Stored status. The public `waiting` is derived: running, with nothing but waits. See `public_status`."""

StepStatus = Literal[
    "ready", "running", "waiting", "retrying", "completed", "skipped", "failed", "dead_letter", "cancelled"
]

TERMINAL: frozenset[str] = frozenset({"completed", "cancelled"})
STOPPED: frozenset[str] = frozenset({"failed", "budget_exceeded"})
ENDED: frozenset[str] = TERMINAL | STOPPED
ACTIVE_STEP: frozenset[str] = frozenset({"ready", "running", "waiting", "retrying"})


class Call(msgspec.Struct, omit_defaults=True):
    """A call inside a step, by its identity.

    Attributes:
        status: `open` (intent without outcome), `done`, `failed`, `waiting` (a durable wait), `unknown`, or `asking`
            (there was no room for it, and may be now).
        until: For waits: when it ends by itself, ms; 0 = never.
        name: For waits: the signal, ticket or child it waits for.
        asked: A ticket asks a person what became of it; until the answer, its code need not run.
        grant: Number of the hold it has on what many runs share; 0 = none.
        since: For calls without room: when they were refused first, ms.
        final: A definite failure is an outcome too, kept in `failure`; the call is not made again.
        reason: For waits: why.
    """

    kind: str = "call"
    status: str = "open"
    digest: str = ""
    out: MaybeRaw = None
    failure: Failure | None = None
    hold: Charge | None = None
    key: str = ""
    name: str = ""
    until: int = 0
    effect: str = "idempotent"
    on_unknown: str = "retry"
    timed_out: bool = False
    asked: bool = False
    grant: int = 0
    since: int = 0
    final: bool = False
    reason: str = ""


class Wait(msgspec.Struct, omit_defaults=True):
    """What a node of a waiting kind waits for."""

    kind: str
    name: str = ""
    until: int = 0
    since: int = 0


class Step(msgspec.Struct, omit_defaults=True):
    """One execution of a node in a scope.

    Attributes:
        attempt: Tries begun, lost and interrupted ones included.
        fails: Tries that definitely failed; counts against `retry.attempts`.
        losses: Tries without a definite outcome, lost with their worker or cut off; counts against its own limit.
        via: Indexes of the taken incoming edges.
        leaf: Completed with no outgoing edge taken: part of the run's output.
        how: How a failure was handled.
        group: Number of the key group; grows with a fresh redrive.
        retry_at: When the next attempt is due, for `retrying`.
        isolate: An attempt took its worker down with it; the next runs in a process of its own.
        task: The current attempt is executed by any worker, apart from the owner.
        cache: What the cache had to do with the outcome.
        doubt: An earlier attempt may have taken effect, and nobody has said yet whether it did.
    """

    status: str = "ready"
    attempt: int = 0
    fails: int = 0
    losses: int = 0
    out: MaybeRaw = None
    failure: Failure | None = None
    how: str = ""
    via: list[int] = []
    leaf: bool = False
    group: int = 0
    retry_at: int = 0
    ready_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    queued_ms: int = 0
    took_ms: int = 0
    wait: Wait | None = None
    calls: dict[str, Call] = {}
    guidance: str = ""
    config: dict[str, Any] | None = None
    isolate: bool = False
    task: bool = False
    doubt: bool = False
    cache: Cached | None = None


class Join(msgspec.Struct, omit_defaults=True):
    """Arrivals at a node with several incoming edges. `fired` joins count later arrivals as `late`."""

    seen: int = 0
    taken: list[int] = []
    fired: bool = False
    late: int = 0


class Region(msgspec.Struct, omit_defaults=True):
    """An instance of a region: the run, a pass of a loop, an item of a map.

    Attributes:
        open: Members not yet resolved.
        back: Back edges taken in this pass.
        exits: Edges that leave the loop, by index: whether they were taken in this pass.
        failed: The failure that ended an item of a map.
    """

    region: int = 0
    open: int = 0
    back: list[int] = []
    exits: dict[int, bool] = {}
    failed: Failure | None = None
    ended: bool = False


class MapState(msgspec.Struct, omit_defaults=True):
    """Progress of a map: items `0..count-1`, started in order.

    Attributes:
        again: Items that had begun and begin anew, because the map was sent round again before they were done.
    """

    items: Raw
    count: int = 0
    started: int = 0
    done: int = 0
    errors: dict[int, Failure] = {}
    again: list[int] = []


class Signal(msgspec.Struct, omit_defaults=True):
    """A signal nobody took yet."""

    key: str
    payload: Raw


class Ticket(msgspec.Struct, omit_defaults=True):
    """An open or answered question to a person."""

    kind: str
    step: str
    message: str
    call: str = ""
    status: str = "open"
    expires_at: int = 0
    opened_at: int = 0
    data: dict[str, Any] = {}
    decision: str = ""
    by: str = ""
    reason: str = ""
    terms: Terms | None = None
    votes: list[Vote] = []


class Patch(msgspec.Struct, omit_defaults=True):
    """A proposed change of the graph.

    Attributes:
        status: `open` (a person decides), `invalid` (kept for a person to look at), `applied`, or `rejected`.
        seq: Record that holds the proposal, its operations and findings.
        ops: The operations, while they may still be applied.
        ticket: The question to a person, while it is open.
        takes: The overlay it takes back or brings back.
    """

    author: str
    base: str
    seq: int
    status: str = "open"
    digest: str = ""
    ops: MaybeRaw = None
    by: str = ""
    step: str = ""
    call: str = ""
    ticket: str = ""
    takes: str = ""
    at: int = 0


class Ledger(msgspec.Struct, omit_defaults=True):
    """A run's money: caps, what was spent, what is held for calls in flight, what was lost sight of.

    Attributes:
        unknown: Part of `spent` whose calls' outcomes are unknown.
        overrun: Usage above an upper bound, by cap.
        warned: Caps whose warning was given.
        grants: Number of the newest hold on what many runs share.
        lost: Those holds whose calls' outcomes are unknown, by number.
    """

    caps: Budget | None = None
    spent: Amounts = Amounts()
    held: Amounts = Amounts()
    unknown: Amounts = Amounts()
    spent_per_tool: dict[str, int] = {}
    held_per_tool: dict[str, int] = {}
    overrun: dict[str, int] = {}
    warned: list[str] = []
    grants: int = 0
    lost: dict[int, Charge] = {}


class RunState(msgspec.Struct, omit_defaults=True):
    """Everything the engine knows of a run.

    Attributes:
        t: Time of the newest record.
        loops: Newest pass of each loop, by the scope it lives in followed by `~header`.
        timers: When something is due by itself, ms, by kind: `d` deadline, `g` end of a cancel's grace, `a` next try of the run,
            `r|step` retry, `w|step` wait of a node, `c|step|call` wait of a call, `t|ticket` expiry.
        held_at: When the run was last paused or its cancel asked for, ms.
        listeners: Who waits for a signal, first come first served: `step` or `step|call`.
        seen: Keys of inbox messages consumed.
        ready: Steps that may start, in the order they became ready.
        active: Steps ready, running, waiting or retrying.
        open_regions: Instances by scope.
        shadow: A shadow replay made the run; see `in_shadow`.
        version: Digest of the graph the run was created with; `digest` is that of the graph it goes by now.
        patches: Every proposed change of the graph, by id.
        agents: Agent nodes of the graph before its first patch.
        overlays: Patches in force, oldest first.
        undone: Patches taken back since the last new one, the last one taken back last.
        tries: Times the whole run has failed and was sent round again by its own policy.
        to_skip, to_fail, ended, begun: Consequences `decide` has yet to write down; empty between records.
    """

    id: str
    ns: str = "default"
    workflow: str = ""
    digest: str = ""
    seq: int = 0
    epoch: int = 0
    t: int = 0
    chain: bytes = bytes(32)
    status: str = "queued"
    input: Raw = Raw(b"null")
    output: MaybeRaw = None
    failure: Failure | None = None
    goal: str = ""
    priority: int = 1
    labels: dict[str, str] = {}
    fidelity: str = "full"
    parent: Parent | None = None
    fork: Fork | None = None
    shadow: bool = False
    by: str = ""
    start_at: int = 0
    worker: str = ""
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    paused_from: str = ""
    reason: str = ""
    held_at: int = 0
    deadline: int = 0
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    steps: dict[str, Step] = {}
    joins: dict[str, Join] = {}
    regions: dict[str, Region] = {}
    maps: dict[str, MapState] = {}
    loops: dict[str, int] = {}
    timers: dict[str, int] = {}
    listeners: dict[str, list[str]] = {}
    signals: dict[str, list[Signal]] = {}
    tickets: dict[str, Ticket] = {}
    children: dict[str, str] = {}
    ready: dict[str, int] = {}
    active: int = 0
    dead: list[str] = []
    seen: dict[str, int] = {}
    divergences: int = 0
    to_skip: dict[str, int] = {}
    to_fail: dict[str, int] = {}
    ended: dict[str, int] = {}
    begun: dict[str, int] = {}
    tries: int = 0
    traceparent: str = ""
    version: str = ""
    patches: dict[str, Patch] = {}
    agents: int = 0
    overlays: list[str] = []
    undone: list[str] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RunState).decode


def encode_state(state: RunState) -> bytes:
    """Return the snapshot's bytes: equal for states folded from the same records, whose mappings have one order.

    The order of `ready`, `steps` and others has a meaning, so it is kept and not sorted away.
    """
    return _encode(state)


def decode_state(body: bytes) -> RunState:
    """Return the state a snapshot holds."""
    return _decode(body)


def public_status(state: RunState) -> str:
    """Return the status the API shows: `waiting` when a running run has nothing but waits."""
    if state.status == "cancelling":
        return "running"
    if state.status != "running":
        return state.status
    if "a" in state.timers and not state.active:
        return "waiting"
    if state.active and not state.ready:
        for key, step in state.steps.items():
            if step.status == "running" and key not in state.maps and not suspended(step):
                return "running"
        return "waiting"
    return "running"


def in_shadow(state: RunState) -> bool:
    """Return whether a run has no effects: it is a shadow replay, or one made it."""
    return state.shadow or (state.fork is not None and state.fork.mode == "shadow")


def suspended(step: Step) -> bool:
    """Return whether a running step's code does nothing but wait durably."""
    waiting = False
    for call in step.calls.values():
        if call.status == "open":
            return False
        waiting = waiting or call.status == "waiting" or call.asked
    return waiting
