"""Replaying a run: where it is cut, what is edited, what is taken over, and the new run that goes on from there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import msgspec

from tenuto.domain.base.canonical import digest as digest_of_value
from tenuto.domain.base.nearest import did_you_mean, nearest
from tenuto.domain.base.values import blob_digest
from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.digests import definition_to_json
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.fork import Bodies, Cut, encode_reuse, graph_at, reuse, unended
from tenuto.domain.runs.wire import decode
from tenuto.errors import Invalid, RunMissing, StepMissing, TenutoError
from tenuto.ports.store import PRIORITIES
from tenuto.runtime.creation import creation
from tenuto.runtime.services.context import READ_AT_ONCE, Context
from tenuto.runtime.services.documents import read
from tenuto.runtime.services.pace import StartsExhausted, give_back, take
from tenuto.runtime.services.requests import Edits, Replay, StartRun
from tenuto.runtime.services.results import Started
from tenuto.runtime.services.starting import first_event, make_durable
from tenuto.runtime.services.workflows import Workflows

MODES = ("live", "freeze", "shadow")


async def replay(context: Context, workflows: Workflows, run_id: str, request: Replay) -> Started:
    """Start a run that takes over the part of another that the cut and the edits leave untouched."""
    row = await context.row(run_id)
    cut = _cut_of(request, await context.definitions.plan(context.ns, row.digest))
    bodies, chains = await _journal(context, run_id)
    created = next(event for event in bodies[0][1].ev if isinstance(event, ev.RunCreated))
    first = await context.definitions.plan(context.ns, created.digest)
    if request.mode == "freeze":
        cut = _whole(bodies, first, cut)
    old = graph_at(bodies, first, cut)
    edits = request.edits or Edits()
    new = await _edited_plan(context, workflows, first.digest, old, edits)
    head = cut.at if cut.at is not None else bodies[-1][0]
    input_changed = edits.input is not msgspec.UNSET
    try:
        taken = reuse(bodies, first, new, cut, input_changed=input_changed)
    except StepMissing as exc:
        raise _nearest_step(exc) from exc
    if request.mode == "freeze":
        taken = {**unended(run_id, bodies[:head], first), **taken}
    blobs: list[tuple[str, bytes]] = []
    digest = ""
    if taken:
        stored = encode_reuse(taken)
        digest = blob_digest(stored)
        blobs.append((digest, stored))
    fork = ev.Fork(
        run=run_id, seq=head, chain=chains[head].hex(), mode=request.mode, reuse=digest,
        from_step=request.from_step, from_node=request.from_node,
    )
    event, more = _creation(context, new, created, request, edits, fork)
    fresh = creation(context.ids.new(), event, context.clock(), [*blobs, *more])
    key = f"POST /runs/{run_id}/replay {request.idempotency_key}" if request.idempotency_key else ""
    try:
        known = await _replayed_before(context, request, run_id, key)
        taken = None if known else await take(context, request.pace, new, fresh.row.id)
    except StartsExhausted:
        known, taken = await _replayed_before(context, request, run_id, key), None
        if known is None:
            raise
    if known is not None:
        return known
    try:
        if key:
            made, is_new = await context.store.create_once(fresh.commit(), key, _digest_of(request))
        else:
            made, is_new = await make_durable(context, fresh), True
    except TenutoError:
        await give_back(context, taken)
        raise
    if not is_new:
        await give_back(context, taken)
    return Started(id=made, status="queued", replay_of=run_id, replayed=not is_new)


async def _replayed_before(context: Context, request: Replay, run_id: str, key: str) -> Started | None:
    """Return the replay that a repeat of this request answers with, so that no turn is needed."""
    known = await context.store.answered(context.ns, key) if key and request.pace is not None else None
    if known is None or known.digest != _digest_of(request):
        return None
    return Started(id=known.run, status="queued", replay_of=run_id, replayed=True)


def _cut_of(request: Replay, plan: Plan) -> Cut:
    """Return the cut a request asks for; nothing given means all anew, or everything kept for a frozen replay.

    Raises:
        Invalid: The mode does not exist, or more than one cut is given.
    """
    if request.mode not in MODES:
        raise Invalid(f"{request.mode!r} is not a mode of replay; allowed: {', '.join(MODES)}", code="replay.mode")
    given = [name for name in ("from_step", "from_node", "at") if getattr(request, name) is not None]
    if len(given) > 1:
        raise Invalid(f"give at most one of from_step, from_node and at, not {' and '.join(given)}", code="replay.cut")
    step = request.from_step
    if isinstance(step, str) and step.lstrip("-").isdecimal():
        step = int(step)
    if isinstance(step, bool):
        raise Invalid("from_step is a number of steps or a step's id, not true or false", code="replay.cut")
    if isinstance(step, int):
        return Cut(count=step)
    if isinstance(step, str):
        return Cut(step=plan.key_of(step))
    if request.from_node is not None:
        return Cut(node=plan.key_of(request.from_node))
    if request.at is not None:
        return Cut(at=request.at)
    return Cut(everything=True) if request.mode == "freeze" else Cut()


def _whole(bodies: Bodies, first: Plan, cut: Cut) -> Cut:
    """Return where a frozen replay parts from its origin: it has no outcomes but recorded ones, also behind a step.

    Raises:
        TenutoError: The origin has no such step, or not so many.
    """
    if cut.at is not None or cut.everything:
        return cut
    try:
        reuse(bodies, first, graph_at(bodies, first, cut), cut)
    except StepMissing as exc:
        raise _nearest_step(exc) from exc
    return Cut(everything=True)


async def _journal(context: Context, run_id: str) -> tuple[list[tuple[int, ev.Body]], dict[int, bytes]]:
    bodies: list[tuple[int, ev.Body]] = []
    chains: dict[int, bytes] = {}
    after = 0
    while True:
        part = await context.store.records(run_id, after, READ_AT_ONCE)
        for item in part:
            bodies.append((item.seq, decode(item)))
            chains[item.seq] = item.chain
        if len(part) < READ_AT_ONCE:
            break
        after = part[-1].seq
    if not bodies:
        raise RunMissing(f"the journal of run {run_id!r} is gone", run=run_id)
    return bodies, chains


def _creation(
    context: Context, plan: Plan, created: ev.RunCreated, request: Replay, edits: Edits, fork: ev.Fork
) -> tuple[ev.RunCreated, list[tuple[str, bytes]]]:
    """Return the event that creates the replay; what is not edited is what the origin was created with."""
    like = StartRun(
        workflow=plan.definition.name, goal=created.goal, input=edits.input, fidelity=created.fidelity, by=request.by,
        priority=cast("Any", PRIORITIES[created.priority]), budget=edits.budget,
        labels=created.labels if request.labels is None else request.labels,
    )
    if edits.input is msgspec.UNSET:
        bare, _ = first_event(context, _without_schema(plan), like, fork)
        event, blobs = msgspec.structs.replace(bare, input=created.input), []
    else:
        event, blobs = first_event(context, plan, like, fork)
    if edits.budget is None and edits.definition is None:
        event = msgspec.structs.replace(event, budget=created.budget)
    return event, blobs


def _without_schema(plan: Plan) -> Plan:
    """Return a plan that accepts any input; the origin's was checked when it was created."""
    bare = msgspec.structs.replace(plan.definition, input_schema=None)
    return replace(plan, definition=bare)


