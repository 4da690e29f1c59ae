"""The agent's loop: request, tool calls, request, … until an answer stands. It can stop anywhere and go on elsewhere.

Every request and every call is journaled under an identity made of the round and the call's place in it. The code
holds no state of its own: run again from the top, it gets what was recorded and makes only what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.graph.agents import CORRECTIONS, MODEL_RETRIES, Helper, Limits, helpers_of
from tenuto.domain.graph.schema import validate
from tenuto.errors import StepError
from tenuto.ports.model import Message, ModelReply, ModelRequest
from tenuto.runtime.agents.asking import ask, passes
from tenuto.runtime.agents.roles import Role, helper_role, own_role
from tenuto.runtime.agents.serving import Served, serve
from tenuto.runtime.agents.step import AnswerInvalid, CallsRefused, Durable, RoundsSpent, Step
from tenuto.runtime.agents.talk import Talk

REFUSED = "budget.refused"
"""The code of a request that somebody decided not to make for want of room under a shared cap."""
FALLBACK_RETRIES = 1
"""Tries after the first of a model that another can stand in for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a conversation came to.

    Attributes:
        rounds: Model requests it took.
        partial: Why it ended before an answer stood; empty when one did.
        by: The helper that answered; empty for the node's own agent.
    """

    content: str = ""
    choice: str = ""
    data: Any = None
    tools: dict[str, Any]
    calls: int = 0
    bad: int = 0
    rounds: int = 1
    partial: str = ""
    by: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what a node's output says of the loop: nothing for a single pass."""
        found: dict[str, Any] = {}
        if self.calls or self.bad:
            found = {"rounds": self.rounds, "calls": self.calls}
            if self.bad:
                found["bad_calls"] = self.bad
        if self.by:
            found["agent"] = self.by
        if self.partial:
            found |= {"partial": True, "reason": self.partial}
        return found


