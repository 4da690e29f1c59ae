"""The one path to a tool: validate, reserve, record the intent, call, settle. There is no other."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from tenuto.domain.base.nearest import nearest
from tenuto.domain.graph.schema import validate
from tenuto.domain.runs.events import Charge
from tenuto.errors import Permanent
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.tool import CallInfo, Tool


class Journaled(Protocol):
    """What a tool needs of the step it serves: calls that are made once and for all."""

    async def perform(
        self, kind: str, name: str, arguments: Any, make: Callable[[str], Awaitable[Any]], *, key: str | None = None,
        effect: str = "idempotent", on_unknown: str = "retry", hold: Charge | None = None,
        used: Callable[[Any], Charge | None] = ..., meta: Callable[[Any], dict[str, Any]] = ..., slot: str = ...,
    ) -> Any:
        """Make one journaled call: reserve, record the intent, call, settle.

        Args:
            make: Gets the idempotency key and makes the call.
            hold: Upper bound of what it may cost.
            used: What it did cost, from its result.
            meta: Facts for usage reports, from its result.
            slot: Provider whose limit of concurrent calls, over all workers, it counts under; empty for none.
        """
        ...

    def call_info(self, key: str) -> CallInfo:
        """Return which run and step a call of this key serves."""
        ...


class ToolMissing(Permanent):
    """No tool of this name is registered on this worker."""

    code = "tool.unknown"


class ToolArguments(Permanent):
    """A tool's arguments do not fit its schema; the tool was not called."""

    code = "tool.arguments"


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
    problems = validate(tool.schema, arguments) if tool.schema else ()
    if problems:
        told = "; ".join(str(problem) for problem in problems)
        raise ToolArguments(f"tool {name!r} was not called: its arguments do not fit: {told}", code="tool.arguments")
    charge = Charge(tool_calls=1, tool=name)

    async def make(idempotency_key: str) -> Any:
        return await invoke(tool, arguments, ctx.call_info(idempotency_key))

    return await ctx.perform(
        "tool", name, arguments, make, key=key, effect=tool.effect, on_unknown=tool.on_unknown, hold=charge,
        used=lambda _: charge, meta=lambda _: {"tool": name},
    )


async def invoke(tool: Tool, arguments: Any, info: CallInfo) -> Any:
    """Run a tool's function: coroutines on the loop, plain functions on a thread."""
    args, kwargs = tool.bind(arguments, info)
    if tool.is_async:
        return await tool.fn(*args, **kwargs)
    bound = functools.partial(contextvars.copy_context().run, tool.fn, *args, **kwargs)
    value = await asyncio.get_running_loop().run_in_executor(None, bound)
    return await value if inspect.isawaitable(value) else value
