"""What follows when an attempt fails: another try, what the author declared, or a dead letter."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import NULL, pack
from tenuto.domain.graph.people import Terms
from tenuto.domain.graph.plan import PlanNode
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.data import step_input
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.events_patches import Changed
from tenuto.domain.runs.fold_graph import item_scope, open_scopes
from tenuto.domain.runs.inputs import Task
from tenuto.domain.runs.retry import MAX_LOSSES, NO_RETRY, delay_ms, may_retry
from tenuto.domain.runs.routing import route
from tenuto.domain.runs.state import ACTIVE_STEP, Call, RunState, Step, suspended
from tenuto.errors import InputMissing, RoutingFailed, TenutoError

LOST = ev.Failure(
    code="attempt.worker_lost", type="WorkerLost", unknown=True,
    message=f"{MAX_LOSSES} attempts were lost with their workers, which is the limit",
)

INTERRUPTED = ev.Failure(
    code="attempt.interrupted", type="Interrupted", message="the worker shut down during the attempt", unknown=True
)


def failure_of(exc: TenutoError) -> ev.Failure:
    """Return an engine error as a journal failure."""
    return ev.Failure(code=exc.reason, type=type(exc).__name__, message=exc.message, retryable=exc.retryable)


def effect_of(node: PlanNode) -> str:
    """Return what a repeat of a node's attempt does to the world; function nodes are idempotent unless declared.

    Tools, agents and HTTP requests act only through calls, and each call with an effect has an intent and a policy of
    its own. To repeat such an attempt is harmless: it comes to the lost call and follows that policy.
    """
    if node.node.kind != "function" or "tool" in node.node.config:
        return "idempotent"
    return node.node.effect or "idempotent"


def status_hook(node: PlanNode, step: Step) -> str:
    """Return the hook to ask before a step's code runs (again); empty when an earlier attempt leaves no doubt."""
    if not step.doubt or effect_of(node) != "effect":
        return ""
    policy = node.node.on_unknown or "ask"
    return "" if policy in ("ask", "retry") else policy


def begin(d: Draft, key: str) -> None:
    """Begin an attempt, here or as a task that any worker may execute; a doubt a person has to settle comes first."""
    step = d.st.steps[key]
    if step.doubt and effect_of(d.node(key)) == "effect" and (d.node(key).node.on_unknown or "ask") == "ask":
        d.emit(ev.AttemptStarted(step=key, n=step.attempt + 1))
        ask_outcome(d, key, "an earlier attempt was cut off")
        return
    task = d.env.remote(d.node(key), step)
    n = step.attempt + 1
    d.emit(ev.AttemptStarted(step=key, n=n, task=task))
    if not task:
        d.out.start.append(key)
        return
    try:
        given = keep(d, step_input(d.st, d.plan, d.env, key))
    except InputMissing as exc:
        step_failed(d, key, failure_of(exc))
        return
    d.out.tasks.append(Task(step=key, n=n, input=given, key=idempotency_key(d, key)))


def close_questions(d: Draft, key: str, reason: str) -> None:
    """Close what a step's code had asked people and no longer waits for, because its attempt has ended."""
    if not d.st.tickets:
        return
    calls = d.st.steps[key].calls
    for name, ticket in d.st.tickets.items():
        if ticket.step == key and ticket.status == "open" and ticket.call in calls:
            call = calls[ticket.call]
            if call.status == "waiting" and (call.name == name or (call.kind, ticket.kind) == ("funds", "budget")):
                d.emit(ev.TicketClosed(ticket=name, reason=reason))


def would_change(st: RunState, name: str) -> Changed:
    """Return what a patch that waits for a person would change; nothing for one that cannot be applied."""
    ticket = st.tickets.get(st.patches[name].ticket)
    return msgspec.convert(ticket.data["changed"], Changed) if ticket is not None else Changed()


def close_patches(d: Draft, why: str) -> None:
    """Turn down the changes of the graph that nobody has decided on, because the run ends."""
    for name, patch in d.st.patches.items():
        if patch.status in ("open", "invalid"):
            ticket = patch.ticket
            d.emit(ev.PatchRejected(patch=name, reason=why, changed=would_change(d.st, name)))
            if ticket and d.st.tickets[ticket].status == "open":
                d.emit(ev.TicketClosed(ticket=ticket, reason=why))


