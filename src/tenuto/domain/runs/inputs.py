"""What `decide` is given and what it answers. None of this is stored; only the events are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from tenuto.domain.budgets.escrow import Short, Warn
from tenuto.domain.graph.limits import Most
from tenuto.domain.graph.model import Budget
from tenuto.domain.graph.plan import Plan, PlanNode
from tenuto.domain.overlays.terms import Surroundings
from tenuto.domain.runs.events import Cached, Charge, Events, Failure, Parent, Reused
from tenuto.domain.runs.messages import Messages
from tenuto.domain.runs.state import Step


class NeedValues(Exception):
    """A decision reads stored values that were not loaded; load them, rebuild the state and decide again."""

    def __init__(self, digests: tuple[str, ...]):
        """Name what is needed."""
        super().__init__(", ".join(digests))
        self.digests = digests


class Env(Protocol):
    """What a decision may read besides the state: stored values, predicates, a replay's outcomes. All pure."""

    predicates: Mapping[str, Callable[..., Any]]
    reuse: Mapping[str, Reused]
    most: Most

    def surroundings(self) -> Surroundings:
        """Return what a patch is looked at with; asked for only when there is one."""
        ...

    def remote(self, node: PlanNode, step: Step) -> bool:
        """Return whether an attempt is to be executed by any worker, in a process of its own."""
        ...

    def hold(self, digest: str, body: bytes) -> None:
        """Have a value at hand that the decision itself stores."""
        ...

    def load(self, value: Raw) -> Any:
        """Return a value as Python objects; the result is shared and must not be changed.

        Raises:
            NeedValues: The value is stored under a digest that is not at hand.
        """
        ...


class Begin(msgspec.Struct, frozen=True):
    """A worker owns the run. `lost` says that the former owner's attempts died with it."""

    worker: str
    epoch: int
    lost: bool = False


class Release(msgspec.Struct, frozen=True):
    """The worker shuts down and gives unfinished attempts back."""


class Tick(msgspec.Struct, frozen=True):
    """Time passed; whatever is due happens."""


class Succeeded(msgspec.Struct, frozen=True):
    """An attempt returned. `blob` holds the bytes of a large value that `out` points at."""

    step: str
    n: int
    out: Raw
    blob: bytes | None = None
    queued_ms: int = 0
    took_ms: int = 0
    cache: Cached | None = None


class Kept(msgspec.Struct, frozen=True):
    """A result the cache had, and what it once took."""

    out: Raw
    blob: bytes | None = None
    ms: int = 0
    usd_micros: int = 0


class Recalled(msgspec.Struct, frozen=True):
    """The cache had the outcome of an attempt; of a group, those of its members by node, whose head the step is.

    Attributes:
        joined: Whether another step computed it while this one waited.
    """

    step: str
    n: int
    key: str
    kept: dict[str, Kept]
    group: str = ""
    joined: bool = False


class Errored(msgspec.Struct, frozen=True):
    """An attempt raised, timed out, or its executor died."""

    step: str
    n: int
    failure: Failure
    lost: bool = False


class Stopped(msgspec.Struct, frozen=True):
    """An attempt was cancelled on request and has ended; `begun` says whether its code may have acted."""

    step: str
    n: int
    begun: bool = True


class MapItems(msgspec.Struct, frozen=True):
    """The list of a map was evaluated."""

    step: str
    n: int
    items: Raw
    count: int
    blob: bytes | None = None


class ChildAsked(msgspec.Struct, frozen=True):
    """A sub-flow's workflow was resolved to a version and its input to a value."""

    step: str
    n: int
    workflow: str
    digest: str
    input: Raw
    blob: bytes | None = None
    budget: Budget | None = None
    detach: bool = False


class CallAsked(msgspec.Struct, frozen=True):
    """A step's code is about to make a call; `token` comes back with the answer.

    Attributes:
        slot: Provider whose limit of concurrent calls it counts under; empty for none.
        final: Whether a definite failure is an outcome too: recorded, and the call not made again.
        partial: The step's output should the call be refused for good, because a cap is used up.
    """

    step: str
    n: int
    call: str
    token: Any
    kind: str = "call"
    name: str = ""
    digest: str = ""
    effect: str = "idempotent"
    on_unknown: str = "retry"
    hold: Charge | None = None
    slot: str = ""
    final: bool = False
    partial: Any = None


class WaitAsked(msgspec.Struct, frozen=True):
    """A step's code waits durably: for a moment, a signal, or a person who answers an `approval` or a `review`."""

    step: str
    n: int
    call: str
    token: Any
    kind: str
    name: str = ""
    until: int = 0
    message: str = ""
    data: dict[str, Any] = {}
    terms: dict[str, Any] = {}
    reason: str = ""


