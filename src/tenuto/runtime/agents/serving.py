"""The calls of one round: all at once, each recorded by its place, answered in order; what is not offered is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from tenuto.domain.base.nearest import nearest
from tenuto.domain.graph.agents import TRANSFER, Limits
from tenuto.domain.runs.events import Failure
from tenuto.errors import Permanent
from tenuto.ports.model import Message, ModelReply, ToolCall
from tenuto.runtime.agents.asking import TOOL_RETRIES, is_unknown, patiently
from tenuto.runtime.agents.step import Durable, Step, ToolCallsLimited, ToolNotOffered
from tenuto.runtime.agents.talk import Talk, text_of
from tenuto.runtime.tools.call import ToolArguments, is_away, refused, try_tool

T = TypeVar("T")

AskAgent = Callable[[str, str, str], Awaitable[str]]
"""Asks a helper: `(name, task, path)` to what it answers."""
UNTOLD = "step.failed"
"""The code of failures that are an exception of somebody's code: its words may hold anything, and are not passed on."""
_NOT_MADE = frozenset({ToolArguments.code, ToolNotOffered.code, ToolCallsLimited.code, "tool.unknown"})


class Served(NamedTuple):
    """What became of the calls of a round.

    Attributes:
        answers: For the model, in the order of its calls.
        next: Helper the conversation goes to; empty when it stays.
        bad: Calls that could not be made.
        last: Why the last of those could not.
    """

    answers: list[Message]
    next: str = ""
    bad: int = 0
    last: str = ""


class _Answer(NamedTuple):
    text: str
    value: Any = None
    failure: Failure | None = None
    made: bool = True


async def serve(
    step: Step, ctx: Durable, talk: Talk, reply: ModelReply, path: str, limits: Limits, ask_agent: AskAgent, depth: int,
) -> Served:
    """Serve every call of a reply.

    Args:
        path: Identity of the round in its step; calls are known by their place in it.

    Raises:
        StepError: A tool's outcome stays unknown; a cap is used up; or the attempt must not go on.
    """
    planned = _plan(talk, reply, limits, depth)
    partial = talk.so_far("the run's budget is used up")
    policy = step.node.node.retry
    # A server that is away is waited for only where the author says how long: otherwise the model hears of it at once.
    waits = policy is not None and policy.attempts > 1
    tries = max(TOOL_RETRIES, policy.attempts - 1) if policy is not None else TOOL_RETRIES

    async def one(at: int, call: ToolCall) -> _Answer:
        key = f"{path}/t{at}"
        why = planned[at]
        if why is not None:
            return _refused(await refused(ctx, call.name, call.arguments, why, key=key))
        if call.name.startswith(TRANSFER):
            return _Answer(f"The conversation goes to {call.name.removeprefix(TRANSFER)}.")
        if call.name in talk.role.agents:
            return _Answer(await ask_agent(call.name, call.arguments["task"], f"{key}/"))
        outcome = await patiently(
            policy, ctx, key, call.name,
            lambda: try_tool(
                ctx, step.catalog, call.name, call.arguments, key=key, partial=partial,
                patient=waits and not ctx.begun(f"{key}/wait{tries}"),  # the last try is told to the model
            ),
            lambda failure: is_unknown(failure) or (waits and is_away(failure)), tries,
        )
        if outcome.failure is not None:
            return _refused(outcome)
        return _Answer(text_of(outcome.value), outcome.value)

    answers = await together([one(at, call) for at, call in enumerate(reply.tool_calls)])
    return _summed(talk, reply, answers)


async def together(work: list[Coroutine[Any, Any, T]]) -> list[T]:
    """Do several things at once and return their results in order; none is left half done when another fails.

    Raises:
        BaseException: The first failure, once all have ended.
    """
    found = await asyncio.gather(*work, return_exceptions=True)
    for item in found:
        if isinstance(item, BaseException):
            raise item
    return [item for item in found if not isinstance(item, BaseException)]


def _summed(talk: Talk, reply: ModelReply, answers: list[_Answer]) -> Served:
    messages: list[Message] = []
    bad, last, following = 0, "", ""
    for call, answer in zip(reply.tool_calls, answers, strict=True):
        failed = answer.failure is not None
        messages.append(Message("tool", answer.text, call_id=call.id, name=call.name, failed=failed))
        if not answer.made:
            bad, last = bad + 1, answer.text
        elif call.name.startswith(TRANSFER):
            following = call.name.removeprefix(TRANSFER)
        else:
            talk.calls += 1
            if not failed and call.name in talk.role.tools:
                talk.tools[call.name] = answer.value
    return Served(messages, following, bad, last)


def _refused(outcome: Any) -> _Answer:
    """Return what the model is told of a failure: the engine's and the tools' own words, and no stranger's."""
    failure: Failure = outcome.failure
    told = f"{failure.type or 'failure'}: the operation failed" if failure.code == UNTOLD else failure.message
    return _Answer(f"Tool error: {told}", failure=failure, made=failure.code not in _NOT_MADE)


def _plan(talk: Talk, reply: ModelReply, limits: Limits, depth: int) -> list[Permanent | None]:
    """Say of each call why it is not made, or `None`. In order and before any is made, so every attempt says the same."""
    role = talk.role
    offered = (*role.tools, *role.agents, *(TRANSFER + name for name in role.handoffs))
    found: list[Permanent | None] = []
    moved = False
    for at, call in enumerate(reply.tool_calls):
        why: Permanent | None = None
        if at >= limits.tool_calls:
            why = ToolCallsLimited(f"not made: at most {limits.tool_calls} calls are made in one round")
        elif call.name not in offered:
            hint = nearest(call.name, offered)
            listed = ", ".join(offered) or "none"
            why = ToolNotOffered(
                f"no tool {call.name!r} is offered here; offered are: {listed}" + (f". Did you mean {hint!r}?" if hint else "")
            )
        elif call.malformed:
            why = ToolArguments(f"{call.name!r} was not called: its arguments are no JSON object: {call.malformed[:200]}")
        elif call.name in role.agents:
            why = _child(talk, call, limits, depth)
        elif call.name.startswith(TRANSFER):
            if moved:
                why = ToolCallsLimited("not made: the conversation goes to one agent at a time")
            elif talk.hands >= limits.handoffs:
                why = ToolCallsLimited(f"not made: a conversation changes hands at most {limits.handoffs} times")
            else:
                moved = True
                talk.hands += 1
        found.append(why)
    return found


def _child(talk: Talk, call: ToolCall, limits: Limits, depth: int) -> Permanent | None:
    task = call.arguments.get("task")
    if not isinstance(task, str) or not task.strip() or set(call.arguments) != {"task"}:
        return ToolArguments(f"{call.name!r} was not asked: its arguments do not fit: /task must be text, and nothing else")
    if depth >= limits.depth:
        return ToolCallsLimited(f"not made: agents ask agents at most {limits.depth} deep")
    if talk.children >= limits.children:
        return ToolCallsLimited(f"not made: at most {limits.children} agents are asked in one conversation")
    talk.children += 1
    return None
