"""Bringing runs into being: what is checked, what is frozen, and the one commit that makes it so."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.base.canonical import digest as digest_of_value
from tenuto.domain.base.values import TooLarge, encode, pack_bytes
from tenuto.domain.graph.model import Budget, Definition
from tenuto.domain.graph.plan import Plan
from tenuto.domain.graph.rules.budgets import budget_problems
from tenuto.domain.graph.schema import validate
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.trace import traceparent_of
from tenuto.errors import Invalid, InvalidInput, Problem, TenutoError, Unavailable
from tenuto.ports.store import PRIORITIES
from tenuto.runtime.creation import Creation, creation
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.documents import read, read_steps
from tenuto.runtime.services.pace import StartsExhausted, give_back, take
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.services.results import Started
from tenuto.runtime.services.workflows import Workflows

LABELS = 64
TEXT = 4096


async def submit(context: Context, workflows: Workflows, request: StartRun) -> Started:
    """Start a run as asked; a refused request creates nothing but, at most, an unused version of a definition."""
    run_id = request.id or context.ids.new()
    try:
        _check_request(request)
        plan = await _plan_of(context, workflows, request)
        event, blobs = first_event(context, plan, request)
        if request.pace is not None and (known := await _begun_before(context, request)):
            return known
        taken = await take(context, request.pace, plan, run_id)
    except TenutoError as refusal:
        # What was accepted under the key once is answered so again, though it could not be asked anew today.
        before = _begun_before if isinstance(refusal, StartsExhausted) else _started_before
        if known := await before(context, request):
            return known
        raise
    try:
        started = await _create(context, request, run_id, event, blobs)
    except TenutoError:
        await give_back(context, taken)
        raise
    if started.replayed or started.attached:
        await give_back(context, taken)
    return started


async def _create(
    context: Context, request: StartRun, run_id: str, event: ev.RunCreated, blobs: list[tuple[str, bytes]]
) -> Started:
    new = creation(run_id, event, context.clock(), blobs, business_key=request.business_key)
    if request.idempotency_key:
        body = request.body_digest or _digest_of(request)
        run_id, created = await context.store.create_once(new.commit(), _key_of(request), body)
        return Started(id=run_id, status="queued", replayed=not created)
    if request.business_key:
        run_id, created = await context.store.create_business(new.commit())
        return Started(id=run_id, status="queued", attached=not created)
    return Started(id=await make_durable(context, new), status="queued")


async def _begun_before(context: Context, request: StartRun) -> Started | None:
    """Return the run that this request answers with because it was begun before, so that no turn is needed."""
    if request.business_key:
        known = await context.store.business_run(context.ns, request.business_key)
        return Started(id=known, status="queued", attached=True) if known is not None else None
    return await _started_before(context, request)


async def _started_before(context: Context, request: StartRun) -> Started | None:
    if not request.idempotency_key:
        return None
    known = await context.store.answered(context.ns, _key_of(request))
    try:
        same = known is not None and known.digest == (request.body_digest or _digest_of(request))
    except (TypeError, ValueError, RecursionError):  # an input without a JSON form started nothing
        return None
    return Started(id=known.run, status="queued", replayed=True) if known is not None and same else None


def _key_of(request: StartRun) -> str:
    return f"POST /runs {request.idempotency_key}"


async def make_durable(context: Context, new: Creation) -> str:
    """Commit a new run and return its id.

    Raises:
        Invalid: The store refuses the run itself.
        Unavailable: Somebody has this id; the request may be sent again.
    """
    done = await context.committer.create(new)
    if done.outcome == "poison":
        raise Invalid(f"the store refuses this run: {done.error}", code="run.refused")
    if done.outcome == "fenced":
        raise Unavailable("the run could not be created; send the request again", code="run.refused")
    return new.row.id


def first_event(
    context: Context, plan: Plan, request: StartRun, fork: ev.Fork | None = None
) -> tuple[ev.RunCreated, list[tuple[str, bytes]]]:
    """Return the event that creates a run, and the blobs it refers to.

    Raises:
        InvalidInput: The input does not fit the schema, or has no JSON form, or is too large; with every problem.
    """
    value = None if request.input is msgspec.UNSET else request.input
    body = _encode_input(value)
    schema = plan.definition.input_schema
    if schema is not None:
        problems = validate(schema, msgspec.json.decode(body), "/input")
        if problems:
            raise InvalidInput(
                f"the input does not fit the schema of workflow {plan.definition.name!r}", problems=tuple(problems)
            )
    try:
        raw, blob = pack_bytes(body)
    except TooLarge as exc:
        raise _bad_input(str(exc)) from exc
    blobs = [] if blob is None else [(blob_name(raw), blob)]
    event = ev.RunCreated(
        ns=context.ns, workflow=plan.definition.name, digest=plan.digest, input=raw, goal=request.goal,
        priority=PRIORITIES.index(request.priority), labels=dict(request.labels),
        budget=merge_budgets(plan.definition.budget, request.budget), parent=request.parent, fork=fork,
        fidelity=request.fidelity, start_at=request.start_at, by=request.by,
        traceparent=traceparent_of(request.traceparent),
    )
    return event, blobs


def blob_name(raw: msgspec.Raw) -> str:
    """Return the digest in a reference that `pack_bytes` made."""
    return str(msgspec.json.decode(raw)["$blob"])


def merge_budgets(base: Budget | None, over: Budget | None) -> Budget | None:
    """Return a definition's caps with those of a request in their place, cap by cap."""
    if base is None or over is None:
        return over or base
    changes: dict[str, Any] = {
        name: getattr(over, name) for name in Budget.__struct_fields__
        if name != "per_tool" and getattr(over, name) is not None
    }
    return msgspec.structs.replace(base, **changes, per_tool={**base.per_tool, **over.per_tool})


