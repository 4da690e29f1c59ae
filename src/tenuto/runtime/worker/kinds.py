"""How each kind of node does its work. Kinds the core handles alone (approval, wait, switch, join) never come here."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from tenuto.domain.base.expressions import ExpressionFailed, compile_value
from tenuto.domain.base.values import pack
from tenuto.domain.graph.model import Budget
from tenuto.domain.graph.requirements import tools_of
from tenuto.domain.runs import data
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.failure import status_hook
from tenuto.errors import Permanent, StepError, TenutoError
from tenuto.ports.pool import PoolFailed
from tenuto.runtime.agents.run import run_agent
from tenuto.runtime.tools.call import call_tool, settled
from tenuto.runtime.tools.catalog import Handler
from tenuto.runtime.tools.http import run_http
from tenuto.runtime.tools.requests import run_requests
from tenuto.runtime.worker.aggregates import aggregate
from tenuto.runtime.worker.attempts import Answered, Attempt
from tenuto.runtime.worker.context import Context, SyncContext
from tenuto.runtime.worker.failures import ask_hook

Executor = Callable[[Attempt, Any], Awaitable[Any]]


class ExpressionError(Permanent):
    """An expression of a transform, filter or aggregate failed."""

    code = "expression.failed"


async def execute(attempt: Attempt) -> Any:
    """Run an attempt and return its value.

    Raises:
        TenutoError: It failed in a way that has a code.
        Exception: It failed otherwise.
    """
    node = attempt.node.node
    if node.kind == "map":
        return await _open_map(attempt)
    if attempt.doubtful:
        known = await settle_doubt(attempt)
        if known is not None:
            return known.value
    try:
        value = attempt.given()
    except io.NeedValues:
        value = await attempt.input()
    if node.kind == "function":
        handler = attempt.worker.resources.catalog.handlers.get(node.config.get("handler", ""))
        if handler is not None and attempt.node.memo is None and _is_plain(attempt, handler):
            args, kwargs = handler.bind(None, value)
            return await handler.fn(*args, **kwargs)
    return await KINDS[node.kind](attempt, value)


class Known(msgspec.Struct, frozen=True):
    """What a status hook says a step came to."""

    value: Any


async def settle_doubt(attempt: Attempt) -> Known | None:
    """Return what became of an earlier attempt by its step's status hook; `None` when the code is to run.

    Raises:
        StepError: It failed, says the hook; or nobody knows, because the hook itself failed.
    """
    hook = status_hook(attempt.node, attempt.actor.st.steps[attempt.key])
    if not hook:
        return None
    node = attempt.node.node
    attempt.limit(node.timeout_s, None)
    resolution, value = await ask_hook(attempt.worker.resources.ask_hook, hook, attempt.step_key)
    attempt.hold_clock()
    return Known(value) if resolution == "succeeded" else None


def _is_plain(attempt: Attempt, handler: Handler) -> bool:
    """Say whether a handler is a coroutine that asks nothing of the engine, so that it can be awaited as it is."""
    node = attempt.node.node
    clocked = node.timeout_s or handler.timeout_s or node.heartbeat_s
    return handler.is_async and not handler.wants_ctx and not clocked and attempt.config is None


def config_of(attempt: Attempt) -> dict[str, Any]:
    """Return a node's settings with this run's overrides."""
    own = attempt.config
    config = attempt.node.node.config
    return config if own is None else {**config, **own}


# --- functions and tools ---------------------------------------------------------------------------------------


async def _function(attempt: Attempt, value: Any) -> Any:
    config = config_of(attempt)
    if "tool" in config:
        ctx = Context(attempt, value)
        arguments = value
        if "args" in config:
            arguments = await attempt.render(config["args"])
        attempt.limit(attempt.node.node.timeout_s, attempt.node.node.heartbeat_s)
        return await call_tool(ctx, attempt.worker.resources.catalog, config["tool"], arguments or {})
    handler = attempt.worker.resources.catalog.handler(config["handler"])
    if handler is None:
        raise Permanent(f"this worker has no handler {config['handler']!r}", code="handler.unknown")
    if attempt.node.memo is not None and attempt.worker.resources.isolates(attempt.node, attempt.st.steps[attempt.key]):
        return await _isolated(attempt, handler, value)
    attempt.limit(attempt.node.node.timeout_s or handler.timeout_s, attempt.node.node.heartbeat_s)
    return await run_handler(attempt, handler, value)


async def _isolated(attempt: Attempt, handler: Handler, value: Any) -> Any:
    """Call a handler in a process of this worker: a result that others wait for is computed by who holds its flight."""
    resources = attempt.worker.resources
    assert resources.pool is not None and resources.children is not None
    timeout = attempt.node.node.timeout_s or handler.timeout_s
    try:
        async with resources.children:
            return await resources.pool.call(handler.target, value, key=attempt.step_key, timeout_s=timeout)
    except PoolFailed as exc:
        raise StepError(exc.failure.message, failure=exc.failure) from None


async def run_handler(attempt: Attempt, handler: Handler, value: Any) -> Any:
    """Call a handler: coroutines on the loop, plain functions on a thread."""
    ctx = Context(attempt, value) if handler.wants_ctx else None
    if handler.is_async:
        args, kwargs = handler.bind(ctx, value)
        return await handler.fn(*args, **kwargs)
    loop = asyncio.get_running_loop()
    args, kwargs = handler.bind(SyncContext(ctx, loop) if ctx is not None else None, value)
    bound = functools.partial(contextvars.copy_context().run, handler.fn, *args, **kwargs)
    return await loop.run_in_executor(attempt.worker.resources.threads, bound)


async def _agent(attempt: Attempt, value: Any) -> Any:
    config = config_of(attempt)
    attempt.limit(attempt.node.node.timeout_s, attempt.node.node.heartbeat_s)
    await settled(attempt.worker.resources.catalog, tools_of(attempt.node.node))
    return await run_agent(attempt, Context(attempt, value), config, value)


async def _http(attempt: Attempt, value: Any) -> Any:
    config, node = config_of(attempt), attempt.node.node
    several = "requests" in config
    if not several:
        config = await attempt.render(config)
    attempt.limit(node.timeout_s, node.heartbeat_s)
    ctx = Context(attempt, value)
    if several:
        return await run_requests(
            ctx, config, attempt.render, attempt.worker.resources.http, effect=node.effect, on_unknown=node.on_unknown
        )
    return await run_http(ctx, config, attempt.worker.resources.http, effect=node.effect, on_unknown=node.on_unknown)


# --- expressions -----------------------------------------------------------------------------------------------


def _bind(attempt: Attempt, value: Any, reads: frozenset[str]) -> dict[str, Any]:
    actor = attempt.actor
    found = data.bindings(actor.st, actor.plan, actor.env, attempt.key, reads - {"output"}, None)
    if "input" in reads:
        found["input"] = value
    return found


async def _evaluate(attempt: Attempt, value: Any, text: str, extra: dict[str, Any] | None = None) -> Any:
    expression = compile_value(text)
    while True:
        try:
            bindings = _bind(attempt, value, expression.reads)
            break
        except io.NeedValues as need:
            await attempt.need(need)
    try:
        return expression.evaluate({**bindings, **(extra or {})})
    except ExpressionFailed as exc:
        raise ExpressionError(f"{text!r} failed: {exc}") from exc


async def _transform(attempt: Attempt, value: Any) -> Any:
    config = config_of(attempt)
    if "template" in config:
        return await attempt.render(config["template"])
    return await _evaluate(attempt, value, config["value"])


async def _items(attempt: Attempt, value: Any, over: Any) -> list[Any]:
    """Return the list a node works on: a reference, a CEL expression, a list, or its only input."""
    if over is None:
        found: Any = value
        if isinstance(value, dict) and len(cast("dict[str, Any]", value)) == 1:
            found = next(iter(cast("dict[str, Any]", value).values()))
    elif isinstance(over, str) and "$" not in over:
        found = await _evaluate(attempt, value, over)
    else:
        found = await attempt.render(over)
    if not isinstance(found, list):
        raise ExpressionError(f"`over` must be a list; it is {type(found).__name__}", code="input.not_a_list")
    return cast("list[Any]", found)


async def _filter(attempt: Attempt, value: Any) -> Any:
    config = config_of(attempt)
    items = await _items(attempt, value, config.get("over"))
    kept: list[Any] = []
    for index, item in enumerate(items):
        if index % 1000 == 999:
            await asyncio.sleep(0)
        verdict = await _evaluate(attempt, value, config["when"], {"item": item, "index": index})
        if not isinstance(verdict, bool):
            raise ExpressionError(f"{config['when']!r} is {verdict!r} for item {index}; it must be true or false")
        if verdict:
            kept.append(item)
    return kept


async def _aggregate(attempt: Attempt, value: Any) -> Any:
    config = config_of(attempt)
    items = await _items(attempt, value, config.get("over"))
    field = config.get("field")
    values = items if field is None else [_field(item, field) for item in items]
    op = config.get("op", "collect")
    try:
        return aggregate(op, values, config.get("initial", msgspec.UNSET))
    except (TypeError, ValueError) as exc:
        raise ExpressionError(f"{op} over {len(values)} items failed: {exc}") from exc


def _field(item: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(item, dict) or part not in item:
            raise ExpressionError(f"an item has no field {path!r}", code="input.missing")
        item = cast("dict[str, Any]", item)[part]
    return item


# --- maps and sub-flows ----------------------------------------------------------------------------------------


async def _open_map(attempt: Attempt) -> Any:
    config = config_of(attempt)
    over = config.get("over")
    value = None
    if over is None or (isinstance(over, str) and "$" not in over):
        value = await attempt.input()
    items = await _items(attempt, value, over)
    out, blob = pack(items)
    return Answered(io.MapItems(step=attempt.key, n=attempt.n, items=out, count=len(items), blob=blob))


async def _subflow(attempt: Attempt, value: Any) -> Any:
    config = config_of(attempt)
    resources, ns = attempt.worker.resources, attempt.actor.st.ns
    name = config["workflow"]
    tag = config.get("version") or config.get("tag") or "latest"
    digest = await resources.store.resolve_tag(ns, name, tag)
    if digest is None:
        raise TenutoError(f"sub-flow {name!r} has no version or tag {tag!r}", code="workflow.unknown")
    plan = await resources.definitions.plan(ns, digest)
    budget = msgspec.convert(config["budget"], Budget) if config.get("budget") else plan.definition.budget
    out, blob = pack(value)
    return Answered(
        io.ChildAsked(
            step=attempt.key, n=attempt.n, workflow=name, digest=digest, input=out, blob=blob, budget=budget,
            detach=bool(config.get("detach")),
        )
    )


KINDS: dict[str, Executor] = {
    "function": _function,
    "agent": _agent,
    "http": _http,
    "transform": _transform,
    "filter": _filter,
    "aggregate": _aggregate,
    "subflow": _subflow,
}
