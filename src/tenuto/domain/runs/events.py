"""What can be written in a run's journal: a closed union of past-tense facts.

The two events that every step pays for, `try` and `done`, have short names; the public event stream has its own.
An event is never edited; a changed meaning is a new event. Times are integers: milliseconds since 1970 by the
store's clock. Values (`Raw`) are described in `domain.base.values`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import MaybeRaw
from tenuto.domain.graph.model import Budget
from tenuto.domain.runs.events_money import BudgetWarned as BudgetWarned
from tenuto.domain.runs.events_money import FundsRefused as FundsRefused
from tenuto.domain.runs.events_money import FundsReturned as FundsReturned
from tenuto.domain.runs.events_money import MoneyResolved as MoneyResolved
from tenuto.domain.runs.events_money import Overrun as Overrun
from tenuto.domain.runs.events_patches import PatchApplied as PatchApplied
from tenuto.domain.runs.events_patches import PatchProposed as PatchProposed
from tenuto.domain.runs.events_patches import PatchRejected as PatchRejected
from tenuto.domain.runs.events_tickets import TicketClosed as TicketClosed
from tenuto.domain.runs.events_tickets import TicketDecided as TicketDecided
from tenuto.domain.runs.events_tickets import TicketOpened as TicketOpened
from tenuto.domain.runs.events_tickets import TicketVoted as TicketVoted
from tenuto.domain.runs.facts import Cached as Cached
from tenuto.domain.runs.facts import Charge as Charge
from tenuto.domain.runs.facts import Event as Event
from tenuto.domain.runs.facts import Failure as Failure
from tenuto.domain.runs.facts import Fork as Fork
from tenuto.domain.runs.facts import Parent as Parent
from tenuto.domain.runs.facts import Reused as Reused

# --- the run ---------------------------------------------------------------------------------------------------


class RunCreated(Event, frozen=True, tag="run.created"):
    """A run exists, in the trace of its caller; always the first event. With `shadow` it has no effects: a replay made it."""

    ns: str
    workflow: str
    digest: str
    input: Raw
    goal: str = ""
    priority: int = 1
    labels: dict[str, str] = {}
    budget: Budget | None = None
    parent: Parent | None = None
    fork: Fork | None = None
    fidelity: str = "full"
    start_at: int = 0
    by: str = ""
    shadow: bool = False
    traceparent: str = ""


class Claimed(Event, frozen=True, tag="run.claimed"):
    """A worker owns the run from here on; written by the new owner as the first thing it writes."""

    worker: str
    epoch: int


class LeaseTaken(Event, frozen=True, tag="run.lease_taken"):
    """The run was taken from a worker whose lease had ended, or that had left it with work in flight."""

    epoch: int
    by: str
    from_: str = msgspec.field(name="from")


class RunStarted(Event, frozen=True, tag="run.started"):
    """Work began; wall-clock caps count from here."""


class PauseRequested(Event, frozen=True, tag="run.paused"):
    """Nothing new starts until the run is resumed."""

    by: str = ""
    reason: str = ""


class Resumed(Event, frozen=True, tag="run.resumed"):
    """A pause ended."""

    by: str = ""


class CancelRequested(Event, frozen=True, tag="run.cancelling"):
    """The run ends as cancelled once its attempts have stopped or the grace is over."""

    by: str = ""
    reason: str = ""


class RunCompleted(Event, frozen=True, tag="run.completed"):
    """Every step is resolved; the output is that of the steps no edge followed, by id."""

    output: Raw


class RunFailed(Event, frozen=True, tag="run.failed"):
    """Nothing more can happen and something failed without being handled."""

    failure: Failure


class RunCancelled(Event, frozen=True, tag="run.cancelled"):
    """The run was cancelled; it takes no more messages."""

    reason: str = ""


class RunExceeded(Event, frozen=True, tag="run.budget_exceeded"):
    """A cap was reached; the call that would have passed it was not made."""

    cap: str
    limit: float
    ask: float
    spent: float
    message: str


class RunRetried(Event, frozen=True, tag="run.retrying"):
    """Everything that could run has run and something failed; its dead letters go round again at `retry_at`."""

    n: int
    failure: Failure
    retry_at: int


class RunReopened(Event, frozen=True, tag="run.reopened"):
    """A stopped run goes on: a dead letter was redriven or a cap raised."""

    by: str = ""
    reason: str = ""
    budget: Budget | None = None


class DivergenceFound(Event, frozen=True, tag="run.diverged"):
    """A frozen replay decided otherwise than its origin."""

    step: str
    expected: Any
    found: Any
    what: str = "routing"


# --- steps -----------------------------------------------------------------------------------------------------


class AttemptStarted(Event, frozen=True, tag="try"):
    """A try of a step begins as soon as this is committed.

    Attributes:
        n: Counts every try, lost ones included.
        task: Whether any worker may execute it, instead of the run's owner.
    """

    step: str = msgspec.field(name="s")
    n: int = 1
    task: bool = False


class AttemptFailed(Event, frozen=True, tag="attempt.failed"):
    """A try failed and another follows at `retry_at`; `worker` executed it, if not the run's owner."""

    step: str
    n: int
    failure: Failure
    retry_at: int
    worker: str = msgspec.field(default="", name="w")


