"""The public event stream: one stable name and one set of field names for every journal event.

An event's id is `seq.i`: the record it stands in and its place there, from 0. Ids order a run's events.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import Raw

from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.sensitive import Hidden
from tenuto.domain.runs.views import View, instant
from tenuto.errors import Invalid

PRIORITY_NAMES = ("high", "medium", "low")


class PublicEvent(View):
    """One fact of a run as anyone outside reads it.

    Attributes:
        id: `seq.i`; give it back as `after` to go on from here.
        type: Public name, such as `step.completed`.
        step: The step concerned; empty for facts of the whole run.
        name: The step as its author named it.
        data: What else there is to know, by the public field names of the type.
    """

    id: str
    run: str
    type: str
    at: datetime | None
    step: str = ""
    name: str = ""
    node: str = ""
    data: dict[str, Any] = {}


class Public(NamedTuple):
    """How one journal event appears outside.

    Attributes:
        name: Its public type.
        fields: Journal field -> public field in `data`; fields not listed here are not shown.
        says: What it means, for the reference.
        error: Whether it says that something went wrong.
        final: Whether it ends a run's stream.
    """

    name: str
    fields: dict[str, str]
    says: str
    error: bool = False
    final: bool = False


def _same(*names: str, **renamed: str) -> dict[str, str]:
    return {**{name: name for name in names}, **renamed}


TABLE: dict[type[ev.Event], Public] = {
    ev.RunCreated: Public(
        "run.created",
        _same("workflow", "input", "goal", "priority", "labels", "budget", "parent", "start_at", "by",
              "fork", "shadow", digest="version"),
        "A run exists; `replay_of` names the run it replays, `fork` where it parts from it.",
    ),
    ev.Claimed: Public("run.claimed", _same("worker", "epoch"), "A worker owns the run."),
    ev.LeaseTaken: Public(
        "run.lease_taken", _same("epoch", by="worker", from_="from"),
        "The run was taken over from a worker whose lease had ended.",
    ),
    ev.RunStarted: Public("run.started", {}, "Work began."),
    ev.PauseRequested: Public("run.paused", _same("by", "reason"), "Nothing new starts until it is resumed."),
    ev.Resumed: Public("run.resumed", _same("by"), "A pause ended."),
    ev.CancelRequested: Public("run.cancelling", _same("by", "reason"), "The run is being stopped."),
    ev.RunCompleted: Public("run.completed", _same("output"), "Every step is resolved.", final=True),
    ev.RunFailed: Public("run.failed", _same(failure="error"), "Something failed unhandled.", error=True, final=True),
    ev.RunCancelled: Public("run.cancelled", _same("reason"), "The run was cancelled.", final=True),
    ev.RunExceeded: Public(
        "run.budget_exceeded", _same("cap", "limit", "ask", "spent", "message"),
        "A cap was reached; the call that would have passed it was not made.", error=True, final=True,
    ),
    ev.RunRetried: Public(
        "run.retrying", _same("retry_at", n="attempt", failure="error"), "The run failed and tries again.", error=True
    ),
    ev.RunReopened: Public("run.reopened", _same("by", "reason", "budget"), "A stopped run goes on."),
    ev.DivergenceFound: Public(
        "run.diverged", _same("expected", "found", "what"), "A frozen replay decided otherwise.", error=True
    ),
    ev.AttemptStarted: Public("step.started", _same(n="attempt"), "A try of the step begins."),
    ev.AttemptFailed: Public(
        "step.retrying", _same("retry_at", "worker", n="attempt", failure="error"), "A try failed; another follows.", error=True
    ),
    ev.AttemptLost: Public("step.lost", _same("worker", n="attempt"), "The worker died during a try.", error=True),
    ev.AttemptInterrupted: Public(
        "step.interrupted", _same("unknown", n="attempt", failure="error"),
        "The try ended without an outcome, given back by its worker or cut off; another follows.",
    ),
    ev.StepCompleted: Public(
        "step.completed", _same("queued_ms", "took_ms", "worker", "cache", out="output", n="attempt", taken="edges_taken"),
        "The step's outcome stands; `cache` says what the cache had to do with it.",
    ),
    ev.StepReused: Public(
        "step.replayed",
        _same("seq", "status", "how", run="from_run", out="output", taken="edges_taken", failure="error"),
        "A replay took the outcome over from its origin.",
    ),
    ev.StepFailed: Public(
        "step.failed", _same("how", out="output", n="attempt", failure="error", taken="edges_taken"),
        "The attempts are spent and the workflow says what follows.", error=True,
    ),
    ev.StepDeadLettered: Public(
        "step.dead_lettered", _same(n="attempt", failure="error"), "It failed and nothing handles it.", error=True
    ),
    ev.StepSkipped: Public("step.skipped", {}, "No incoming edge was taken."),
    ev.StepCancelled: Public(
        "step.cancelled", _same("reason", "unknown", out="output"), "The step ends without an outcome; `output` is partial."
    ),
    ev.StepRedriven: Public(
        "step.redriven", _same("by", "fresh", "guidance", "config"), "A person sent the step round again."
    ),
    ev.JoinUnreachable: Public("step.unreachable", {}, "Too many incoming edges of a quorum are dead.", error=True),
    ev.LoopPassed: Public("step.loop_passed", _same("next", "guidance"), "A pass of a loop ended; `next` follows, 0 = left."),
    ev.MapOpened: Public("step.map_opened", _same("count"), "A map's list was evaluated."),
    ev.ItemStarted: Public("step.items_started", _same("first", "last"), "Items of a map begin."),
    ev.WaitStarted: Public(
        "step.waiting", _same("kind", "call", "name", "until", "reason"), "The step waits; no worker is held."
    ),
    ev.WaitEnded: Public("step.wait_ended", _same("call", "timed_out", out="output"), "A wait is over."),
    ev.SignalReceived: Public("run.signal_received", _same("name", "key", "payload", "by"), "A signal arrived."),
    ev.SignalTaken: Public("step.signal_taken", _same("name", "key"), "A waiter got the signal."),
    ev.TicketOpened: Public(
        "ticket.opened", _same("ticket", "kind", "message", "call", "data", "expires_at", "terms", "after"),
        "A person is asked.",
    ),
    ev.TicketVoted: Public(
        "ticket.voted", _same("ticket", "decision", "by", "role", "reason", "data", "digest", "to"),
        "One of several people whose answers are needed gave theirs.",
    ),
    ev.TicketDecided: Public(
        "ticket.decided", _same("ticket", "decision", "by", "role", "reason", "data", "digest", "to"),
        "The question was answered.",
    ),
    ev.TicketClosed: Public("ticket.closed", _same("ticket", "reason"), "The question lost its point."),
    ev.ChildStarted: Public(
        "step.child_started", _same("workflow", "input", "budget", "detach", run="child", digest="version"),
        "A child run is asked for.",
    ),
    ev.CallIntended: Public(
        "call.started", _same("call", "kind", "name", "key", "effect", hold="reserved"), "A call is about to be made."
    ),
    ev.CallCompleted: Public(
        "call.completed", _same("call", "kind", "name", "used", "took_ms", "meta", out="output"), "A call's result."
    ),
    ev.CallFailed: Public(
        "call.failed", _same("call", "kind", "name", "used", "final", "meta", failure="error"),
        "A call definitely failed; a `final` failure is an outcome, so it is not made again.", error=True,
    ),
    ev.CallUnknown: Public("call.unknown", _same("call", "reason"), "A call's outcome was lost.", error=True),
    ev.CallResolved: Public(
        "call.resolved", _same("call", "resolution", "by", "used", out="output"), "A lost call's outcome is known."
    ),
    ev.BudgetWarned: Public(
        "run.budget_warning", _same("cap", "limit", "spent", "scope", "window"),
        "A cap is used to its warning share; `scope` and `window` say which, for a cap that many runs share.",
    ),
    ev.FundsRefused: Public(
        "call.refused",
        _same("call", "scope", "period", "limit", "spent", "ask", "final", "until", "since", "slot", held="reserved"),
        "A cap that many runs share has no room for the call; it was not made and waits.", error=True,
    ),
    ev.FundsReturned: Public(
        "call.room", _same("call", "by", failure="error"), "The call waits for room no longer: it asks again, or fails."
    ),
    ev.MoneyResolved: Public(
        "call.cost_resolved", _same("grant", "used", "by"), "What a call with a lost outcome did cost is known."
    ),
    ev.PatchProposed: Public(
        "patch.proposed",
        _same("patch", "author", "by", "reason", "call", "findings", "changed", "asks", "takes", "evidence", ops="operations",
              base="base_digest", digest="version"),
        "A change of the graph was proposed; `findings` say why it cannot be applied, `asks` why a person decides.",
    ),
    ev.PatchApplied: Public(
        "patch.applied", _same("patch", "by", "changed", ops="operations", base="base_digest", digest="version", n="number"),
        "The graph changed; what comes next goes by it.",
    ),
    ev.PatchRejected: Public(
        "patch.rejected", _same("patch", "by", "reason", "findings", "changed"),
        "A proposed change was turned down; `changed` is what it would have changed.",
    ),
    ev.Overrun: Public(
        "run.budget_overrun", _same("cap", "amount"), "A call used more than it had reserved.", error=True
    ),
}

SAID = Public(
    "step.log", {},
    "A step's code logged a line. Told to streams that are live in the worker's process only, without an id; kept nowhere.",
)
DELTA = Public(
    "call.delta", {},
    "A piece of a model's answer as it comes. Provisional, like `step.log`: the answer is what `call.completed` says.",
)
WITHDRAWN = Public(
    "call.withdrawn", {},
    "The pieces of a model's answer so far do not count: the request broke off. So it is also when its step is lost.",
)
PROVISIONAL: dict[str, Public] = {entry.name: entry for entry in (SAID, DELTA, WITHDRAWN)}
"""What streams show and the journal does not hold, by public name."""

NAMES: tuple[str, ...] = tuple(entry.name for entry in TABLE.values())
ERRORS = frozenset(entry.name for entry in TABLE.values() if entry.error)
FINAL = frozenset(entry.name for entry in TABLE.values() if entry.final)
"""Names after which a run's stream ends; a stopped run may be reopened, a new stream then follows on."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_INSTANTS = frozenset({"retry_at", "start_at", "expires_at", "until"})


