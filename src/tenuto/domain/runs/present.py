"""Turns folded state into the public shapes of `views`: pure, and linear in the steps shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.graph.plan import Plan, PlanNode, split_key
from tenuto.domain.runs import views as v
from tenuto.domain.runs.events import Failure
from tenuto.domain.runs.state import (
    ACTIVE_STEP,
    ENDED,
    Call,
    MapState,
    RunState,
    Step,
    public_status,
    suspended,
)
from tenuto.domain.runs.views import instant

PRIORITY_NAMES = ("high", "medium", "low")
STEPS_SHOWN = 1000

_decode = msgspec.json.Decoder().decode
Inputs = Callable[[str], Any]


def run_view(st: RunState, plan: Plan, *, inputs: Inputs | None = None, limit: int = STEPS_SHOWN) -> v.RunView:
    """Return a run as the API reads it; items of maps are counted on their map.

    Args:
        inputs: Gives the input of a step by key; `None` leaves inputs out.
        limit: Most steps to show, in the order they began.
    """
    shown = [key for key in st.steps if not in_map(plan, key)]
    steps = [step_view(st, plan, key, inputs) for key in shown[:limit]]
    blocked = blocked_keys(st, plan)
    steps.extend(_blocked_view(st, plan, key) for key in blocked[: max(0, limit - len(steps))])
    status = public_status(st)
    view = v.RunView(
        id=st.id, workflow=st.workflow, version=st.version or st.digest, graph=st.digest,
        graph_number=f"1.{len(st.overlays)}", status=status, input=_decode(st.input),
        output=_plain(st.output), error=error_view(st.failure), goal=st.goal, labels=st.labels,
        priority=PRIORITY_NAMES[st.priority], budget=budget_view(st), divergences=st.divergences, by=st.by,
        worker=st.worker or None, seq=st.seq, start_at=instant(st.start_at), created_at=instant(st.created_at),
        started_at=instant(st.started_at), finished_at=instant(st.finished_at), steps=steps,
        n_steps=len(st.steps) + len(blocked),
    )
    if st.fork is not None:
        view.replay_of, view.mode = st.fork.run, st.fork.mode
        view.from_step = st.fork.from_step if st.fork.from_step is not None else st.fork.from_node
    elif st.shadow:
        view.mode = "shadow"
    if st.parent is not None:
        view.parent = v.ParentView(run=st.parent.run, step=st.parent.step)
    if status == "paused":
        view.waiting_for = v.WaitView(kind="paused", who="anyone who may resume the run", message=st.reason)
    elif status == "waiting":
        view.waiting_for = next((step.waiting_for for step in steps if step.waiting_for and step.ready_at), None)
    return view


def in_map(plan: Plan, key: str) -> bool:
    """Return whether a step belongs to an item of a map."""
    return any(frame.kind == "map" for frame in plan.frames(key))


def blocked_keys(st: RunState, plan: Plan) -> list[str]:
    """Return the keys that nodes outside of maps would have, and that no outcome has reached yet."""
    if st.status in ("completed", "cancelled"):
        return []
    found: list[str] = []
    for node in plan.nodes.values():
        scope = _next_scope(st, plan, node)
        if scope is not None and node.id + scope not in st.steps:
            found.append(node.id + scope)
    return found


def _next_scope(st: RunState, plan: Plan, node: PlanNode) -> str | None:
    scope = ""
    for region in reversed(plan.region_path(node.region)):
        shape = plan.regions[region]
        if shape.kind == "map":
            return None
        scope += f"~{shape.owner}.{st.loops.get(f'{scope}~{shape.owner}', 1)}"
    return scope


def step_view(st: RunState, plan: Plan, key: str, inputs: Inputs | None = None) -> v.StepView:
    """Return a step that has begun, or could."""
    step = st.steps[key]
    view = _outline(plan, key)
    view.status = step_status(step)
    view.attempt = step.attempt
    view.input = inputs(key) if inputs is not None else None
    view.output = _plain(step.out)
    view.error = error_view(step.failure)
    view.waiting_for = wait_of(st, plan, key, step)
    view.key = step_idempotency_key(st.id, key, step.group)
    view.ready_at, view.started_at = instant(step.ready_at), instant(step.started_at)
    view.finished_at, view.retry_at = instant(step.finished_at), instant(step.retry_at)
    view.queued_ms, view.took_ms = step.queued_ms, step.took_ms
    view.reused = _is_reused(st, step, view.kind)
    if step.cache is not None:
        view.cache = v.CacheView(**msgspec.structs.asdict(step.cache))
    state = st.maps.get(key)
    if state is not None:
        view.items = _items_view(state)
    return view


def _is_reused(st: RunState, step: Step, kind: str) -> bool:
    """Return whether a step's outcome was taken over: only then it ended without an attempt of its own."""
    ended = step.status in ("completed", "failed")
    return st.fork is not None and ended and step.attempt == 0 and step.cache is None and kind not in ("join", "switch")


