"""What a step's code may ask of the engine: durable calls, waits, people. Handed to handlers as `ctx`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack

import msgspec

from tenuto.domain.base.canonical import digest
from tenuto.domain.base.values import pack
from tenuto.domain.graph.people import term_problems
from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import patches
from tenuto.domain.runs.events import Charge, Failure
from tenuto.errors import CallDiverged, Invalid, LeaseRevoked, StepError, TenutoError
from tenuto.runtime.subflows import absent_workflows
from tenuto.runtime.tools.call import Outcome, Status
from tenuto.runtime.tools.tool import CallInfo
from tenuto.runtime.tools.tracing import traceparent
from tenuto.runtime.worker.artifacts import StepArtifacts, SyncStepArtifacts
from tenuto.runtime.worker.failures import describe
from tenuto.runtime.worker.token import Token

if TYPE_CHECKING:
    from tenuto.runtime.worker.attempts import Attempt

T = TypeVar("T")


class CallFailed(StepError):
    """A call inside a step failed; `details` hold its code and type."""

    code = "call.failed"


class _Ended(Exception):
    """A call whose failures are final has failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Asking(TypedDict, total=False):
    """On what terms a person is asked; as in the config of an approval."""

    approvers: Sequence[str]
    quorum: int
    reject_quorum: int
    not_requester: bool
    schema: dict[str, Any]
    on_timeout: Literal["approve", "reject"] | dict[str, Any]