def event_id(seq: int, index: int) -> str:
    """Return the id of the event at `index` of record `seq`."""
    return f"{seq}.{index}"


def parse_id(text: str) -> tuple[int, int]:
    """Return the record and the place an event id names; an empty text is before the first, `7` after all of 7.

    Raises:
        Invalid: It is not an event id.
    """
    if not text:
        return 0, -1
    seq, dot, index = text.partition(".")
    if not seq.isdecimal() or (dot and not index.isdecimal()) or len(text) > 24:
        raise Invalid(f"{text!r} is not an event id; ids look like '12.0'", code="event.id")
    return int(seq), int(index) if dot else 1 << 30


def public_events(run_id: str, seq: int, body: ev.Body, *, after: int = -1) -> Iterator[PublicEvent]:
    """Yield the events of one record in order, leaving out those up to index `after`."""
    at = instant(body.t)
    for index, event in enumerate(body.ev):
        if index > after:
            yield public_event(run_id, seq, index, event, at)


def public_event(
    run_id: str, seq: int, index: int, event: ev.Event, at: datetime | None, plan: Plan | None = None,
    hidden: Hidden | None = None,
) -> PublicEvent:
    """Return one journal event as anyone outside reads it; without the plan steps go by their ids.

    Args:
        hidden: Takes out the run's sensitive values; `None` where nothing is marked, or everything may be seen.
    """
    entry = TABLE[type(event)]
    step = step_of(event)
    data = {public: _plain(field, getattr(event, field)) for field, public in entry.fields.items()}
    if type(event) is ev.StepCompleted and event.cache is None:
        del data["cache"]
    if type(event) is ev.RunCreated:
        data["priority"] = PRIORITY_NAMES[event.priority]
        data["replay_of"] = event.fork.run if event.fork is not None else None
    if hidden is not None:
        data = hidden.event(event, data)
    return PublicEvent(
        id=event_id(seq, index), run=run_id, type=entry.name, at=at, step=step,
        name=plan.title(step) if plan is not None and step else step, node=split_key(step)[0] if step else "", data=data,
    )


def step_of(event: ev.Event) -> str:
    """Return the key of the step an event is about; for a loop, its scope's header step; empty for the run."""
    if type(event) is ev.LoopPassed:
        scope = event.scope
        header = scope[scope.rindex("~") + 1 :].rpartition(".")[0]
        return header + scope
    return cast("str", getattr(event, "step", ""))


def _plain(field: str, value: Any) -> Any:
    """Return a journal value as plain JSON data."""
    if isinstance(value, Raw):
        return _decode(value)
    if isinstance(value, msgspec.Struct) or field == "findings":
        return _decode(_encode(value))
    if field in _INSTANTS:
        return instant(value)
    return value