class Loop:
    """The conversations of one execution of an agent node."""

    def __init__(self, step: Step, ctx: Durable, config: dict[str, Any], models: tuple[str, ...]) -> None:
        """Serve a node.

        Args:
            models: Whom the node's own agent asks; a later one where the earlier do not answer.
        """
        self.step = step
        self.ctx = ctx
        self.config = config
        limits: Any = config.get("limits") or {}
        rounds = {"rounds": config["max_rounds"]} if "max_rounds" in config else {}
        self.limits = Limits(**{**limits, **rounds})
        self.models = models
        self.own = own_role(config, models[0])
        self.helpers: dict[str, Helper] = helpers_of(config)
        self.corrections: int = config.get("corrections", CORRECTIONS)
        self.retries: int = config.get("model_retries", MODEL_RETRIES)

    async def converse(
        self, prompt: str, *, path: str = "", role: Role | None = None, choices: tuple[str, ...] = (), seed: int = 0,
        depth: int = 0,
    ) -> Spoken:
        """Talk until the model answers without asking for tools, and its answer fits.

        Args:
            path: Identity of this conversation in its step, empty or ending in `/`.
            depth: How many agents ask one another around this one.

        Returns:
            Also a partial result, when nothing but text was wanted and the rounds are used up, or a person decided not to
            wait for room under a shared cap.

        Raises:
            AnswerInvalid: The answer does not fit its schema, also after being told.
            CallsRefused: Too many calls could not be made.
            RoundsSpent: The rounds are used up, and partial work will not do.
        """
        talk = Talk(role or self.own, [Message("user", prompt)], advice="" if depth else self.ctx.guidance)
        schema = None if depth else self.config.get("schema")
        wrong = number = 0
        while True:
            number += 1
            key = f"{path}r{number}"
            await self._advise(talk, f"{key}/advice", f"{key}/model")
            partial = None if depth else talk.so_far("the run's budget is used up")
            try:
                reply = await self._ask(talk, self._request(talk, choices, seed, schema), f"{key}/model", number, partial)
            except StepError as exc:
                if exc.reason != REFUSED or choices or schema is not None or talk.so_far("") is None:
                    raise
                return _partial(talk, number - 1, exc.message)
            talk.texts.append(reply.content)
            if reply.tool_calls:
                if talk.asked >= self.limits.rounds:
                    return self._spent(talk, reply, number, whole=bool(choices) or schema is not None)
                talk.asked += 1
                await self._serve(talk, reply, key, depth)
                continue
            problems = validate(schema, reply.data) if schema is not None else ()
            if not problems:
                return _answered(talk, reply, number)
            told = "; ".join(str(problem) for problem in problems)
            wrong += 1
            if wrong > self.corrections and not talk.advice:
                raise AnswerInvalid(f"the model's answer does not fit the schema: {told}", problems=tuple(problems))
            talk.add(reply, [Message("user", f"Your answer did not fit the schema: {told}. Answer again.")])

    async def _ask(self, talk: Talk, request: ModelRequest, key: str, number: int, partial: Any) -> ModelReply:
        """Ask the model of the role; where it does not answer, and was chosen for the node, the next that was."""
        models = self.models if talk.role.model == self.own.model else (talk.role.model,)
        while True:
            last = talk.fallen + 1 >= len(models)
            place = f"{key}@{talk.fallen}" if talk.fallen else key
            moved = f"{key}/fallback{talk.fallen + 1}"
            why = ""
            if last or not self.ctx.begun(moved):
                asked = msgspec.structs.replace(request, model=models[min(talk.fallen, len(models) - 1)])
                try:
                    return await ask(
                        self.step, self.ctx, asked, place, retries=self.retries if last else FALLBACK_RETRIES,
                        round=number, partial=partial, patient=last,
                    )
                except StepError as exc:
                    if last or not passes(exc):
                        raise
                    why = exc.message
            following = models[talk.fallen + 1]
            await self.ctx.note(moved, {"model": following, "reason": why}, kind="route", name=following)
            talk.fallen += 1

    def _request(
        self, talk: Talk, choices: tuple[str, ...], seed: int, schema: dict[str, Any] | None
    ) -> ModelRequest:
        role = talk.role
        return ModelRequest(
            model=role.model, messages=talk.messages(self.limits.history), tools=role.offer(self.step.catalog, self.helpers),
            choices=choices, schema=schema, max_tokens=role.max_tokens, seed=seed, options=role.options,
        )

    async def _serve(self, talk: Talk, reply: ModelReply, key: str, depth: int) -> None:
        async def ask_agent(name: str, task: str, path: str) -> str:
            helper = helper_role(name, self.helpers[name], self.own)
            spoken = await self.converse(task, path=path, role=helper, depth=depth + 1)
            return f"{spoken.content}\n(Not finished: {spoken.partial}.)" if spoken.partial else spoken.content

        served: Served = await serve(self.step, self.ctx, talk, reply, key, self.limits, ask_agent, depth)
        talk.bad += served.bad
        talk.add(reply, served.answers)
        if talk.bad > self.limits.bad_calls:
            raise CallsRefused(
                f"the model asked for {talk.bad} calls that could not be made, the limit is {self.limits.bad_calls}; "
                f"the last: {served.last}"
            )
        if served.next:
            talk.role = helper_role(served.next, self.helpers[served.next], self.own)

    def _spent(self, talk: Talk, reply: ModelReply, number: int, *, whole: bool) -> Spoken:
        names = ", ".join(dict.fromkeys(call.name for call in reply.tool_calls))
        reason = f"all {self.limits.rounds} rounds are used up; the model still asked for {names}"
        if whole:
            raise RoundsSpent(f"{reason}; raise limits.rounds, or ask for less")
        return _partial(talk, number, reason)

    async def _advise(self, talk: Talk, key: str, request: str) -> None:
        """Tell the model what a person wrote, before the first request that was not made without it."""
        known = self.ctx.begun(key)
        made = self.ctx.begun(request) or self.ctx.begun(f"{request}/fallback1")
        if not known and (not talk.advice or made):
            return
        text = await self.ctx.note(key, talk.advice, kind="advice")
        talk.tell(f"A person advises: {text}")
        if text == talk.advice:
            talk.advice = ""


def _partial(talk: Talk, rounds: int, reason: str) -> Spoken:
    return Spoken(
        content="\n\n".join(text for text in talk.texts if text), tools=talk.tools, calls=talk.calls, bad=talk.bad,
        rounds=rounds, partial=reason, by=talk.role.name,
    )


def _answered(talk: Talk, reply: ModelReply, number: int) -> Spoken:
    return Spoken(
        content=reply.content, choice=reply.choice, data=reply.data, tools=talk.tools, calls=talk.calls, bad=talk.bad,
        rounds=number, by=talk.role.name,
    )


def prompt_of(value: Any) -> str:
    """Return a rendered prompt as text."""
    return value if isinstance(value, str) else canonical_json(value).decode()