class Context:
    """The engine as a step's code sees it. One per attempt; calls finished in earlier attempts are not repeated.

    Attributes:
        run_id: The run.
        step: The step's key: node and scope.
        node: The node's id.
        attempt: Number of this try, from 1.
        key: Idempotency key of the step: the same over retries and takeovers; give it to whatever you call.
        input: What the step was given.
        guidance: What a person wrote when sending the step round again; empty otherwise.
    """

    def __init__(self, attempt: Attempt, value: Any) -> None:
        """Serve one attempt."""
        self._attempt = attempt
        self._names: dict[str, int] = {}
        state = attempt.actor.st
        self.run_id = state.id
        self.step = attempt.key
        self.node, self.scope = split_key(attempt.key)
        self.attempt = attempt.n
        step = state.steps[attempt.key]
        self.key = f"{state.id}/{attempt.key}" + (f"/{step.group}" if step.group else "")
        self.guidance = step.guidance
        self.input = value

    @property
    def artifacts(self) -> StepArtifacts:
        """Return bytes of any size, by the digest of their content."""
        return StepArtifacts(self, self._attempt.worker.resources.shelf, self._attempt.actor.st.ns)

    @property
    def name(self) -> str:
        """Return the step as its author named it."""
        return self._attempt.actor.plan.title(self.step)

    # --- durable calls ----------------------------------------------------------------------------------------

    async def call(
        self, fn: Callable[..., Awaitable[T] | T], *args: Any, key: str | None = None, effect: str = "idempotent",
        on_unknown: str = "retry", **kwargs: Any,
    ) -> T:
        """Call a function once and for all: its result is recorded, and a later attempt gets the record.

        Args:
            key: Identity of the call in this step; needed when calls of one name run at once. Default: the
                function's name and how many calls of that name came before.
            effect: `pure`, `idempotent` or `effect`; an effect's intent is recorded before it is made.
            on_unknown: For effects whose outcome was lost: `retry`, `ask`, or a registered status hook.

        Raises:
            CallDiverged: The call was recorded with other arguments.
        """
        name = getattr(fn, "__name__", "call")
        asked = self._asked(name, key, "call", effect, on_unknown, _digest_of(args, kwargs), None)
        return await self._perform(asked, lambda _key: _invoke(fn, args, kwargs))

    async def perform(
        self, kind: str, name: str, arguments: Any, make: Callable[[str], Awaitable[Any]], *, key: str | None = None,
        effect: str = "idempotent", on_unknown: str = "retry", hold: Charge | None = None,
        used: Callable[[Any], Charge | None] = lambda _: None, meta: Callable[[Any], dict[str, Any]] = lambda _: {},
        slot: str = "", partial: Any = None, status: Status | None = None,
    ) -> Any:
        """Make one journaled call of a tool or model: reserve, record the intent, call, settle.

        Args:
            make: Gets the idempotency key and makes the call.
            hold: Upper bound of what it may cost.
            used: What it did cost, from its result.
            meta: Facts for usage reports, from its result.
            slot: Provider whose limit of concurrent calls, over all workers, it counts under; empty for none.
            partial: The step's output should a cap be used up, so that the call is refused and the run halts.
            status: Asked in place of the status hook that `on_unknown` names.
        """
        asked = self._asked(
            name, key, kind, effect, on_unknown, _digest_of((arguments,), {}), hold, slot, partial=partial
        )
        return await self._perform(asked, make, used, meta, status)

    def call_info(self, key: str) -> CallInfo:
        """Return which run and step a call of this key serves."""
        state = self._attempt.actor.st
        project = state.labels.get("project", "")
        return CallInfo(key=key, ns=state.ns, run=self.run_id, step=self.step, project=project)

    async def outcome(
        self, kind: str, name: str, arguments: Any, make: Callable[[str], Awaitable[Any]], *, key: str | None = None,
        effect: str = "idempotent", on_unknown: str = "retry", hold: Charge | None = None,
        used: Callable[[Any], Charge | None] = lambda _: None, meta: Callable[[Any], dict[str, Any]] = lambda _: {},
        slot: str = "", partial: Any = None, status: Status | None = None,
        passing: Callable[[Exception], bool] = lambda _: False,
    ) -> Outcome:
        """Make one journaled call whose definite failure is an outcome, too: recorded, and never made again.

        A failure costs what was reserved for the call, unless the exception says otherwise in its `used`.

        Args:
            passing: Says of a failure that it is none yet: it costs nothing and is raised, and the call may be made again.
        """
        asked = self._asked(
            name, key, kind, effect, on_unknown, _digest_of((arguments,), {}), hold, slot, final=True, partial=partial
        )
        try:
            return Outcome(await self._perform(asked, make, used, meta, status, passing))
        except _Ended as ended:
            return Outcome(None, ended.failure)

    async def note(self, key: str, value: Any, *, kind: str = "note", name: str = "") -> Any:
        """Record what the step's code found or decided by itself; every later attempt gets the same answer."""

        async def make(_key: str) -> Any:
            return value

        return await self._perform(self._asked(name or key, key, kind, "pure", "retry", "", None), make)

    def begun(self, call: str) -> bool:
        """Return whether the journal knows a call or wait of this identity, unless it failed and was forgotten."""
        return call in self._attempt.st.steps[self.step].calls

    def _asked(
        self, name: str, key: str | None, kind: str, effect: str, on_unknown: str, args_digest: str,
        hold: Charge | None, slot: str = "", *, final: bool = False, partial: Any = None,
    ) -> io.CallAsked:
        token = Token()
        asked = io.CallAsked(
            step=self.step, n=self.attempt, call=key or self._next(name), token=token, kind=kind, name=name,
            digest=args_digest, effect=effect, on_unknown=on_unknown, hold=hold, slot=slot, final=final,
            partial=partial,
        )
        token.asked = asked
        return asked

    def _next(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    async def _perform(
        self, asked: io.CallAsked, make: Callable[[str], Awaitable[Any]],
        used: Callable[[Any], Charge | None] = lambda _: None, meta: Callable[[Any], dict[str, Any]] = lambda _: {},
        status: Status | None = None, passing: Callable[[Exception], bool] = lambda _: False,
    ) -> Any:
        answer = await self._attempt.ask(asked, asked.token)
        while True:
            if isinstance(answer, io.Known):
                return await self._attempt.load(answer.out)
            if isinstance(answer, io.Go):
                answer = await self._make(asked, answer.key, make, used, meta, passing)
            elif isinstance(answer, io.Waiting):
                await self._attempt.wait_for(asked.call)
                answer = await self._again(asked)
            elif isinstance(answer, io.AskHook):
                answer = await self._settle(asked, answer, status)
            elif isinstance(answer, io.Broken):
                raise _Ended(answer.failure) if answer.final else _error(answer.failure)
            else:
                raise AssertionError(f"no code for {answer!r}")

    async def _again(self, asked: io.CallAsked) -> io.Reply:
        token = Token()
        again = msgspec.structs.replace(asked, token=token)
        token.asked = again
        return await self._attempt.ask(again, token)

    async def _make(
        self, asked: io.CallAsked, key: str, make: Callable[[str], Awaitable[Any]],
        used: Callable[[Any], Charge | None], meta: Callable[[Any], dict[str, Any]],
        passing: Callable[[Exception], bool],
    ) -> io.Reply:
        worker = self._attempt.worker
        clock = worker.resources.clock
        if not worker.lease.holds():
            worker.lease.lose()
            raise LeaseRevoked(f"call {asked.call!r} was not made: the worker's lease had ended")
        token = Token()
        began = clock.now()
        if worker.resources.traceparent is not None:
            traceparent.set(worker.resources.traceparent(self._attempt.st, self.step, self.attempt, asked.call))
        elif traceparent.get() != self._attempt.st.traceparent:
            traceparent.set(self._attempt.st.traceparent)
        try:
            value = await make(key)
            out, blob = pack(value)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            failure = describe(exc)
            final = asked.final and not passing(exc)
            broke = io.CallBroke(
                step=self.step, n=self.attempt, call=asked.call, token=token, failure=failure, kind=asked.kind,
                name=asked.name, digest=asked.digest, final=final,
                used=getattr(exc, "used", asked.hold if final else None), meta=getattr(exc, "meta", {}),
            )
            answer = await self._attempt.ask(broke, token)
            if isinstance(answer, io.Broken) and answer.failure is failure and not answer.final:
                raise
            return answer
        done = io.CallDone(
            step=self.step, n=self.attempt, call=asked.call, token=token, out=out, blob=blob, kind=asked.kind,
            name=asked.name, digest=asked.digest, used=used(value), took_ms=clock.now() - began, meta=meta(value),
        )
        return await self._attempt.ask(done, token)

    async def _settle(self, asked: io.CallAsked, answer: io.AskHook, status: Status | None) -> io.Reply:
        if status is not None:
            resolution, value = await status(answer.key)
        else:
            resolution, value = await self._attempt.worker.resources.ask_hook(answer.hook, answer.key)
        out, blob = pack(value)
        token = Token()
        settled = io.CallSettled(step=self.step, call=asked.call, token=token, resolution=resolution, out=out, blob=blob)
        reply = await self._attempt.ask(settled, token)
        if resolution == "retry":
            return await self._again(asked)
        return reply

    async def map(
        self, fn: Callable[[Any], Awaitable[T] | T], items: Iterable[Any], *, key: str = "", effect: str = "idempotent",
    ) -> list[T]:
        """Call a function for every item, all at once, each call recorded by its position; order is kept."""
        prefix = key or self._next(getattr(fn, "__name__", "map") + "[]")
        calls = [
            self.call(fn, item, key=f"{prefix}[{index}]", effect=effect) for index, item in enumerate(items)
        ]
        return list(await asyncio.gather(*calls))

    # --- the graph --------------------------------------------------------------------------------------------

    async def graph(self, *, key: str | None = None) -> dict[str, Any]:
        """Return the run's graph as it is now and what may still be added to it; a later attempt sees the same."""
        actor = self._attempt.actor
        view = patches.view_of(actor.st, actor.plan, actor.env.surroundings())
        return await self.note(key or self._next("graph"), view, kind="graph", name="read_graph")

    async def propose_patch(
        self, operations: Any, *, reason: str = "", base: str = "", key: str | None = None
    ) -> dict[str, Any]:
        """Propose a change of the run's graph, and wait durably where a person has to approve it.

        Args:
            operations: JSON Patch operations on `/nodes` and `/edges`; nodes may go by their ids.
            base: Digest of the graph they are made for; the newest when empty.

        Returns:
            `{patch, status, graph, number}`: `applied` with what `changed`; `rejected` with the `reason` and `by` whom;
            `invalid` with every problem, and how often this step was `refused`. An invalid patch is kept for a person.
        """
        call, state = key or self._next("propose_patch"), self._attempt.st
        ops = msgspec.Raw(msgspec.json.encode(operations))
        store, definition = self._attempt.worker.resources.store, self._attempt.actor.plan.definition
        asked = io.PatchAsked(
            step=self.step, n=self.attempt, call=call, token=None, base=base or state.digest, ops=ops, reason=reason,
            absent=await absent_workflows(store, state.ns, definition, msgspec.json.decode(ops)),
        )
        return await self._parked(call, asked)

    # --- durable waits ----------------------------------------------------------------------------------------

    async def sleep(self, seconds: float, *, key: str | None = None, reason: str = "") -> None:
        """Wait; the wait survives restarts and holds no worker.

        Args:
            reason: Why, for whoever asks what the run waits for.
        """
        until = self._attempt.worker.resources.clock.now() + int(seconds * 1000)
        await self._wait("timer", key or self._next("sleep"), until=until, reason=reason)

    async def wait_signal(self, name: str, *, timeout_s: float | None = None, key: str | None = None) -> Any:
        """Wait for a signal and return its payload; `None` after `timeout_s` seconds without one."""
        until = self._attempt.worker.resources.clock.now() + int(timeout_s * 1000) if timeout_s else 0
        return await self._wait("signal", key or self._next(f"signal:{name}"), name=name, until=until)

    async def approve(
        self, message: str, *, data: dict[str, Any] | None = None, timeout_s: float | None = None, key: str | None = None,
        **terms: Unpack[Asking],
    ) -> dict[str, Any]:
        """Ask a person and wait for the answer: `{decision, approved, reason, data, by}`; nobody in time = rejected.

        Raises:
            Invalid: The terms are none.
        """
        until = self._attempt.worker.resources.clock.now() + int(timeout_s * 1000) if timeout_s else 0
        asked: dict[str, Any] = {name: value for name, value in terms.items() if value is not None}
        if asked and timeout_s:
            asked["timeout_s"] = timeout_s
        problems = list(term_problems(asked))
        if problems:
            faults = "; ".join(f"{one.place.lstrip('/')}: {one.message}" for one in problems)
            raise Invalid(f"the question cannot be asked on these terms: {faults}", code="approval.terms")
        return await self._wait(
            "approval", key or self._next("approve"), until=until, message=message, data=data or {}, terms=asked
        )

    async def review(self, message: str, *, data: dict[str, Any] | None = None, key: str | None = None) -> dict[str, Any]:
        """Let a person judge what the step came to: `{decision: accept | retry | fail, reason, data, by}`."""
        return await self._wait("review", key or self._next("review"), message=message, data=data or {})

    async def _wait(self, kind: str, call: str, **rest: Any) -> Any:
        # What no journal can hold is the step's mistake, and fails here, in the step.
        msgspec.json.encode([call, rest])
        return await self._parked(call, io.WaitAsked(step=self.step, n=self.attempt, call=call, token=None, kind=kind, **rest))

    async def _parked(self, call: str, asked: io.WaitAsked | io.PatchAsked) -> Any:
        """Ask, and ask again whenever the wait that was the answer is over."""
        answer: io.Reply = io.Waiting()
        while isinstance(answer, io.Waiting):
            token = Token()
            asked = msgspec.structs.replace(asked, token=token)
            token.asked = asked
            answer = await self._attempt.ask(asked, token)
            if isinstance(answer, io.Waiting):
                await self._attempt.wait_for(call)
        if isinstance(answer, io.Known):
            return await self._attempt.load(answer.out)
        assert isinstance(answer, io.Broken)
        raise _error(answer.failure)

    # --- small things -----------------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Say that the step is alive; restarts the clock of `heartbeat_s`."""
        self._attempt.beat()

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to the log with the run and step."""
        self._attempt.log(message, fields)


class SyncContext:
    """The same for a step written as a plain function: every method blocks its thread until the answer is there."""

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop) -> None:
        """Serve a function that runs on a thread beside the worker's loop."""
        self._ctx = ctx
        self._loop = loop
        for name in ("run_id", "step", "name", "node", "attempt", "key", "input", "guidance"):
            setattr(self, name, getattr(ctx, name))
        self.artifacts = SyncStepArtifacts(ctx.artifacts, self._run)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See `Context.call`."""
        return self._run(self._ctx.call(fn, *args, **kwargs))

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], **kwargs: Any) -> list[Any]:
        """See `Context.map`."""
        return self._run(self._ctx.map(fn, items, **kwargs))

    def sleep(self, seconds: float, *, key: str | None = None) -> None:
        """See `Context.sleep`."""
        self._run(self._ctx.sleep(seconds, key=key))

    def wait_signal(self, name: str, *, timeout_s: float | None = None, key: str | None = None) -> Any:
        """See `Context.wait_signal`."""
        return self._run(self._ctx.wait_signal(name, timeout_s=timeout_s, key=key))

    def approve(self, message: str, **kwargs: Any) -> dict[str, Any]:
        """See `Context.approve`."""
        return self._run(self._ctx.approve(message, **kwargs))

    def graph(self, *, key: str | None = None) -> dict[str, Any]:
        """See `Context.graph`."""
        return self._run(self._ctx.graph(key=key))

    def propose_patch(self, operations: Any, **kwargs: Any) -> dict[str, Any]:
        """See `Context.propose_patch`."""
        return self._run(self._ctx.propose_patch(operations, **kwargs))

    def heartbeat(self) -> None:
        """See `Context.heartbeat`."""
        self._loop.call_soon_threadsafe(self._ctx.heartbeat)

    def log(self, message: str, **fields: Any) -> None:
        """See `Context.log`."""
        self._ctx.log(message, **fields)


async def _invoke(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(fn):
        return await fn(*args, **kwargs)
    value = await asyncio.get_running_loop().run_in_executor(None, lambda: fn(*args, **kwargs))
    return await value if inspect.isawaitable(value) else value


def _digest_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a digest of the arguments, or an empty string when they have no JSON form and are not compared."""
    if not args and not kwargs:
        return ""
    try:
        return digest(msgspec.to_builtins([args, kwargs]))
    except (TypeError, ValueError):
        return ""


def _error(failure: Failure) -> TenutoError:
    if failure.code == CallDiverged.code:
        return CallDiverged(failure.message)
    error = CallFailed(failure.message, code=failure.code, type=failure.type, failure=failure)
    return error