async def _plan_of(context: Context, workflows: Workflows, request: StartRun) -> Plan:
    if request.workflow is not None:
        digest = await workflows.resolve(request.workflow, request.tag)
        return context.definitions.cached(digest) or await context.definitions.plan(context.ns, digest)
    definition: Definition
    if request.steps is not None:
        definition = read_steps({"goal": request.goal, "steps": request.steps}, context.catalog)
    else:
        assert request.definition is not None
        definition = read(request.definition, context.catalog)
    digest = await workflows.store_inline(definition)
    return await context.definitions.plan(context.ns, digest)


def _check_request(request: StartRun) -> None:
    """Refuse what can never work, with every problem."""
    problems: list[Problem] = []
    given = [name for name in ("workflow", "definition", "steps") if getattr(request, name) is not None]
    if len(given) != 1:
        message = f"give exactly one of 'workflow', 'definition' and 'steps', not {' and '.join(given) or 'none'}"
        problems.append(Problem(place="/workflow", message=message, code="request.invalid"))
    if request.priority not in PRIORITIES:
        allowed = ", ".join(PRIORITIES)
        message = f"{request.priority!r} is not a priority; allowed: {allowed}"
        problems.append(Problem(place="/priority", message=message, code="request.invalid"))
    if request.fidelity not in ("full", "fast"):
        message = f"{request.fidelity!r} is not a fidelity; allowed: full, fast"
        problems.append(Problem(place="/fidelity", message=message, code="request.invalid"))
    if len(request.labels) > LABELS or any(len(k) > TEXT or len(v) > TEXT for k, v in request.labels.items()):
        message = f"at most {LABELS} labels of at most {TEXT} characters"
        problems.append(Problem(place="/labels", message=message, code="request.invalid"))
    if request.start_at < 0:
        problems.append(Problem(place="/start_at", message="is before 1970", code="request.invalid"))
    if request.business_key and request.idempotency_key:
        message = "give a business key or an idempotency key, not both: each decides which run answers"
        problems.append(Problem(place="/business_key", message=message, code="request.invalid"))
    if request.budget is not None:
        problems.extend(budget_problems(request.budget, "/budget"))
    if problems:
        raise Invalid("the run cannot be started as asked", problems=tuple(problems))


def _encode_input(value: Any) -> bytes:
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise _bad_input(f"has no JSON form: {exc}") from exc


def _bad_input(message: str) -> InvalidInput:
    return InvalidInput(
        "the input cannot be kept", problems=(Problem(place="/input", message=message, code="input.invalid"),)
    )


def _digest_of(request: StartRun) -> str:
    """Return what decides whether two requests with one idempotency key are the same."""
    left_out = ("id", "idempotency_key", "body_digest", "traceparent", "pace")
    fields: dict[str, Any] = {
        name: getattr(request, name) for name in StartRun.__struct_fields__
        if name not in left_out and getattr(request, name) is not msgspec.UNSET
    }
    return digest_of_value(fields)
