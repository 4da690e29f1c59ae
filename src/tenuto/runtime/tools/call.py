"""The one path to a tool: validate, reserve, record the intent, call, settle. There is no other."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol

from tenuto.domain.base.nearest import nearest
from tenuto.domain.graph.schema import validate
from tenuto.domain.runs.events import Charge, Failure
from tenuto.errors import Permanent, StepError
from tenuto.ports.tools import ToolUnavailable
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.tool import Bound, CallInfo, Later, Serving, Took, Tool

Status = Callable[[str], Awaitable[tuple[str, Any]]]
"""Gets the key of a call with a lost outcome and says what became of it: resolution and value."""


class Outcome(NamedTuple):
    """What a call came to: its result, or the failure that is recorded in its place."""

    value: Any
    failure: Failure | None = None


class Informed(Protocol):
    """What tells a tool whom it serves."""

    def call_info(self, key: str) -> CallInfo:
        """Return which run and step a call of this key serves."""
        ...


class Waiting(Informed, Serving, Protocol):
    """What lets a tool wait without holding a worker."""

    def begun(self, call: str) -> bool:
        """Return whether the journal knows a call or wait of this identity."""
        ...

    async def sleep(self, seconds: float, *, key: str | None = None, reason: str = "") -> None:
        """Wait durably."""
        ...


class Journaled(Waiting, Protocol):
    """What a tool needs of the step it serves: calls that are made once and for all."""

    async def perform(
        self, kind: str, name: str, arguments: Any, make: Callable[[str], Awaitable[Any]], *, key: str | None = None,
        effect: str = "idempotent", on_unknown: str = "retry", hold: Charge | None = None,
        used: Callable[[Any], Charge | None] = ..., meta: Callable[[Any], dict[str, Any]] = ..., slot: str = ...,
        status: Status | None = None,
    ) -> Any:
        """Make one journaled call: reserve, record the intent, call, settle.

        Args:
            make: Gets the idempotency key and makes the call.
            hold: Upper bound of what it may cost.
            used: What it did cost, from its result.
            meta: Facts for usage reports, from its result.
            slot: Provider whose limit of concurrent calls, over all workers, it counts under; empty for none.
            status: Asked in place of the status hook that `on_unknown` names.
        """
        ...


class Settled(Waiting, Protocol):
    """What a tool needs of a step that is told of failures instead of failing by them."""

    async def outcome(
        self, kind: str, name: str, arguments: Any, make: Callable[[str], Awaitable[Any]], *, key: str | None = None,
        effect: str = "idempotent", on_unknown: str = "retry", hold: Charge | None = None,
        used: Callable[[Any], Charge | None] = ..., meta: Callable[[Any], dict[str, Any]] = ..., slot: str = ...,
        partial: Any = None, status: Status | None = None, passing: Callable[[Exception], bool] = ...,
    ) -> Outcome:
        """Make one journaled call whose definite failure is an outcome, too: recorded, and never made again.

        Args:
            passing: Says of a failure that it is none yet: it costs nothing and is raised, and the call may be made again.
        """
        ...


class ToolMissing(Permanent):
    """No tool of this name is registered on this worker."""

    code = "tool.unknown"


class ToolArguments(Permanent):
    """A tool's arguments do not fit its schema; the tool was not called."""

    code = "tool.arguments"


class ToolTimedOut(StepError):
    """A tool gave no result in its time and was cancelled; what has an effect may have had it."""

    code = "tool.timed_out"


class ToolUnfinished(Permanent):
    """A tool began a job that was not done in its time; it may still be done, and its result is not waited for."""

    code = "tool.unfinished"


def find_tool(catalog: Catalog, name: str) -> Tool:
    """Return a tool.

    Raises:
        ToolMissing: There is none; names the nearest.
        ToolUnavailable: Its server was never reached, so that nothing is known of the tool yet.
    """
    tool = catalog.tool(name)
    if tool is not None:
        return tool
    toolset = catalog.toolset(name)
    if toolset is not None and not toolset.listed:
        raise toolset.away(name)
    hint = nearest(name, catalog.tool_names())
    raise ToolMissing(f"there is no tool {name!r}" + (f"; did you mean {hint!r}?" if hint else ""))