def attempt_failed(d: Draft, key: str, failure: ev.Failure, worker: str = "") -> None:
    """Decide what a failed attempt leads to."""
    step = d.st.steps[key]
    node = d.node(key)
    lose_calls(d, key, failure.message)
    if failure.unknown and effect_of(node) == "effect":
        outcome_unknown(d, key, failure.message, failure)
        return
    if failure.unknown and d.st.status != "cancelling" and any(_asks(call) for call in step.calls.values()):
        d.emit(ev.AttemptInterrupted(step=key, n=step.attempt))
        return
    policy = node.node.retry or NO_RETRY
    fails = step.fails + 1
    if may_retry(policy, fails, failure) and d.st.status != "cancelling":
        at = d.t + delay_ms(policy, fails, d.st.id, key)
        close_questions(d, key, "its attempt failed")
        worker = worker if worker != d.st.worker else ""
        d.emit(ev.AttemptFailed(step=key, n=step.attempt, failure=failure, retry_at=at, worker=worker))
    else:
        step_failed(d, key, failure)


def _asks(call: Call) -> bool:
    """Say whether a person is to be asked about a lost call; the next attempt does, before anything is made again."""
    return call.status == "unknown" and call.effect == "effect" and call.on_unknown in ("", "ask")


def outcome_unknown(d: Draft, key: str, why: str, failure: ev.Failure | None = None) -> None:
    """Apply a step's policy for an attempt whose outcome was lost.

    Args:
        failure: What cut the attempt off; `None` when it was given back, which counts nothing.
    """
    step = d.st.steps[key]
    policy = d.node(key).node.on_unknown or "ask"
    spent = failure is not None and step.losses + 1 >= MAX_LOSSES
    if failure is not None and spent and policy == "retry":
        step_failed(d, key, failure)
    elif spent or policy == "ask":
        ask_outcome(d, key, why)
    else:
        d.emit(ev.AttemptInterrupted(step=key, n=step.attempt, unknown=True, failure=failure))


def ask_outcome(d: Draft, key: str, why: str) -> None:
    """Ask a person whether a step took effect."""
    # One question per attempt: an answered ticket is never asked again, its key is consumed.
    part = f"unknown{d.st.steps[key].attempt}"
    d.emit(ev.WaitStarted(step=key, kind="approval", name=ticket_id(d, key, part)))
    open_ticket(
        d, key, "unknown_outcome", part,
        f"Did step {d.plan.title(key)!r} take effect? Its outcome was lost: {why}",
        {"key": idempotency_key(d, key), "choices": ["retry", "succeeded", "failed"],
         "hook": d.node(key).node.on_unknown or "ask"},
    )


def worker_lost(d: Draft, key: str, worker: str = "") -> None:
    """Decide what follows when the worker died during an attempt."""
    step = d.st.steps[key]
    d.emit(ev.AttemptLost(step=key, n=step.attempt, worker=worker))
    lose_calls(d, key, "the worker died")
    if step.losses >= MAX_LOSSES:
        step_failed(d, key, LOST)
    elif effect_of(d.node(key)) == "effect" and (d.node(key).node.on_unknown or "ask") == "ask":
        ask_outcome(d, key, "the worker died")
    else:
        begin(d, key)


def lose_calls(d: Draft, key: str, why: str) -> None:
    """Mark the calls an attempt leaves behind without an outcome: each follows its own policy, its money is spent."""
    for name in [name for name, call in d.st.steps[key].calls.items() if call.status == "open"]:
        d.emit(ev.CallUnknown(step=key, call=name, reason=why, grant=d.st.steps[key].calls[name].grant))


def step_failed(d: Draft, key: str, failure: ev.Failure) -> None:
    """Apply what the author declared for a step whose attempts are spent."""
    node = d.node(key)
    step = d.st.steps[key]
    close_questions(d, key, "its step failed")
    on_error = node.node.on_error
    action = on_error.action if on_error is not None else "fail"
    try:
        if action == "skip":
            _handled(d, key, failure, "skip", NULL, ())
        elif action == "continue":
            _handled(d, key, failure, "continue", NULL, _all_success(d, key, node, NULL))
        elif action == "fallback" and on_error is not None and on_error.fallback is not None and (
            on_error.fallback.value is not msgspec.UNSET
        ):
            out = keep(d, on_error.fallback.value)
            _handled(d, key, failure, "fallback", out, _all_success(d, key, node, out))
        elif action == "escalate" and step.guidance != "fail":
            escalate(d, key, failure)
        elif any(edge.on == "error" for edge in node.out):
            d.failing = failure
            taken = route(d, key, node, NULL, "error") or ()
            if taken:
                _handled(d, key, failure, "route", NULL, taken)
            else:
                unhandled(d, key, failure)
        else:
            unhandled(d, key, failure)
    except RoutingFailed as exc:
        unhandled(d, key, failure_of(exc))
    finally:
        d.failing = None


def _all_success(d: Draft, key: str, node: PlanNode, out: Raw) -> tuple[int, ...]:
    taken = route(d, key, node, out)
    return tuple(edge.index for edge in node.out) if taken is None else taken


