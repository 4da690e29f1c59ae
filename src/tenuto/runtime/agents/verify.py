"""Verification: a model judges the output before it counts; gaps send the work round again, and in doubt a person decides."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.graph.agents import Verify
from tenuto.domain.graph.schema import validate
from tenuto.ports.model import Message, ModelRequest
from tenuto.runtime.agents.extras import ask_if_paid, shown
from tenuto.runtime.agents.patterns import PATTERNS, Task, Work
from tenuto.runtime.agents.step import NotVerified
from tenuto.runtime.agents.talk import text_of

FEEDBACKS = 3
PASSED, GAPS, HUMAN = "passed", "gaps_found", "human_needed"
_VERDICT: dict[str, Any] = {
    "type": "object", "required": ["verdict", "feedback"], "additionalProperties": False,
    "properties": {"verdict": {"enum": [PASSED, GAPS, HUMAN]}, "feedback": {"type": "string"}},
}


async def verified(task: Task, pattern: str) -> Work:
    """Do the work, and do it again with what was missing until it passes, a person accepts it, or nobody can judge.

    Raises:
        NotVerified: A person says that it is not good enough.
    """
    rule = msgspec.convert(task.loop.config["verify"], Verify)
    feedback: list[str] = []
    prompt = task.prompt
    turn = retries = 0
    while True:
        turn += 1
        path = "" if turn == 1 else f"p{turn}/"
        work = await PATTERNS[pattern](task, path)
        verdict, said = await _judge(task, rule, work, prompt, f"{path}verify")
        if verdict == GAPS and retries < rule.max_retries:
            retries += 1
            feedback.append(said)
        elif verdict in (PASSED, "skipped"):
            return _with(work, {"verdict": verdict, "feedback": said, "passes": turn})
        else:
            answer = await _ask_person(task, rule, work, verdict, said, f"{path}review")
            decision, reason = answer.get("decision"), str(answer.get("reason") or "")
            if decision == "accept":
                facts = {"verdict": "accepted", "feedback": reason or said, "passes": turn, "by": answer.get("by", "")}
                return _with(work, facts)
            if decision == "fail":
                raise NotVerified(f"the output was judged not good enough: {reason or said}")
            feedback.append(reason or said)
        task.prompt = _again(prompt, work, feedback[-FEEDBACKS:], rule)


def _with(work: Work, facts: dict[str, Any]) -> Work:
    return Work({**work.out, "verification": facts}, work.content, own=work.own)


def _again(prompt: str, work: Work, feedback: list[str], rule: Verify) -> str:
    gaps = "\n".join(f"- {item}" for item in feedback)
    last = shown(_of(work), rule.max_chars)
    return f"{prompt}\n\nYour last answer was:\n{last}\n\nA review found that this is missing or wrong:\n{gaps}\n\nDo it again."


def _of(work: Work) -> str:
    """Return what is judged: what the node gives, without what stands beside it."""
    return text_of({name: value for name, value in work.out.items() if name not in ("rounds", "calls", "bad_calls")})


async def _judge(task: Task, rule: Verify, work: Work, prompt: str, key: str) -> tuple[str, str]:
    criteria = rule.criteria if isinstance(rule.criteria, str) else "\n".join(f"- {item}" for item in rule.criteria)
    text = (
        f"Judge whether this output meets the criteria.\n\nCriteria:\n{criteria}\n\nThe task was:\n"
        f"{shown(prompt, rule.max_chars)}\n\nThe output:\n{shown(_of(work), rule.max_chars)}\n\n"
        f"Verdict: {PASSED} when every criterion is met, {GAPS} when something is missing or wrong that can be mended "
        f"(say what), {HUMAN} when only a person can tell."
    )
    request = ModelRequest(
        model=rule.model or task.loop.own.model, messages=(Message("user", text),), schema=_VERDICT,
        max_tokens=task.loop.own.max_tokens, purpose="verification",
    )
    reply, why = await ask_if_paid(task.loop, request, key)
    if reply is None:
        return "skipped", why
    if validate(_VERDICT, reply.data):
        return HUMAN, f"the reviewer's verdict could not be read: {shown(reply.content or text_of(reply.data), 500)}"
    return reply.data["verdict"], reply.data["feedback"]


async def _ask_person(task: Task, rule: Verify, work: Work, verdict: str, said: str, key: str) -> dict[str, Any]:
    what = "needs a person's judgement" if verdict == HUMAN else f"still has gaps after {rule.max_retries} retries"
    name = task.loop.step.node.node.id
    return await task.loop.ctx.review(
        f"The output of {name!r} {what}: {said}", key=key,
        data={"output": shown(_of(work), rule.max_chars), "criteria": rule.criteria, "feedback": said,
              "choices": ["accept", "retry", "fail"]},
    )
