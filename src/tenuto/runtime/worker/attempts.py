"""One try of a step on this worker: its task, its clock, its way back to the actor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from msgspec import Raw

from tenuto.domain.base.values import TooLarge, pack
from tenuto.domain.graph.plan import Plan, PlanNode
from tenuto.domain.routing import Routing
from tenuto.domain.runs import data
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.events import Cached, Failure
from tenuto.domain.runs.failure import LOST, status_hook
from tenuto.domain.runs.inputs import NeedValues
from tenuto.domain.runs.present import step_idempotency_key
from tenuto.domain.runs.sensitive import Hidden, known_in, marks_of
from tenuto.domain.runs.state import RunState, Step
from tenuto.errors import ArtifactMissing, ControlSignal
from tenuto.ports.model import Model, OnDelta
from tenuto.runtime.bus import DELTA, WITHDRAWN, Line
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.worker.failures import describe
from tenuto.runtime.worker.lease import Lease
from tenuto.runtime.worker.resources import Resources
from tenuto.runtime.worker.said import plain, speaking, text
from tenuto.runtime.worker.slots import Slots
from tenuto.runtime.worker.token import Token
from tenuto.runtime.worker.values import RunEnv

log = logging.getLogger("tenuto.step")


class Answered:
    """What an executor returns when an attempt ends in something other than a value."""

    __slots__ = ("input",)

    def __init__(self, inp: io.Input) -> None:
        """Hand an input to the actor as it is."""
        self.input = inp


class Keeper(Protocol):
    """What an attempt needs of the cache."""

    def enter(self, attempt: Attempt) -> None:
        """Look for its result; let its code run only if it has to."""
        ...

    async def keep(self, attempt: Attempt, out: Raw, blob: bytes | None, took_ms: int) -> Cached | None:
        """Keep its result for others; return what the journal says of it."""
        ...

    def ended(self, attempt: Attempt) -> None:
        """Hear that it is over."""
        ...

    def paid(self, attempt: Attempt) -> None:
        """Hear what a member of a group that is to be kept has cost."""
        ...


class Host(Protocol):
    """What an attempt needs of the worker its code runs on.

    Attributes:
        execute: Runs the code of an attempt and returns its value.
    """

    resources: Resources
    lease: Lease
    slots: Slots
    execute: Callable[[Attempt], Awaitable[Any]]

    @property
    def memo(self) -> Keeper:
        """Return what keeps results for others."""
        ...


class Run(Protocol):
    """What an attempt needs of its run.

    Attributes:
        dropped: The worker owns the run no more.
        attempts: Attempts whose code is on this worker, by step.
    """

    st: RunState
    plan: Plan
    env: RunEnv
    dropped: bool
    attempts: dict[str, Attempt]

    @property
    def worker(self) -> Host:
        """Return the worker that owns the run."""
        ...

    def push(self, inp: io.Input) -> None:
        """Take an input; it is decided with the next group."""
        ...


class Attempt:
    """A running try. Ends exactly once: with an outcome, stopped on request, or evicted without a word."""

    # Class attributes are the defaults: most attempts never touch them, and there are many attempts.
    task: asyncio.Task[None] | None = None
    stopping = False
    evicted = False
    timed_out = ""
    began = 0
    _timer: asyncio.TimerHandle | None = None
    _timer_left = 0.0
    _timer_since = 0.0
    _beat: asyncio.TimerHandle | None = None
    _limit = 0.0
    _hidden: Hidden | None = None
    asked: Any = None
    let_go = False
    cost_usd_micros = 0

    def __init__(self, actor: Run, key: str) -> None:
        """Prepare the try that the journal says has begun."""
        self.actor = actor
        self.worker: Host = actor.worker
        self.key = key
        step = actor.st.steps[key]
        self.n = step.attempt
        self.ready_at = step.ready_at
        self.config = step.config
        self.step_key = step_idempotency_key(actor.st.id, key, step.group)
        self.doubtful = step.doubt
        self.node: PlanNode = actor.plan.node_of(key)
        self.waiting: dict[str, asyncio.Future[None]] = {}

    @property
    def over(self) -> bool:
        """Return whether the code need not begin any more."""
        return self.stopping or self.evicted or self.actor.dropped

    @property
    def st(self) -> RunState:
        """Return the state of the run."""
        return self.actor.st

    @property
    def catalog(self) -> Catalog:
        """Return what the worker can serve."""
        return self.worker.resources.catalog

    @property
    def routing(self) -> Routing:
        """Return which models do what agents leave open."""
        return self.worker.resources.options.routing

    def model(self, name: str) -> Model:
        """Return the model of a name."""
        return self.worker.resources.model(name)

    def begin(self) -> None:
        """Let the code run as a task of its own."""
        self.began = self.worker.resources.clock.now()
        self.task = asyncio.get_running_loop().create_task(self._main())

    async def _main(self) -> None:
        if not self.worker.lease.holds():
            self.worker.lease.lose()
            self._forget()
            return
        speaking.set(self)
        try:
            result = await self.worker.execute(self)
            if isinstance(result, Answered):
                self._end(result.input)
                return
            out, blob = pack(result)
            cache = None
            if self.node.group and self.cost_usd_micros:
                self.worker.memo.paid(self)
            if self.asked is not None:
                took = max(0, self.worker.resources.clock.now() - self.began)
                cache = await self.worker.memo.keep(self, out, blob, took)
        except asyncio.CancelledError:
            if self.stopping and not self.evicted:
                await self._find_out()
            else:
                self._cancelled()
        except ControlSignal:
            self._forget()
        except (TypeError, TooLarge, ValueError, OverflowError) as exc:
            self._failed(describe(exc))
        except Exception as exc:
            self._failed(describe(exc))
        except BaseException as exc:
            # SystemExit and KeyboardInterrupt in a step are its failure; the worker goes on.
            self._failed(Failure(code="step.exited", type=type(exc).__name__, message=f"the step raised {exc!r}"))
        else:
            now = self.worker.resources.clock.now()
            queued = max(0, self.began - self.ready_at) if self.n == 1 else 0
            self._end(io.Succeeded(self.key, self.n, out, blob, queued, max(0, now - self.began), cache))

    def _cancelled(self) -> None:
        if self.evicted:
            self._forget()
        elif self.timed_out:
            code = f"attempt.{self.timed_out}"
            what = "no heartbeat" if self.timed_out == "heartbeat" else "no result"
            message = f"{what} within {self._limit:g} s"
            self._failed(Failure(code=code, type="TimedOut", message=message, unknown=True))
        elif self.stopping:
            self._end(io.Stopped(self.key, self.n, begun=self.began > 0))
        else:
            self._forget()

    async def _find_out(self) -> None:
        """End code that was stopped on request, with the outcome its status hook knows, if there is one to ask."""
        st = self.actor.st
        hook = status_hook(self.node, Step(doubt=True)) if st.status == "cancelling" else ""
        if not hook:
            self._cancelled()
            return
        try:
            resolution, value = await self.worker.resources.ask_hook(hook, self.step_key)
            out, blob = pack(value)
        except (Exception, asyncio.CancelledError):
            log.warning("the status hook %s did not answer", hook, exc_info=True, extra={"run": st.id, "step": self.key})
            self._cancelled()
            return
        if resolution == "succeeded":
            self._end(io.Succeeded(self.key, self.n, out, blob))
        else:
            self._end(io.Stopped(self.key, self.n, begun=False))

    def _failed(self, failure: Failure) -> None:
        self._end(io.Errored(self.key, self.n, failure, lost=failure.code == LOST.code))

    def _end(self, inp: io.Input) -> None:
        self._forget()
        if not self.evicted and not self.actor.dropped:
            self.actor.push(inp)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        attempts = self.actor.attempts
        if attempts.get(self.key) is self:
            del attempts[self.key]
        self.worker.slots.leave(self)
        if self.asked is not None:
            self.worker.memo.ended(self)
        # The task's context names the attempt; a ring of the two would wait for the cycle collector.
        self.task = None

    # --- from the actor ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the code on request; its outcome no longer counts, but that it ended does."""
        self.stopping = True
        self._cancel()

    def answered(self, inp: io.Input) -> None:
        """End without having begun: somebody else has its outcome."""
        self._end(inp)

    def evict(self) -> None:
        """Take the code off the worker without a trace; it runs again from the top when the run goes on."""
        self.evicted = True
        self._cancel()

    def _cancel(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
        elif self.task is None:
            self._cancelled()

    def woken(self, call: str) -> None:
        """Let the code that waits for a call go on."""
        future = self.waiting.pop(call, None)
        if future is not None and not future.done():
            future.set_result(None)

    # --- from the context -------------------------------------------------------------------------------------

    async def ask(self, inp: Any, token: Token) -> io.Reply:
        """Hand an input to the actor and wait until its consequences are durable."""
        if isinstance(inp, io.CallDone) and inp.used is not None:
            self.cost_usd_micros += inp.used.cost_usd_micros
        self.actor.push(inp)
        return await token.future

    async def wait_for(self, call: str) -> None:
        """Wait until a durable wait ends; the attempt's clock stands still meanwhile."""
        step = self.actor.st.steps[self.key]
        known = step.calls.get(call)
        if known is None or known.status not in ("waiting", "unknown"):
            return
        self.hold_clock()
        future = asyncio.get_running_loop().create_future()
        self.waiting[call] = future
        try:
            await future
        finally:
            self.waiting.pop(call, None)
            self._resume_clock()

    async def load(self, value: Raw) -> Any:
        """Return a value as Python objects, read from the store where it is large."""
        while True:
            try:
                return self.actor.env.load(value)
            except io.NeedValues as need:
                await self.need(need)

    async def need(self, need: io.NeedValues) -> None:
        """Read missing values.

        Raises:
            ArtifactMissing: The store does not have them (any more).
        """
        resources = self.worker.resources
        if not await resources.values.fetch(resources.store, need.digests):
            raise ArtifactMissing(f"stored values are gone: {need}")

    def given(self) -> Any:
        """Return what the step is given, from what is at hand.

        Raises:
            NeedValues: Some of it has to be read first; see `input`.
            InputMissing: Its mapping names something that does not exist.
        """
        return data.step_input(self.actor.st, self.actor.plan, self.actor.env, self.key)

    async def input(self) -> Any:
        """Return what the step is given.

        Raises:
            InputMissing: Its mapping names something that does not exist.
        """
        while True:
            try:
                return self.given()
            except io.NeedValues as need:
                await self.need(need)

    async def render(self, template: Any, given: Mapping[str, Any] = {}) -> Any:
        """Return a template of the node's config with its references filled in, from variables of its own as well."""
        while True:
            try:
                return data.render(self.actor.st, self.actor.plan, self.actor.env, template, self.key, given)
            except io.NeedValues as need:
                await self.need(need)

    async def predecessors(self) -> dict[str, Any]:
        """Return the outputs of the nodes whose edges led here, by id."""
        while True:
            try:
                return data.predecessors(self.actor.st, self.actor.plan, self.actor.env, self.key)
            except io.NeedValues as need:
                await self.need(need)

    async def finished(self) -> list[tuple[str, Any]]:
        """Return the outputs of the run's completed agent steps as `(name, output)`, the newest first."""
        plan, steps = self.actor.plan, self.actor.st.steps
        done = [(step.finished_at, key) for key, step in steps.items()
                if step.status == "completed" and step.out is not None and plan.node_of(key).node.kind == "agent"]
        found: list[tuple[str, Any]] = []
        for _, key in sorted(done, reverse=True):
            out = steps[key].out
            if out is not None:
                found.append((plan.title(key), await self.load(out)))
        return found

    async def deleted_findings(self) -> frozenset[str]:
        """Return the ids of the findings that somebody deleted from this run, or from one it replays, until now."""
        st = self.actor.st
        return frozenset(row.id for row in await self.worker.resources.store.deleted_findings(st.ns, st.id))

    # --- clocks -----------------------------------------------------------------------------------------------

    def limit(self, timeout_s: float | None, heartbeat_s: float | None) -> None:
        """Start the clocks of this attempt."""
        if timeout_s:
            self._limit = timeout_s
            self._timer_left = timeout_s
            self._resume_clock()
        if heartbeat_s:
            self._beat_every(heartbeat_s)

    def _resume_clock(self) -> None:
        if self._timer_left > 0 and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer_since = loop.time()
            self._timer = loop.call_later(self._timer_left, self._time_out, "timeout")

    def hold_clock(self) -> None:
        """Stop the attempt's clock until it is started again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_left = max(0.001, self._timer_left - (asyncio.get_running_loop().time() - self._timer_since))

    def _time_out(self, what: str) -> None:
        self.timed_out = what
        self._cancel()

    def _beat_every(self, seconds: float) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self._limit = seconds
        self._beat = asyncio.get_running_loop().call_later(seconds, self._time_out, "heartbeat")

    def beat(self) -> None:
        """Restart the heartbeat's clock."""
        if self._beat is not None and self.node.node.heartbeat_s:
            self._beat_every(self.node.node.heartbeat_s)

    def say(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Tell those who watch the run in this process; nothing is kept. May be called on any thread."""
        bus, run_id, task = self.worker.resources.bus, self.actor.st.id, self.task
        if task is not None and bus.watches(run_id):
            line = Line(run_id, self.key, self.n, self.worker.resources.clock.now(), level, text(message), plain(fields))
            task.get_loop().call_soon_threadsafe(bus.say, line)

    def hide(self, text: str) -> str:
        """Return a text without what the run's schemas mark in its input, and in the outputs there were at first."""
        if self._hidden is None:
            actor = self.actor
            marks = marks_of(actor.plan)
            self._hidden = Hidden(marks)
            if marks:
                outs = {key: step.out for key, step in actor.st.steps.items() if step.out is not None and marks.of_step(key)}
                read = self._at_hand
                self._hidden = known_in(marks, read(actor.st.input), {key: read(out) for key, out in outs.items()})
        return self._hidden.text(text)

    def _at_hand(self, value: Raw) -> Any:
        try:
            return self.actor.env.load(value)
        except NeedValues:
            return None

    def teller(self, call: str) -> OnDelta | None:
        """Return what tells those who watch the run of a call's text as it comes; `None` when nobody does."""
        if not self.worker.resources.bus.watches(self.actor.st.id):
            return None
        return lambda piece: self._tell(DELTA, call, piece)

    def withdraw(self, call: str) -> None:
        """Tell those who watch the run that the text of a call so far does not count."""
        self._tell(WITHDRAWN, call, "")

    def _tell(self, kind: str, call: str, piece: str) -> None:
        resources, run_id = self.worker.resources, self.actor.st.id
        resources.bus.say(Line(run_id, self.key, self.n, resources.clock.now(), "info", text(piece), {}, kind, call))

    def log(self, message: str, fields: dict[str, Any]) -> None:
        """Write a log line of the step, and tell those who watch its run."""
        self.say("info", message, fields)
        log.info(message, extra={"run": self.actor.st.id, "step": self.key, "attempt": self.n, "fields": fields})