async def settled(catalog: Catalog, names: Iterable[str]) -> None:
    """Wait until the servers of some tools were reached, or could not be, for the first time."""
    near = [toolset for name in names if (toolset := catalog.toolset(name)) is not None]
    for toolset in near:
        await toolset.source.settled()


async def call_tool(ctx: Journaled, catalog: Catalog, name: str, arguments: Any, *, key: str | None = None) -> Any:
    """Call a tool for a step; the result is recorded, and a refused call never reaches the tool.

    Raises:
        ToolMissing: There is no such tool.
        ToolArguments: The arguments do not fit, with every problem.
        ToolUnavailable: The tool's server is away; a call that was made before is known all the same.
    """
    await settled(catalog, (name,))
    tool = find_tool(catalog, name)
    check_arguments(tool, arguments)
    if tool.within is not None:
        return await tool.within(ctx, arguments, key)
    most = await _bound(ctx, tool, arguments)
    value = await ctx.perform("tool", name, arguments, **_call(ctx, tool, arguments, most), key=key)
    if tool.later is None:
        return value
    path = key or f"{name}:{value['job']}"
    done = None if ctx.begun(f"{path}/result") else await _done(ctx, tool, tool.later, arguments, value, path)
    return await ctx.perform("call", name, value, _giving(done), key=f"{path}/result")


async def try_tool(
    ctx: Settled, catalog: Catalog, name: str, arguments: Any, *, key: str, partial: Any = None, patient: bool = False
) -> Outcome:
    """Call a tool for a step that is told of failures; also a refused call is recorded, and never reaches the tool.

    Args:
        partial: The step's output should a cap be used up, so that the call is refused and the run halts.
        patient: Whether that the tool's server is away is raised instead of told, so that it can be waited for.

    Raises:
        StepError: The outcome is not known, and the tool's policy is to try again.
        ToolUnavailable: The tool's server is away.
    """
    await settled(catalog, (name,))
    try:
        tool = find_tool(catalog, name)
        check_arguments(tool, arguments)
        most = await _bound(ctx, tool, arguments)
    except Permanent as exc:
        return await refused(ctx, name, arguments, exc, key=key)
    if tool.within is not None:
        return Outcome(await tool.within(ctx, arguments, key))
    found = await ctx.outcome(
        "tool", name, arguments, **_call(ctx, tool, arguments, most, 1), key=key, partial=partial,
        passing=is_away if patient else _never,
    )
    if tool.later is None or found.failure is not None:
        return found
    done: Any = None
    if not ctx.begun(f"{key}/result"):
        try:
            done = await _done(ctx, tool, tool.later, arguments, found.value, key)
        except StepError as exc:
            done = exc
    return await ctx.outcome("call", name, found.value, _giving(done), key=f"{key}/result")


def is_away(failure: Exception) -> bool:
    """Return whether a call was not made because the tool's server is away just now."""
    return isinstance(failure, ToolUnavailable)


def _never(_failure: Exception) -> bool:
    return False


def _giving(result: Any) -> Callable[[str], Awaitable[Any]]:
    """Return what makes a call of which the result is known: it returns or raises it."""

    async def give(_key: str) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return give


async def _done(ctx: Waiting, tool: Tool, later: Later, arguments: Any, begun: Any, path: str) -> Any:
    """Return the result of a job once it is done; in between nobody waits but the run's row.

    The journal counts the waits: code that runs again from the top skips those that are over.

    Raises:
        ToolUnfinished: It was not done in its time.
        StepError: It failed; or whoever does it did not answer until its time was over.
    """
    pause, waited, n = later.first_s, 0.0, 0
    while True:
        n += 1
        wait = f"{path}/look{n}"
        if not ctx.begun(wait):
            why: StepError | None = None
            try:
                args, kwargs = tool.bind(arguments, ctx.call_info(begun["job"]))
                found = await later.look(begun, *args, **kwargs)
                if found is not None:
                    return found
            except Permanent:
                raise
            except StepError as exc:
                why = exc
            if waited >= later.within_s:
                raise why or ToolUnfinished(
                    f"tool {tool.name!r} did not finish job {begun['job']} within {later.within_s:g} s; it may need more time"
                )
        await ctx.sleep(pause, key=wait, reason=f"{tool.name}: job {begun['job']} is not done yet")
        waited, pause = waited + pause, min(pause * 1.5, later.longest_s)