def step_idempotency_key(run_id: str, key: str, group: int) -> str:
    """Return the key a step gives to whoever it calls: the same over attempts and takeovers."""
    return f"{run_id}/{key}" if not group else f"{run_id}/{key}/{group}"


def _outline(plan: Plan, key: str) -> v.StepView:
    node_id = split_key(key)[0]
    node = plan.nodes.get(node_id)
    view = v.StepView(id=key, node=node_id, kind=node.node.kind if node else "", name=plan.title(key))
    for frame in reversed([*plan.frames(key)] if node else []):
        if frame.kind == "map":
            view.branch = frame.number
        else:
            view.iteration = frame.number
    return view


def _blocked_view(st: RunState, plan: Plan, key: str) -> v.StepView:
    view = _outline(plan, key)
    if st.status not in ENDED:
        view.waiting_for = blocked_wait(st, plan, key)
    return view


def blocked_wait(st: RunState, plan: Plan, key: str) -> v.WaitView:
    """Return what a step that has not begun waits for: the predecessors that are not resolved."""
    node_id, _ = split_key(key)
    open_now = [name for name in _sources(plan, node_id) if not _resolved(st, name)]
    if not open_now:
        return v.WaitView(kind="worker", step=key, node=node_id, who="any worker that can serve the run")
    text = ", ".join(plan.title(name) for name in open_now)
    return v.WaitView(kind="predecessors", step=key, node=node_id, name=text, message=text, who=f"what moves {text}")


def _sources(plan: Plan, node_id: str) -> Iterator[str]:
    seen: set[str] = set()
    for edge in plan.edges:
        if edge.dst == node_id and not edge.back and edge.src not in seen:
            seen.add(edge.src)
            yield edge.src


def _resolved(st: RunState, node_id: str) -> bool:
    step = st.steps.get(node_id)
    return step is not None and step.status in ("completed", "skipped", "failed")


def step_status(step: Step) -> str:
    """Return a step's public status: `waiting` also when its code does nothing but wait."""
    return "waiting" if step.status == "running" and step.calls and suspended(step) else step.status


def wait_of(st: RunState, plan: Plan, key: str, step: Step) -> v.WaitView | None:
    """Return what a step waits for, or `None` when it has ended or its code runs."""
    if step.status not in ACTIVE_STEP or st.status in ENDED:
        return None
    node_id = split_key(key)[0]
    if step.wait is not None:
        return wait_view(st, key, step.wait.kind, step.wait.name, step.wait.since, step.wait.until)
    if step.status == "retrying":
        message = f"attempt {step.attempt} failed: {step.failure.message}" if step.failure else ""
        return v.WaitView(
            kind="retry", step=key, node=node_id, since=instant(step.started_at), until=instant(step.retry_at),
            message=message,
            who="the clock, or anyone who may retry the step",
        )
    if step.status == "ready":
        return v.WaitView(kind="worker", step=key, node=node_id, since=instant(step.ready_at), who="a worker")
    if step_status(step) == "waiting":
        for name, call in step.calls.items():
            if call.status == "waiting" and call.kind == "funds":
                return _funds_view(st, key, name, call)
            if call.status == "waiting":
                return wait_view(st, key, call.kind, call.name, step.started_at, call.until, call.reason)
            if call.status == "unknown":
                return wait_view(st, key, "unknown_outcome", _question(st, key, name), step.started_at, 0)
    return None


def _funds_view(st: RunState, key: str, name: str, call: Call) -> v.WaitView:
    """Return what a call without room waits for."""
    ticket = _question(st, key, name)
    asked = st.tickets.get(ticket)
    if call.name.startswith("provider:"):
        who = "the end of another call to it"
        message = f"as many calls to {call.name.partition(':')[2]} are under way as its limit allows"
    else:
        who = "whoever raises the cap, the next window" if call.until else "whoever raises the cap"
        who += f", or anyone who may decide ticket {ticket}" if asked is not None else ", or calls under way that cost less"
        message = asked.message if asked is not None else f"the cap {call.name!r} has no room for now"
    return v.WaitView(
        kind="funds", step=key, node=split_key(key)[0], name=ticket if asked is not None else call.name,
        since=instant(call.since), until=instant(call.until), who=who, message=message,
    )


