"""Folding a journal into a state: the only code that changes a `RunState`.

The state is changed in place and belongs to the caller; a copy of 10,000 steps per event would make long runs
quadratic. Folding is mechanical: what an event says happens, and edges resolve by counting. Everything that
needs judgement (conditions, retries, what a loop does next) was decided before and is in the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import fold_calls, fold_graph, fold_patches
from tenuto.domain.runs.events_tickets import Vote
from tenuto.domain.runs.state import Call, RunState, Step, Ticket, Wait
from tenuto.domain.runs.transitions import run_status, step_status

CANCEL_GRACE_MS = 10_000
UNSEEN = ev.Failure(
    code="attempt.cancelled", type="Cancelled", unknown=True, retryable=False,
    message="cut off while its code ran; whether it took effect is not known",
)
Fold = Callable[[RunState, Plan, Any, int], None]


def fold(st: RunState, plan: Plan, event: ev.Event, t: int) -> Plan:
    """Apply one event that happened at `t`, and return the plan the run goes by from there on.

    Raises:
        IllegalTransition: The event cannot follow this state; the journal is corrupt or the engine is wrong.
    """
    if type(event) is ev.PatchApplied:
        return fold_patches.applied(st, plan, event, t)
    FOLDS[type(event)](st, plan, event, t)
    return plan


def fold_body(st: RunState, plan: Plan, body: ev.Body) -> Plan:
    """Apply one record: its time, its messages, its events. Position and chain are set by the caller.

    Returns:
        The plan that the run goes by from there on: the same one, unless the record changes the graph.
    """
    t = st.t = body.t
    for key in body.inbox:
        st.seen[key] = 1
    for event in body.ev:
        if type(event) is ev.PatchApplied:
            plan = fold_patches.applied(st, plan, event, t)
        else:
            FOLDS[type(event)](st, plan, event, t)
    if st.ended or st.begun:
        fold_graph.forget_marks(st)
    return plan


# --- the run ---------------------------------------------------------------------------------------------------


def _created(st: RunState, plan: Plan, e: ev.RunCreated, t: int) -> None:
    st.ns, st.workflow, st.digest, st.input = e.ns, e.workflow, e.digest, e.input
    st.goal, st.priority, st.labels, st.fidelity = e.goal, e.priority, dict(e.labels), e.fidelity
    st.parent, st.fork, st.by, st.start_at = e.parent, e.fork, e.by, e.start_at
    st.shadow, st.traceparent = e.shadow, e.traceparent
    st.ledger.caps = e.budget
    st.created_at = t


def _claimed(st: RunState, plan: Plan, e: ev.Claimed, t: int) -> None:
    st.worker, st.epoch = e.worker, e.epoch


def _lease_taken(st: RunState, plan: Plan, e: ev.LeaseTaken, t: int) -> None:
    st.worker, st.epoch = e.by, e.epoch


def _started(st: RunState, plan: Plan, e: ev.RunStarted, t: int) -> None:
    st.status = run_status(ev.RunStarted, st.status)
    st.started_at = t
    caps = st.ledger.caps
    if caps is not None and caps.wall_clock_s is not None:
        st.deadline = st.timers["d"] = t + int(caps.wall_clock_s * 1000)
    fold_graph.open_region(st, plan, 0, "", t)


def _paused(st: RunState, plan: Plan, e: ev.PauseRequested, t: int) -> None:
    st.paused_from, st.held_at = st.status, t
    st.status = run_status(ev.PauseRequested, st.status)
    st.reason = e.reason


def _resumed(st: RunState, plan: Plan, e: ev.Resumed, t: int) -> None:
    st.status = run_status(ev.Resumed, st.status)
    st.reason = ""
    fold_graph.recheck_maps(st)


def _cancelling(st: RunState, plan: Plan, e: ev.CancelRequested, t: int) -> None:
    st.status = run_status(ev.CancelRequested, st.status)
    st.reason, st.held_at = e.reason, t
    st.timers["g"] = t + CANCEL_GRACE_MS


def _ended(st: RunState, t: int) -> None:
    st.finished_at = t
    st.timers.clear()
    st.listeners.clear()


def _completed_run(st: RunState, plan: Plan, e: ev.RunCompleted, t: int) -> None:
    st.status = run_status(ev.RunCompleted, st.status)
    st.output = e.output
    _ended(st, t)


def _failed_run(st: RunState, plan: Plan, e: ev.RunFailed, t: int) -> None:
    st.status = run_status(ev.RunFailed, st.status)
    st.failure = e.failure
    _ended(st, t)


def _cancelled_run(st: RunState, plan: Plan, e: ev.RunCancelled, t: int) -> None:
    st.status = run_status(ev.RunCancelled, st.status)
    _ended(st, t)


def _exceeded(st: RunState, plan: Plan, e: ev.RunExceeded, t: int) -> None:
    st.status = run_status(ev.RunExceeded, st.status)
    st.failure = ev.Failure(code="budget.limit", message=e.message, retryable=False, details={"cap": e.cap})
    _ended(st, t)


def _reopened(st: RunState, plan: Plan, e: ev.RunReopened, t: int) -> None:
    st.status = run_status(ev.RunReopened, st.status)
    st.failure = None
    st.finished_at = 0
    if e.budget is not None:
        st.ledger.caps = e.budget
        if e.budget.wall_clock_s is not None:
            st.deadline = st.started_at + int(e.budget.wall_clock_s * 1000)
    if st.deadline:
        st.timers["d"] = st.deadline
    for key, step in st.steps.items():
        if step.status == "cancelled" and step.how == "stopped":
            if fold_graph.item_scope(plan, key):
                continue  # the map begins its unfinished items anew
            if key in st.maps:
                fold_graph.reopen_map(st, key, fresh=False)
            step.status, step.how = "ready", ""
            step.finished_at = 0
            st.ready[key] = 1
            st.active += 1
    fold_graph.recheck_maps(st)


def _retried(st: RunState, plan: Plan, e: ev.RunRetried, t: int) -> None:
    st.tries = e.n
    st.timers["a"] = e.retry_at


def _diverged(st: RunState, plan: Plan, e: ev.DivergenceFound, t: int) -> None:
    st.divergences += 1


# --- attempts and outcomes -------------------------------------------------------------------------------------


def _attempt(st: RunState, plan: Plan, e: ev.AttemptStarted, t: int) -> None:
    step = st.steps[e.step]
    step.status = step_status(ev.AttemptStarted, step.status, e.step)
    step.attempt = e.n
    step.started_at = t
    step.task = e.task
    if e.step in st.maps:
        st.ended[e.step] = 1
    step.retry_at = 0
    if st.ready.pop(e.step, None) is None:
        st.timers.pop("r|" + e.step, None)
        step.wait = None


def _attempt_failed(st: RunState, plan: Plan, e: ev.AttemptFailed, t: int) -> None:
    step = st.steps[e.step]
    step.status = step_status(ev.AttemptFailed, step.status, e.step)
    step.fails += 1
    step.doubt = False
    step.failure = e.failure
    step.retry_at = st.timers["r|" + e.step] = e.retry_at
    step.wait = None
    fold_calls.drop_unfinished(st, e.step, step)


def _attempt_lost(st: RunState, plan: Plan, e: ev.AttemptLost, t: int) -> None:
    step = st.steps[e.step]
    step.status = step_status(ev.AttemptLost, step.status, e.step)
    step.losses += 1
    step.isolate = step.doubt = True


def _attempt_interrupted(st: RunState, plan: Plan, e: ev.AttemptInterrupted, t: int) -> None:
    step = st.steps[e.step]
    step.status = step_status(ev.AttemptInterrupted, step.status, e.step)
    st.ready[e.step] = 1
    if e.unknown:
        step.doubt = True
    if e.failure is not None:
        step.losses += 1
        step.failure = e.failure


def settle_step(st: RunState, plan: Plan, step: Step, key: str, status: str, t: int) -> None:
    """Leave a step in a status from which nothing happens by itself."""
    if step.status in ("ready", "running", "waiting", "retrying"):
        st.active -= 1
        if step.status == "ready":
            st.ready.pop(key, None)
        elif step.status == "retrying":
            st.timers.pop("r|" + key, None)
    step.status = status
    step.finished_at = t
    if key in st.maps:
        fold_graph.close_map(st, plan, key)
    if step.wait is not None:
        fold_calls.end_wait(st, key, "", step.wait.kind, step.wait.name)
        step.wait = None
    if step.calls:
        fold_calls.drop_unfinished(st, key, step)


def _completed(st: RunState, plan: Plan, e: ev.StepCompleted, t: int) -> None:
    key = e.step
    step = st.steps[key]
    settle_step(st, plan, step, key, step_status(ev.StepCompleted, step.status, key), t)
    step.out = e.out
    step.failure = None
    step.doubt = False
    step.queued_ms = e.queued_ms
    step.took_ms = e.took_ms
    step.cache = e.cache
    fold_graph.resolve_out(st, plan, key, step, e.taken, t)


def _reused(st: RunState, plan: Plan, e: ev.StepReused, t: int) -> None:
    step = st.steps[e.step]
    step_status(ev.StepReused, step.status, e.step)
    settle_step(st, plan, step, e.step, e.status, t)
    step.out = e.out
    step.how = e.how
    step.failure = e.failure
    if e.how == "item" and e.failure is not None:
        fold_graph.fail_item(st, plan, e.step, e.failure)
        return
    fold_graph.resolve_out(st, plan, e.step, step, e.taken, t)
    if e.how == "skip":
        step.leaf = False


def _failed(st: RunState, plan: Plan, e: ev.StepFailed, t: int) -> None:
    step = st.steps[e.step]
    settle_step(st, plan, step, e.step, step_status(ev.StepFailed, step.status, e.step), t)
    step.failure = e.failure
    step.doubt = e.failure.unknown
    step.how = e.how
    step.out = e.out
    if e.how == "item":
        fold_graph.fail_item(st, plan, e.step, e.failure)
    else:
        fold_graph.resolve_out(st, plan, e.step, step, e.taken, t)
        if e.how == "skip":
            step.leaf = False


def _dead(st: RunState, plan: Plan, e: ev.StepDeadLettered, t: int) -> None:
    step = st.steps[e.step]
    settle_step(st, plan, step, e.step, step_status(ev.StepDeadLettered, step.status, e.step), t)
    step.failure = e.failure
    step.doubt = e.failure.unknown
    step.leaf = False
    st.ended.pop(split_key(e.step)[1], None)
    st.dead.append(e.step)


def _skipped(st: RunState, plan: Plan, e: ev.StepSkipped, t: int) -> None:
    st.to_skip.pop(e.step, None)
    step = st.steps[e.step] = Step(status="skipped", finished_at=t)
    fold_graph.resolve_out(st, plan, e.step, step, (), t)
    step.leaf = False


def _cancelled(st: RunState, plan: Plan, e: ev.StepCancelled, t: int) -> None:
    step = st.steps[e.step]
    settle_step(st, plan, step, e.step, step_status(ev.StepCancelled, step.status, e.step), t)
    step.how = e.reason
    step.out = e.out
    if e.unknown:
        step.doubt, step.failure = True, UNSEEN
    if e.reason == "loser":
        fold_graph.resolve_out(st, plan, e.step, step, (), t)
        step.leaf = False


def _redriven(st: RunState, plan: Plan, e: ev.StepRedriven, t: int) -> None:
    step = st.steps[e.step]
    if step.status == "retrying":
        st.timers.pop("r|" + e.step, None)
        st.active -= 1
    step.status = step_status(ev.StepRedriven, step.status, e.step)
    st.active += 1
    st.ready[e.step] = 1
    if e.step in st.dead:
        st.dead.remove(e.step)
        st.timers.pop("a", None)
    step.fails = step.losses = step.finished_at = step.retry_at = 0
    step.guidance = e.guidance
    if e.config is not None:
        step.config = {**(step.config or {}), **e.config}
    if e.fresh:
        step.group += 1
        step.calls = {}
        step.doubt = False
    elif step.calls:
        step.calls = {name: call for name, call in step.calls.items() if call.status != "failed"}
    if e.step in st.maps:
        fold_graph.reopen_map(st, e.step, fresh=e.fresh)


# --- waits, tickets, signals, children -------------------------------------------------------------------------


def _wait_started(st: RunState, plan: Plan, e: ev.WaitStarted, t: int) -> None:
    step = st.steps[e.step]
    if e.call:
        fold_calls.begin_wait(st, step, e)
        return
    step.status = step_status(ev.WaitStarted, step.status, e.step)
    if st.ready.pop(e.step, None) is not None:
        step.started_at = t
        step.attempt += 1
    step.wait = Wait(kind=e.kind, name=e.name, until=e.until, since=t)
    if e.until:
        st.timers["w|" + e.step] = e.until
    if e.kind == "signal":
        st.listeners.setdefault(e.name, []).append(e.step)


def _signal(st: RunState, plan: Plan, e: ev.SignalReceived, t: int) -> None:
    fold_calls.queue_signal(st, e)


def _signal_taken(st: RunState, plan: Plan, e: ev.SignalTaken, t: int) -> None:
    fold_calls.take_signal(st, e.name)


def _ticket(st: RunState, plan: Plan, e: ev.TicketOpened, t: int) -> None:
    st.tickets[e.ticket] = Ticket(
        kind=e.kind, step=e.step, message=e.message, call=e.call, expires_at=e.expires_at, opened_at=t, data=e.data,
        terms=e.terms,
    )
    if e.after:
        _renamed(st, e.step, e.call, e.after, e.ticket)
    if e.expires_at:
        st.timers["t|" + e.ticket] = e.expires_at
    if e.kind == "patch":
        st.patches[e.data["patch"]].ticket = e.ticket
    if e.kind == "unknown_outcome":
        _asked(st, e.step, e.call, True)


def _renamed(st: RunState, step: str, call: str, before: str, after: str) -> None:
    """Let whoever waits for a question wait for the one that took its place."""
    found = st.steps.get(step)
    waiting = None if found is None else found.calls.get(call) if call else found.wait
    if waiting is not None and waiting.name == before:
        waiting.name = after


def _ticket_voted(st: RunState, plan: Plan, e: ev.TicketVoted, t: int) -> None:
    vote = Vote(decision=e.decision, by=e.by, role=e.role, reason=e.reason, data=e.data, to=e.to)
    st.tickets[e.ticket].votes.append(vote)


def _asked(st: RunState, step: str, call: str, asked: bool) -> None:
    found = st.steps[step].calls.get(call) if step else None
    if found is not None:
        found.asked = asked


def _ticket_decided(st: RunState, plan: Plan, e: ev.TicketDecided, t: int) -> None:
    ticket = st.tickets[e.ticket]
    ticket.status, ticket.decision, ticket.by, ticket.reason = "decided", e.decision, e.by, e.reason
    _asked(st, ticket.step, ticket.call, False)
    if ticket.kind == "unknown_outcome" and not ticket.call:
        st.steps[ticket.step].doubt = False
    st.timers.pop("t|" + e.ticket, None)


def _ticket_closed(st: RunState, plan: Plan, e: ev.TicketClosed, t: int) -> None:
    ticket = st.tickets[e.ticket]
    ticket.status = "closed"
    _asked(st, ticket.step, ticket.call, False)
    st.timers.pop("t|" + e.ticket, None)


def _child(st: RunState, plan: Plan, e: ev.ChildStarted, t: int) -> None:
    st.children[e.run] = e.step
    step = st.steps[e.step]
    if not e.detach:
        step.status = step_status(ev.WaitStarted, step.status, e.step)
        step.wait = Wait(kind="child", name=e.run, since=t)
        step.calls["child"] = Call(kind="child", status="waiting", name=e.run, hold=e.hold)
        fold_calls.hold(st, e.hold)


def _loop_passed(st: RunState, plan: Plan, e: ev.LoopPassed, t: int) -> None:
    fold_graph.pass_loop(st, plan, e.scope, e.next, t, e.guidance)


def _map_opened(st: RunState, plan: Plan, e: ev.MapOpened, t: int) -> None:
    fold_graph.open_map(st, e)


def _unreachable(st: RunState, plan: Plan, e: ev.JoinUnreachable, t: int) -> None:
    fold_graph.fail_join(st, e.step, t)


def _items(st: RunState, plan: Plan, e: ev.ItemStarted, t: int) -> None:
    fold_graph.start_items(st, plan, e, t)


FOLDS: dict[type[Any], Fold] = {
    ev.RunCreated: _created,
    ev.Claimed: _claimed,
    ev.LeaseTaken: _lease_taken,
    ev.RunStarted: _started,
    ev.PauseRequested: _paused,
    ev.Resumed: _resumed,
    ev.CancelRequested: _cancelling,
    ev.RunCompleted: _completed_run,
    ev.RunFailed: _failed_run,
    ev.RunCancelled: _cancelled_run,
    ev.RunExceeded: _exceeded,
    ev.RunReopened: _reopened,
    ev.RunRetried: _retried,
    ev.DivergenceFound: _diverged,
    ev.AttemptStarted: _attempt,
    ev.AttemptFailed: _attempt_failed,
    ev.AttemptLost: _attempt_lost,
    ev.AttemptInterrupted: _attempt_interrupted,
    ev.StepCompleted: _completed,
    ev.StepReused: _reused,
    ev.StepFailed: _failed,
    ev.StepDeadLettered: _dead,
    ev.StepSkipped: _skipped,
    ev.StepCancelled: _cancelled,
    ev.StepRedriven: _redriven,
    ev.JoinUnreachable: _unreachable,
    ev.LoopPassed: _loop_passed,
    ev.MapOpened: _map_opened,
    ev.ItemStarted: _items,
    ev.WaitStarted: _wait_started,
    ev.WaitEnded: fold_calls.wait_ended,
    ev.SignalReceived: _signal,
    ev.SignalTaken: _signal_taken,
    ev.TicketOpened: _ticket,
    ev.TicketVoted: _ticket_voted,
    ev.TicketDecided: _ticket_decided,
    ev.TicketClosed: _ticket_closed,
    ev.ChildStarted: _child,
    ev.CallIntended: fold_calls.intended,
    ev.CallCompleted: fold_calls.completed,
    ev.CallFailed: fold_calls.failed,
    ev.CallUnknown: fold_calls.unknown,
    ev.CallResolved: fold_calls.resolved,
    ev.BudgetWarned: fold_calls.warned,
    ev.Overrun: fold_calls.overrun,
    ev.FundsRefused: fold_calls.refused,
    ev.FundsReturned: fold_calls.returned,
    ev.MoneyResolved: fold_calls.money_resolved,
    ev.PatchProposed: fold_patches.proposed,
    ev.PatchRejected: fold_patches.rejected,
}
