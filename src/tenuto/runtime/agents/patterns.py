"""What the patterns make of conversations: one, one that decides, or several that are merged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from tenuto.domain.base.nearest import nearest
from tenuto.domain.graph.agents import BRANCHES, Judge
from tenuto.domain.graph.schema import validate
from tenuto.ports.model import Message, ModelReply, ModelRequest
from tenuto.runtime.agents.asking import ask
from tenuto.runtime.agents.loop import Loop, Spoken
from tenuto.runtime.agents.serving import together
from tenuto.runtime.agents.step import AnswerInvalid, ChoiceRefused, Step
from tenuto.runtime.agents.talk import text_of

_BEST: dict[str, Any] = {
    "type": "object", "required": ["index", "reason"], "additionalProperties": False,
    "properties": {"index": {"type": "integer"}, "reason": {"type": "string"}},
}


class Task(Protocol):
    """What a pattern works on: the node's loop, and its prompt."""

    loop: Loop
    prompt: str

    @property
    def wants_model(self) -> bool:
        """Return whether the node asks a model at all."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What a pattern came to.

    Attributes:
        out: The node's output, but for the tools the engine calls itself.
        content: Its words.
        own: Whether the model called tools itself, so that none are called for it.
    """

    out: dict[str, Any]
    content: str = ""
    own: bool = False


async def pipeline(task: Task, path: str) -> Work:
    """One pass of a model, if the node has one; where it asks for no tools, the declared ones follow in order."""
    if not task.wants_model:
        return Work({"content": "", "tools": {}})
    spoken = await task.loop.converse(task.prompt, path=path)
    return Work(_told(task, spoken), spoken.content, own=bool(spoken.calls or spoken.bad or spoken.partial))


async def loop(task: Task, path: str) -> Work:
    """Rounds of requests and tool calls until the model answers; tools are called only when it asks."""
    spoken = await task.loop.converse(task.prompt, path=path)
    return Work(_told(task, spoken), spoken.content, own=True)


def _told(task: Task, spoken: Spoken) -> dict[str, Any]:
    out: dict[str, Any] = {"content": spoken.content, "tools": dict(spoken.tools), **spoken.facts()}
    if task.loop.config.get("schema") is not None:
        out["data"] = spoken.data
    return out


async def supervisor(task: Task, path: str) -> Work:
    """One decision, which must be among the allowed next nodes.

    Raises:
        ChoiceRefused: It is not; names the nearest.
    """
    choices = tuple(task.loop.config.get("choices") or _successors(task.loop.step))
    spoken = await task.loop.converse(task.prompt, path=path, choices=choices)
    decision = spoken.choice or spoken.content.strip()
    if choices and decision not in choices:
        hint = nearest(decision, choices)
        raise ChoiceRefused(
            f"the model chose {decision[:80]!r}; allowed are {', '.join(choices)}"
            + (f" (nearest: {hint!r})" if hint else "")
        )
    out: dict[str, Any] = {
        "decision": decision, "content": spoken.content, "tools": dict(spoken.tools), **spoken.facts(),
    }
    if task.loop.config.get("schema") is not None:
        out["data"] = spoken.data
    return Work(out, spoken.content, own=bool(spoken.calls))


def _successors(step: Step) -> list[str]:
    return list(dict.fromkeys(edge.dst for edge in step.node.out if edge.on in ("success", "default")))


async def swarm(task: Task, path: str) -> Work:
    """Several conversations at once, merged."""
    config = task.loop.config
    n = int(config.get("n", BRANCHES))
    spoken = await together(
        [task.loop.converse(task.prompt, path=f"{path}b{at}/", seed=at) for at in range(n)]
    )
    branches = [item.content for item in spoken]
    tools: dict[str, Any] = {}
    for item in spoken:
        tools |= {name: value for name, value in item.tools.items() if name not in tools}
    out: dict[str, Any] = {"branches": branches, "tools": tools}
    if config.get("schema") is not None:
        out["data"] = [item.data for item in spoken]
    out |= await _merge(task, path, branches)
    if any(item.partial for item in spoken):
        out["partial"] = True
        out["reason"] = "; ".join(f"branch {at}: {item.partial}" for at, item in enumerate(spoken) if item.partial)
    return Work(out, branches[0] if branches else "", own=any(item.calls for item in spoken))


async def _merge(task: Task, path: str, branches: list[str]) -> dict[str, Any]:
    how = task.loop.config.get("merge") or "collect"
    if how == "vote":
        return {"merged": max(branches, key=lambda item: (branches.count(item), -branches.index(item)))}
    if how == "first":
        return {"merged": branches[0]}
    if how == "reduce":
        return {"merged": await _reduce(task, path, branches)}
    if how == "best":
        return await _best(task, path, branches)
    return {"merged": branches}


async def _reduce(task: Task, path: str, branches: list[str]) -> str:
    judge = _judge(task)
    words = judge.prompt or "Make one answer of these, keep what they agree on, and say where they differ."
    return (await _one(task, judge, words, branches, f"{path}reduce")).content


async def _best(task: Task, path: str, branches: list[str]) -> dict[str, Any]:
    """Let a model pick one branch by its number.

    Raises:
        AnswerInvalid: It picked none, also after being told.
    """
    judge = _judge(task)
    words = judge.prompt or "Which of these answers is the best?"
    shape = {**_BEST, "properties": {
        **_BEST["properties"], "index": {"type": "integer", "minimum": 0, "maximum": len(branches) - 1},
    }}  # fmt: skip
    words += f" Answer with its index, 0 to {len(branches) - 1}, and the reason."
    told = ""
    for turn in range(task.loop.corrections + 1):
        reply = await _one(task, judge, words, branches, f"{path}best{turn + 1}", schema=shape, told=told)
        problems = validate(shape, reply.data)
        if not problems:
            return {"merged": branches[reply.data["index"]], "best": dict(reply.data)}
        told = "; ".join(str(problem) for problem in problems)
    raise AnswerInvalid(f"the judge picked none of {len(branches)} branches: {told}")


def _judge(task: Task) -> Judge:
    return msgspec.convert(task.loop.config.get("judge") or {}, Judge)


async def _one(
    task: Task, judge: Judge, words: str, branches: list[str], key: str, *, schema: dict[str, Any] | None = None,
    told: str = "",
) -> ModelReply:
    listed = "\n\n".join(f"[{at}]\n{text_of(branch)}" for at, branch in enumerate(branches))
    text = f"{words}\n\nThe task was:\n{task.prompt}\n\nThe answers:\n{listed}"
    if told:
        text += f"\n\nYour last answer did not fit: {told}. Answer again."
    own = task.loop.own
    request = ModelRequest(
        model=judge.model or own.model, messages=(Message("user", text),), schema=schema, max_tokens=own.max_tokens,
        options=own.options, purpose="merging",
    )
    return await ask(task.loop.step, task.loop.ctx, request, key, retries=task.loop.retries)


PATTERNS: dict[str, Callable[[Task, str], Awaitable[Work]]] = {
    "pipeline": pipeline, "loop": loop, "supervisor": supervisor, "swarm": swarm,
}
