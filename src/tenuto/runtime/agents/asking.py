"""One journaled model request, however often it has to be made: failures that pass are waited out, visibly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from tenuto.domain.graph.agents import MODEL_RETRIES
from tenuto.domain.graph.model import Retry
from tenuto.domain.runs.events import Charge
from tenuto.domain.runs.retry import delay_ms
from tenuto.errors import StepError
from tenuto.ports.model import (
    Model,
    ModelBusy,
    ModelCut,
    ModelReply,
    ModelRequest,
    ModelUnreachable,
    Remote,
    facts_of,
)
from tenuto.runtime.agents.step import Durable, Step

T = TypeVar("T")

TOOL_RETRIES = 2
PASSING = (ModelBusy, ModelUnreachable, ModelCut)
LONGEST_S = 86_400.0
"""The longest a provider is believed when it says to come back later."""
_BACKOFF = Retry(backoff_s=1.0, multiplier=2.0, max_backoff_s=60.0)


async def ask(
    step: Step, ctx: Durable, request: ModelRequest, key: str, *, retries: int = MODEL_RETRIES, round: int = 0,
    partial: Any = None, patient: bool = True,
) -> ModelReply:
    """Make one model request; a reply that was recorded is given back instead.

    Args:
        key: The request's identity in its step.
        retries: Tries after the first for failures that pass.
        patient: Whether models on one's own machines are waited for, however long it takes.
        partial: The step's output should a cap be used up, so that the request is refused and the run halts.

    Raises:
        StepError: The model failed for good, or too often.
    """
    model = step.model(request.model)
    limit = None
    if isinstance(model, Remote):
        await model.ready(request)
        limit = model.slots(request)
    tokens, cost = model.bound(request)

    async def make(idempotency_key: str) -> ModelReply:
        return await _request(step, model, request, key, idempotency_key, round)

    async def once() -> Any:
        return await ctx.perform(
            "model", request.model, msgspec.to_builtins(request), make, key=key,
            hold=Charge(tokens=tokens, cost_usd_micros=cost), used=charge_of,
            meta=lambda reply: usage_of(reply, request, round), partial=partial, slot=limit[0] if limit else "",
        )

    policy = step.node.node.retry
    answer = await patiently(policy, ctx, key, request.model, once, passes, retries, patient=patient)
    return msgspec.convert(answer, ModelReply)


async def _request(
    step: Step, model: Model, request: ModelRequest, key: str, idempotency_key: str, round: int
) -> ModelReply:
    """Ask, and tell those who watch as the answer comes; what was told of an answer that never came is withdrawn."""
    tell = step.teller(key)
    try:
        return await model.request(request, key=idempotency_key, on_delta=tell)
    except BaseException as exc:
        if tell is not None:
            step.withdraw(key)
        if isinstance(exc, StepError):
            reply = exc.details.pop("reply", None)
            if isinstance(reply, ModelReply):
                # What a failure cost all the same goes to the journal with it.
                vars(exc).update(used=charge_of(reply), meta=usage_of(reply, request, round))
        raise


async def patiently(
    policy: Retry | None, ctx: Durable, key: str, what: str, once: Callable[[], Awaitable[T]],
    passing: Callable[[StepError], bool], retries: int, *, patient: bool = True,
) -> T:
    """Do something that may fail in a way that passes, with durable waits in between.

    The journal counts the tries: code that runs again from the top skips those whose wait has begun.

    Args:
        policy: How long to wait; `None` is from a second to a minute.
        passing: Says of a failure whether it is worth another try.
        retries: Tries after the first.
        patient: Whether a failure with `local` in its details is waited out for as long as it takes.

    Raises:
        StepError: The last failure.
    """
    policy = policy or _BACKOFF
    tries = 0
    while True:
        tries += 1
        wait, seconds, reason = f"{key}/wait{tries}", 0.0, ""
        if not ctx.begun(wait):
            try:
                return await once()
            except StepError as exc:
                lasting = patient and bool(exc.details.get("local"))
                if not passing(exc) or (tries > retries and not lasting):
                    raise
                after = exc.details.get("retry_after_s")
                pause = delay_ms(policy, tries, ctx.run_id, f"{ctx.step}/{key}") / 1000
                seconds = max(pause, min(after, LONGEST_S) if isinstance(after, int | float) else 0.0)
                of = "" if lasting else f" of {retries + 1}"
                reason = f"{what}: {exc.message.rstrip('.')}; try {tries + 1}{of} follows"
        await ctx.sleep(seconds, key=wait, reason=reason)


def passes(failure: StepError) -> bool:
    """Return whether a model's failure may pass by itself."""
    return isinstance(failure, PASSING)


def is_unknown(failure: StepError) -> bool:
    """Return whether a call may have been made all the same; by its policy it is then made again, with its key."""
    return bool(failure.details.get("unknown"))


def charge_of(reply: ModelReply) -> Charge:
    """Return what a reply cost."""
    return Charge(tokens=reply.input_tokens + reply.output_tokens, cost_usd_micros=reply.cost_usd_micros)


def usage_of(reply: ModelReply, request: ModelRequest, round: int) -> dict[str, Any]:
    """Return the facts of a reply that usage reports are made of."""
    return {**facts_of(reply, request), "round": round}