async def refused(ctx: Settled, name: str, arguments: Any, why: Permanent, *, key: str) -> Outcome:
    """Record that a call was not made, with the reason; it costs nothing."""

    async def make(_key: str) -> Any:
        raise why

    return await ctx.outcome("tool", name, arguments, make, key=key, effect="pure")


def check_arguments(tool: Tool, arguments: Any) -> None:
    """Refuse arguments that do not fit a tool's schema.

    Raises:
        ToolArguments: With every problem.
    """
    problems = validate(tool.schema, arguments) if tool.schema else ()
    if problems:
        told = "; ".join(str(problem) for problem in problems)
        raise ToolArguments(f"tool {tool.name!r} was not called: its arguments do not fit: {told}")


async def _bound(ctx: Informed, tool: Tool, arguments: Any) -> Bound:
    """Return what a checked call may use at most beside being a call: nothing, unless the tool says otherwise."""
    if tool.bound is None:
        return Bound()
    args, kwargs = tool.bind(arguments, ctx.call_info(""))
    return await tool.bound(*args, **kwargs)


def _call(ctx: Informed, tool: Tool, arguments: Any, most: Bound, failed: int = 0) -> dict[str, Any]:
    """Return how a checked call is made, and what it costs.

    Args:
        failed: As how many calls of the tool one counts that failed.
    """
    took = Took(None, most.tokens, most.cost_usd_micros)

    async def make(idempotency_key: str) -> Any:
        nonlocal took
        try:
            value = await invoke(tool, arguments, ctx.call_info(idempotency_key))
        except StepError as exc:
            if tool.bound is not None:
                took = vars(exc).get("took") or Took(None)
                vars(exc).update(used=charge(took, failed), meta=meta(None))
            raise
        if isinstance(value, Took):
            took, value = value, value.value
        return value

    async def status(idempotency_key: str) -> tuple[str, Any]:
        assert tool.status is not None
        args, kwargs = tool.bind(arguments, ctx.call_info(idempotency_key))
        return await tool.status(*args, **kwargs)

    def charge(took: Took, calls: int = 1) -> Charge:
        return Charge(tool_calls=calls, tool=tool.name, tokens=took.tokens, cost_usd_micros=took.cost_usd_micros)

    def used(_result: Any) -> Charge:
        return charge(took)

    def meta(_result: Any) -> dict[str, Any]:
        return {"tool": tool.name, **({"mcp": True} if tool.server else {}), **took.facts}

    return {
        "make": make, "effect": tool.effect, "on_unknown": tool.on_unknown, "hold": charge(took), "used": used,
        "meta": meta, "slot": most.slot, "status": status if tool.status is not None else None,
    }


async def invoke(tool: Tool, arguments: Any, info: CallInfo) -> Any:
    """Run a tool's function within its time: coroutines on the loop, plain functions on a thread.

    Raises:
        ToolTimedOut: Its time is over. A coroutine was cancelled; a thread cannot be, and what it returns is ignored.
    """
    clock = asyncio.timeout(tool.timeout_s)
    try:
        async with clock:
            return await _run(tool, arguments, info)
    except TimeoutError as exc:
        if not clock.expired():
            raise
        message = f"tool {tool.name!r} gave no result within {tool.timeout_s:g} s and was cancelled"
        raise ToolTimedOut(message, unknown=tool.effect == "effect") from exc


async def _run(tool: Tool, arguments: Any, info: CallInfo) -> Any:
    args, kwargs = tool.bind(arguments, info)
    if tool.is_async:
        return await tool.fn(*args, **kwargs)
    bound = functools.partial(contextvars.copy_context().run, tool.fn, *args, **kwargs)
    value = await asyncio.get_running_loop().run_in_executor(None, bound)
    return await value if inspect.isawaitable(value) else value