class AttemptLost(Event, frozen=True, tag="attempt.lost"):
    """The worker died during a try; its outcome is not known. `worker` names it, if not the run's owner."""

    step: str
    n: int
    worker: str = msgspec.field(default="", name="w")


class AttemptInterrupted(Event, frozen=True, tag="attempt.interrupted"):
    """A try was given back by its worker, which counts nothing, or cut off by a `failure`, which counts as a loss.

    With `unknown` it may have acted on the world: a status hook is asked before the code runs again.
    """

    step: str
    n: int
    unknown: bool = False
    failure: Failure | None = None


class StepCompleted(Event, frozen=True, tag="done"):
    """A step's outcome stands.

    Attributes:
        taken: Indexes of the outgoing edges taken; `None` when they are all plain.
        queued_ms: From ready to the first line of its code.
        took_ms: Of the attempt that succeeded.
        worker: Who executed it, when that was not the run's owner.
        cache: What the cache had to do with it; `None` for a step that has nothing to do with the cache.
    """

    step: str = msgspec.field(name="s")
    out: Raw
    n: int = 1
    taken: tuple[int, ...] | None = None
    queued_ms: int = msgspec.field(default=0, name="q")
    took_ms: int = msgspec.field(default=0, name="d")
    worker: str = msgspec.field(default="", name="w")
    cache: Cached | None = None


class StepReused(Event, frozen=True, tag="step.reused"):
    """A replay took a step's outcome from its origin."""

    step: str
    run: str
    seq: int
    out: Raw
    status: str = "completed"
    taken: tuple[int, ...] | None = None
    how: str = ""
    failure: Failure | None = None


class StepFailed(Event, frozen=True, tag="step.failed"):
    """A step's attempts are spent and its author said what follows.

    Attributes:
        how: `skip`, `continue`, `route` (error edges), `fallback`, or `item` (the map decides).
        out: Output that stands in, for `fallback` and `continue`.
    """

    step: str
    failure: Failure
    how: str
    n: int = 1
    out: Raw = Raw(b"null")
    taken: tuple[int, ...] = ()


class StepDeadLettered(Event, frozen=True, tag="step.dead_lettered"):
    """A step failed for good and nothing handles it; it can be redriven."""

    step: str
    failure: Failure
    n: int = 1


class StepSkipped(Event, frozen=True, tag="step.skipped"):
    """No incoming edge was taken, so the step never runs and its outgoing edges die."""

    step: str


class StepCancelled(Event, frozen=True, tag="step.cancelled"):
    """A step ends without an outcome; with `unknown` its code was cut off and may have acted; `out` is partial."""

    step: str
    reason: str = ""
    unknown: bool = False
    out: MaybeRaw = None


class StepRedriven(Event, frozen=True, tag="step.redriven"):
    """A person sent a failed step round again; `fresh` gives its effects a new key."""

    step: str
    by: str = ""
    fresh: bool = False
    guidance: str = ""
    config: dict[str, Any] | None = None


class JoinUnreachable(Event, frozen=True, tag="join.unreachable"):
    """Too many incoming edges of a quorum are dead; its step fails."""

    step: str


class LoopPassed(Event, frozen=True, tag="loop.passed"):
    """A pass of a loop ended. `next` is the pass that follows, 0 when the loop is left, -1 at its limit.

    Attributes:
        guidance: What people wrote who sent the run back to the head of the loop.
    """

    scope: str
    next: int
    guidance: str = ""


class MapOpened(Event, frozen=True, tag="map.opened"):
    """A map's list was evaluated, once and for all."""

    step: str
    items: Raw
    count: int


class ItemStarted(Event, frozen=True, tag="map.item"):
    """Items of a map begin, `first` to `last` inclusive."""

    step: str
    first: int
    last: int


# --- waits -----------------------------------------------------------------------------------------------------