class PatchAsked(msgspec.Struct, frozen=True):
    """A step's code proposes a change of the graph it runs in; `by` names the agent.

    Attributes:
        absent: Workflows it would start, `name@tag`, that do not exist.
    """

    step: str
    n: int
    call: str
    token: Any
    base: str
    ops: Raw
    reason: str = ""
    by: str = ""
    absent: tuple[str, ...] = ()


class CallDone(msgspec.Struct, frozen=True):
    """A call returned."""

    step: str
    n: int
    call: str
    token: Any
    out: Raw
    blob: bytes | None = None
    kind: str = "call"
    name: str = ""
    digest: str = ""
    used: Charge | None = None
    took_ms: int = 0
    meta: dict[str, Any] = {}


class CallBroke(msgspec.Struct, frozen=True):
    """A call failed, definitely or with an unknown outcome."""

    step: str
    n: int
    call: str
    token: Any
    failure: Failure
    used: Charge | None = None
    kind: str = "call"
    name: str = ""
    digest: str = ""
    final: bool = False
    meta: dict[str, Any] = {}


class CallSettled(msgspec.Struct, frozen=True):
    """A status hook said what became of a call with a lost outcome: `retry`, `succeeded` or `failed`."""

    step: str
    call: str
    token: Any
    resolution: str
    out: Raw = Raw(b"null")
    blob: bytes | None = None


class Arrived(msgspec.Struct, frozen=True):
    """A message from the inbox."""

    n: int
    key: str
    message: Messages


class Refused(msgspec.Struct, frozen=True):
    """The store has no room for a call that is asked for with the inputs that follow."""

    short: Short


class Warned(msgspec.Struct, frozen=True):
    """A cap that many runs share has passed its warning share, and nobody has said so yet."""

    warn: Warn


Input = (
    Refused | Warned
    | Begin | Release | Tick | Succeeded | Recalled | Errored | Stopped | MapItems | ChildAsked | CallAsked | WaitAsked
    | PatchAsked | CallDone | CallBroke | CallSettled | Arrived
)


# --- answers to a step's code ----------------------------------------------------------------------------------


class Go(msgspec.Struct, frozen=True):
    """Make the call now, with this idempotency key."""

    key: str


class Known(msgspec.Struct, frozen=True):
    """The call was made before; this is its result."""

    out: Raw
    timed_out: bool = False


class Broken(msgspec.Struct, frozen=True):
    """The call cannot be made, or its code must not go on; with `final` it was made, and its failure is recorded."""

    failure: Failure
    final: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """A durable wait has begun; its end is announced."""


class Hold(msgspec.Struct, frozen=True):
    """The budget has room only once calls in flight are settled; ask again then."""


class AskHook(msgspec.Struct, frozen=True):
    """The call's outcome was lost; ask its status hook."""

    hook: str
    key: str


Reply = Go | Known | Broken | Waiting | Hold | AskHook


class ChildRun(msgspec.Struct, frozen=True):
    """A run to be created for a sub-flow; `labels` are those that go down: the project both are paid for by."""

    run: str
    workflow: str
    digest: str
    input: Raw
    parent: Parent
    budget: Budget | None
    priority: int
    ns: str
    shadow: bool = False
    traceparent: str = ""
    labels: dict[str, str] = {}


class Task(msgspec.Struct, frozen=True):
    """An attempt for any worker: what it is given, and its idempotency key."""

    step: str
    n: int
    input: Raw
    key: str


class Decision(msgspec.Struct):
    """What follows from some inputs. The state given to `decide` already has `events` folded in.

    Attributes:
        events: What to write; empty when nothing changed.
        eaten: Numbers of the inbox messages consumed, and their keys.
        tasks: Attempts offered to all workers.
        start: Steps whose attempt begins (or goes on) once the record is durable.
        stop: Steps whose running attempt must end.
        wake: `(step, call)` whose durable wait ended.
        replies: Answers to calls, given once the record is durable.
        blobs: Large values to store with the record.
        children: Runs to create.
        stop_children: Ids of children to cancel.
        by_time: A wait ended because nothing came in time: right only while there is no message nobody has read.
        money: Whether an event speaks of what many runs share for the first time in this run.
        plan: Of the graph the run goes by from here on, if that has changed.
        heard: Calls (step, call) that were told of room and want it no more.
    """

    events: list[Events]
    eaten: list[int]
    keys: list[str]
    start: list[str]
    tasks: list[Task]
    stop: list[str]
    wake: list[tuple[str, str]]
    replies: list[tuple[Any, Reply]]
    blobs: list[tuple[str, bytes]]
    children: list[ChildRun]
    stop_children: list[str]
    by_time: bool = False
    money: bool = False
    heard: list[tuple[str, str]] = []
    plan: Plan | None = None