def _handled(d: Draft, key: str, failure: ev.Failure, how: str, out: Raw, taken: tuple[int, ...]) -> None:
    n = d.st.steps[key].attempt
    d.emit(ev.StepFailed(step=key, failure=failure, how=how, n=n, out=out, taken=taken))
    _stop(d, key)


def _stop(d: Draft, key: str) -> None:
    d.out.stop.append(key)


def unhandled(d: Draft, key: str, failure: ev.Failure) -> None:
    """Let a step end as a dead letter, or end the item of the map it belongs to."""
    n = d.st.steps[key].attempt
    scope = item_scope(d.plan, key)
    if not scope:
        d.emit(ev.StepDeadLettered(step=key, failure=failure, n=n))
        _stop(d, key)
        return
    end_item(d, scope, ev.StepFailed(step=key, failure=failure, how="item", n=n))
    _stop(d, key)


def end_item(d: Draft, scope: str, event: ev.StepFailed | ev.StepReused) -> None:
    """Write down that a failed step ended its item of a map, and cancel what else is active in the item."""
    crowded = d.st.regions[scope].open > 1 if scope in d.st.regions else False
    inside = open_scopes(d.st, d.plan, scope) if crowded else []
    d.emit(event)
    cancel_within(d, inside, "item")


def cancel_within(d: Draft, instances: list[tuple[str, int]], reason: str) -> None:
    """Cancel every active step directly in some instances of regions, which may have been abandoned since."""
    steps = d.st.steps
    for scope, region in instances:
        for name in d.plan.regions[region].nodes:
            step = steps.get(name + scope)
            if step is not None and step.status in ACTIVE_STEP:
                cancel_step(d, name + scope, reason)


def cancel_step(d: Draft, key: str, reason: str, *, begun: bool = True, out: Raw | None = None) -> None:
    """End an active step without an outcome, and all it has open.

    Args:
        begun: Whether its code ran, if it is running; code that acts on the world may then have done so.
        out: What it has come to so far.
    """
    step = d.st.steps[key]
    running = step.status == "running"
    unknown = running and begun and not suspended(step) and effect_of(d.node(key)) == "effect"
    for name in [name for name, call in step.calls.items() if call.status == "open" or call.hold is not None]:
        d.emit(ev.CallUnknown(step=key, call=name, reason=reason, grant=step.calls[name].grant))
    for ticket_id_, ticket in d.st.tickets.items():
        if ticket.step == key and ticket.status == "open":
            d.emit(ev.TicketClosed(ticket=ticket_id_, reason=reason))
    if step.wait is not None and step.wait.kind == "child":
        d.out.stop_children.append(step.wait.name)
    d.emit(ev.StepCancelled(step=key, reason=reason, unknown=unknown, out=out))
    if running:
        d.out.stop.append(key)


def escalate(d: Draft, key: str, failure: ev.Failure) -> None:
    """Ask a person what to do with a step whose attempts are spent."""
    step = d.st.steps[key]
    part = f"escalate{step.attempt}"
    step_failure = msgspec.to_builtins(failure)
    d.emit(ev.WaitStarted(step=key, kind="approval", name=ticket_id(d, key, part)))
    open_ticket(
        d, key, "escalation", part, f"Step {key!r} failed: {failure.message}",
        {"failure": step_failure, "attempts": step.attempt, "choices": ["retry", "skip", "fail"]},
    )


def open_ticket(
    d: Draft, key: str, kind: str, part: str, message: str, data: dict[str, Any], *, call: str = "",
    expires_at: int = 0, terms: Terms | None = None,
) -> str:
    """Open a question to a person and return its id."""
    ticket = ticket_id(d, key, part)
    d.emit(
        ev.TicketOpened(
            ticket=ticket, kind=kind, step=key, message=message, call=call, data=data, expires_at=expires_at, terms=terms,
        )
    )
    return ticket


def ticket_id(d: Draft, key: str, part: str) -> str:
    """Return the id of a step's ticket: derived, so that deciding twice opens one ticket."""
    group = d.st.steps[key].group
    return "tk-" + sha256(f"{d.st.id}/{key}/{group}/{part}".encode()).hexdigest()[:20]


def idempotency_key(d: Draft, key: str, call: str = "") -> str:
    """Return the key an effect is made under: the same over takeovers and retries, new after a fresh redrive."""
    group = d.st.steps[key].group
    base = f"{d.st.id}/{key}/{group}" if group else f"{d.st.id}/{key}"
    return f"{base}/{call}" if call else base


def keep(d: Draft, value: Any) -> Raw:
    """Return a value's journal form; a large one is stored with the record."""
    out, body = pack(value)
    if body is not None:
        d.store(_digest(out), body)
    return out


def _digest(out: Raw) -> str:
    return msgspec.json.decode(out)["$blob"]