class WaitStarted(Event, frozen=True, tag="wait.started"):
    """A step waits durably.

    Attributes:
        call: The call inside the step that waits; empty when the node itself does.
        kind: `timer`, `signal`, `approval`, `child`.
        until: When the wait ends by itself, in ms; 0 = never.
        name: Signal's name, ticket's id or child run's id.
        reason: Why, in a sentence, where the kind does not say.
    """

    step: str
    kind: str
    call: str = ""
    name: str = ""
    until: int = 0
    reason: str = ""


class WaitEnded(Event, frozen=True, tag="wait.ended"):
    """A wait inside a step's code is over; the value is what the call returns."""

    step: str
    call: str
    out: Raw
    timed_out: bool = False


class SignalReceived(Event, frozen=True, tag="signal.received"):
    """A signal arrived and waits in line for somebody to want it."""

    name: str
    key: str
    payload: Raw
    by: str = ""


class SignalTaken(Event, frozen=True, tag="signal.taken"):
    """The first signal of a name was given to a waiter."""

    name: str
    key: str
    step: str


class ChildStarted(Event, frozen=True, tag="child.started"):
    """A child run is asked for; it exists once the message is delivered."""

    step: str
    run: str
    workflow: str
    digest: str
    input: Raw
    budget: Budget | None = None
    detach: bool = False
    hold: Charge | None = None


# --- calls inside a step ---------------------------------------------------------------------------------------


class CallIntended(Event, frozen=True, tag="call.intended"):
    """A call is about to be made; committed before it is.

    Attributes:
        kind: `tool`, `model`, `call`.
        key: Idempotency key given to whoever is called.
        digest: Digest of the arguments.
        hold: Upper bound reserved from the run's budget.
        grant: Number of the hold on what many runs share; 0 = there is none.
        slot: Provider whose limit of concurrent calls the call counts under.
        final: Whether a definite failure is an outcome too, see `CallFailed`.
    """

    step: str
    call: str
    kind: str
    name: str = ""
    key: str = ""
    digest: str = ""
    effect: str = "idempotent"
    on_unknown: str = "retry"
    hold: Charge | None = None
    grant: int = 0
    slot: str = ""
    final: bool = False


class CallCompleted(Event, frozen=True, tag="call.completed"):
    """A call's result; the same call is never made again for this step. `grant` is settled, as below."""

    step: str
    call: str
    out: Raw
    kind: str = "call"
    name: str = ""
    digest: str = ""
    used: Charge | None = None
    took_ms: int = msgspec.field(default=0, name="d")
    meta: dict[str, Any] = {}
    grant: int = 0


class CallFailed(Event, frozen=True, tag="call.failed"):
    """A call definitely failed; `used` is what it cost all the same. A `final` failure stands: it is not made again."""

    step: str
    call: str
    failure: Failure
    used: Charge | None = None
    grant: int = 0
    kind: str = "call"
    name: str = ""
    digest: str = ""
    final: bool = False
    meta: dict[str, Any] = {}


class CallUnknown(Event, frozen=True, tag="call.unknown"):
    """A call's outcome was lost; its reservation counts as spent until it is known."""

    step: str
    call: str
    reason: str = ""
    grant: int = 0


class CallResolved(Event, frozen=True, tag="call.resolved"):
    """What became of a call with a lost outcome: `retry`, `succeeded` (with the result) or `failed`."""

    step: str
    call: str
    resolution: str
    by: str = ""
    out: Raw = Raw(b"null")
    used: Charge | None = None
    meta: dict[str, Any] = {}
    grant: int = 0


Events = (
    RunCreated | Claimed | LeaseTaken | RunStarted | PauseRequested | Resumed | CancelRequested | RunCompleted | RunFailed
    | RunCancelled | RunExceeded | RunRetried | RunReopened | DivergenceFound | AttemptStarted | AttemptFailed | AttemptLost
    | AttemptInterrupted | StepCompleted | StepReused | StepFailed | StepDeadLettered | StepSkipped | StepCancelled
    | StepRedriven | JoinUnreachable | LoopPassed | MapOpened | ItemStarted | WaitStarted | WaitEnded | SignalReceived
    | SignalTaken | TicketOpened | TicketVoted | TicketDecided | TicketClosed | ChildStarted | CallIntended | CallCompleted
    | CallFailed | CallUnknown | CallResolved | BudgetWarned | Overrun | FundsRefused | FundsReturned | MoneyResolved
    | PatchProposed | PatchApplied | PatchRejected
)


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of one record: the moment, the facts, and the inbox messages they answer.

    Attributes:
        t: Milliseconds by the store's clock; never less than in the record before.
        ev: 1..n events that happened together.
        inbox: Keys of the messages consumed; a key seen before is consumed without effect.
    """

    t: int
    ev: tuple[Events, ...]
    inbox: tuple[str, ...] = ()