async def _edited_plan(context: Context, workflows: Workflows, first: str, old: Plan, edits: Edits) -> Plan:
    """Return the plan a replay runs by; an edited or patched graph is stored like any other version.

    Args:
        first: Digest of the version the origin was created with.
        old: Plan it went by where it is cut.

    Raises:
        InvalidGraph: The edited graph breaks rules; with every problem.
        StepMissing: An edit names a node that does not exist.
    """
    if edits.definition is not None:
        if edits.nodes:
            raise Invalid("edits has both 'nodes' and 'definition'; give one of them", code="replay.edits")
        definition = read(edits.definition, context.catalog)
    elif edits.nodes:
        definition = read(_edit_nodes(old.definition, edits.nodes), context.catalog)
    elif old.digest == first:
        return old
    else:
        definition = old.definition  # of a patched run: no version of the workflow until now
    digest = await workflows.store_inline(definition)
    return await context.definitions.plan(context.ns, digest)


def _edit_nodes(definition: Definition, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    names = [node.id for level in levels_of(definition) for node in level.nodes]
    for name in changes:
        if name not in names:
            hint = did_you_mean(name, names)
            raise StepMissing(f"the workflow has no node {name!r}{hint}", node=name, nearest=nearest(name, names))
    document = definition_to_json(definition)
    _edit_level(document, changes)
    return document


def _edit_level(level: dict[str, Any], changes: dict[str, dict[str, Any]]) -> None:
    """Replace fields of the nodes of a level and of the bodies inside it; `config` is merged key by key."""
    nodes: list[dict[str, Any]] = []
    for node in level["nodes"]:
        change = changes.get(node["id"], {})
        edited = {**node, **change}
        if "config" in change:
            edited["config"] = {**node.get("config", {}), **change["config"]}
        body = edited.get("config", {}).get("body")
        if edited.get("kind") == "map" and isinstance(body, dict) and "nodes" in body:
            inner = dict(cast("dict[str, Any]", body))
            _edit_level(inner, changes)
            edited["config"] = {**edited["config"], "body": inner}
        nodes.append(edited)
    level["nodes"] = nodes


def _nearest_step(exc: StepMissing) -> StepMissing:
    known: list[str] = exc.details.get("known", [])
    name = str(exc.details.get("step") or exc.details.get("node") or "")
    return StepMissing(exc.message + did_you_mean(name, known), step=name, nearest=nearest(name, known))


def _digest_of(request: Replay) -> str:
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(request, idempotency_key=None))
    del fields["pace"]
    return digest_of_value(fields)