def _question(st: RunState, key: str, call: str) -> str:
    """Return the id of the open ticket about a call; the call itself while nobody was asked."""
    tickets = (name for name, item in st.tickets.items() if item.step == key and item.call == call and item.status == "open")
    return next(tickets, call)


def wait_view(
    st: RunState, key: str, kind: str, name: str, since: int, until: int, reason: str = ""
) -> v.WaitView:
    """Return a durable wait in public words, with who can end it."""
    ticket = st.tickets.get(name)
    if ticket is not None:
        kind, since = ticket.kind, ticket.opened_at or since
        until = ticket.expires_at or until
    who = {
        "timer": "the clock",
        "signal": f"anyone who sends the signal {name!r}",
        "child": f"the child run {name}",
    }.get("" if ticket is not None else kind, f"anyone who may decide ticket {name}")
    return v.WaitView(
        kind=kind, step=key, node=split_key(key)[0], name=name, since=instant(since), until=instant(until), who=who,
        message=ticket.message if ticket else reason,
    )


def error_view(failure: Failure | None) -> v.ErrorView | None:
    """Return a failure in public form."""
    if failure is None:
        return None
    return v.ErrorView(
        code=failure.code, message=failure.message, type=failure.type, retryable=failure.retryable,
        unknown=failure.unknown, details=failure.details,
    )


def budget_view(st: RunState) -> v.BudgetView:
    """Return a run's caps and ledger."""
    ledger = st.ledger
    spent, reserved = amounts(ledger.spent), amounts(ledger.held)
    spent["per_tool"], reserved["per_tool"] = dict(ledger.spent_per_tool), dict(ledger.held_per_tool)
    begun = st.started_at
    if begun:
        spent["wall_clock_s"] = max(0, (st.finished_at or st.t) - begun) / 1000
    limits: dict[str, Any] = msgspec.to_builtins(ledger.caps) if ledger.caps is not None else {}
    return v.BudgetView(
        limits={name: value for name, value in limits.items() if value is not None}, spent=spent, reserved=reserved,
        unknown=amounts(ledger.unknown), overrun=dict(ledger.overrun),
    )


def amounts(value: Any) -> dict[str, Any]:
    """Return the three currencies of an amount, zeroes included."""
    return {
        "tokens": value.tokens, "tool_calls": value.tool_calls, "cost_usd_micros": value.cost_usd_micros,
    }


def _items_view(state: MapState) -> v.ItemsView:
    return v.ItemsView(count=state.count, started=state.started, done=state.done, failed=len(state.errors))


def _plain(value: Raw | None) -> Any:
    return None if value is None else _decode(value)


# --- graphs ----------------------------------------------------------------------------------------------------


def graph_view(plan: Plan, st: RunState | None = None) -> v.GraphView:
    """Return the shape of a workflow; with a state, each node's worst and each edge's taken count as well."""
    nodes = [_graph_node(plan, node) for node in plan.nodes.values()]
    view = v.GraphView(
        workflow=plan.definition.name, version=plan.digest, nodes=nodes, edges=[_graph_edge(e) for e in plan.edges],
        budget=msgspec.to_builtins(plan.definition.budget) if plan.definition.budget else None,
    )
    if st is not None:
        view.run, view.at = st.id, st.seq
        _overlay(view, st)
    return view


def _graph_node(plan: Plan, node: PlanNode) -> v.GraphNode:
    owner = plan.regions[node.region].owner
    return v.GraphNode(id=node.id, kind=node.node.kind, name=plan.title(node.id), region=owner, description=node.node.description)


def _graph_edge(edge: Any) -> v.GraphEdge:
    return v.GraphEdge(
        from_=edge.src, to=edge.dst, on=edge.on, when=edge.when, back=edge.back,
        conditional=bool(edge.when) or edge.on != "success", max_iterations=edge.limit if edge.back else None,
    )


_LOUDEST = (
    "dead_letter", "running", "retrying", "waiting", "ready", "failed", "cancelled", "completed", "skipped", "blocked",
)


def _overlay(view: v.GraphView, st: RunState) -> None:
    counts: dict[str, dict[str, int]] = {}
    taken: dict[int, int] = {}
    for key, step in st.steps.items():
        of_node = counts.setdefault(split_key(key)[0], {})
        status = step_status(step)
        of_node[status] = of_node.get(status, 0) + 1
        for index in step.via:
            taken[index] = taken.get(index, 0) + 1
    for node in view.nodes:
        node.counts = counts.get(node.id, {})
        node.status = next((name for name in _LOUDEST if name in node.counts), "blocked")
    for index, edge in enumerate(view.edges):
        edge.taken = taken.get(index, 0)

