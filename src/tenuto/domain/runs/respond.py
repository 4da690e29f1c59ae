"""What messages and the clock do to a run."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import NULL
from tenuto.domain.budgets.ledger import Refused
from tenuto.domain.graph.people import ANYBODY, Escalate, Terms
from tenuto.domain.graph.plan import PlanNode
from tenuto.domain.runs import breaker, funds, patches, runaway
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.calls import exceed, resolve_call
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.events_tickets import Vote
from tenuto.domain.runs.failure import (
    INTERRUPTED,
    LOST,
    attempt_failed,
    begin,
    cancel_step,
    close_patches,
    effect_of,
    keep,
    outcome_unknown,
    step_failed,
    unhandled,
    worker_lost,
)
from tenuto.domain.runs.inputs import Arrived
from tenuto.domain.runs.people import body_of, escalated, outcome, refusal, shown_digest
from tenuto.domain.runs.routing import PUSHED_BACK
from tenuto.domain.runs.settle import complete, deliver
from tenuto.domain.runs.state import ACTIVE_STEP, STOPPED, TERMINAL, Ticket, suspended

UNFINISHED = ("running", "paused", "queued", "cancelling")


def respond(d: Draft, inp: Arrived) -> None:
    """Consume a message; a repeat, or one that comes too late, is consumed without effect."""
    d.out.eaten.append(inp.n)
    st = d.st
    if inp.key in st.seen or inp.key in d.out.keys:
        return
    d.out.keys.append(inp.key)
    if st.status in TERMINAL:
        return
    RESPONSES[type(inp.message)](d, inp.message, inp.key)


def _signal(d: Draft, m: msg.Signal, key: str) -> None:
    d.emit(ev.SignalReceived(name=m.name, key=key, payload=m.payload, by=m.by))
    if d.st.status in ("running", "paused"):
        deliver(d, m.name)


def _cancel(d: Draft, m: msg.Cancel, key: str) -> None:
    st = d.st
    if st.status == "cancelling":
        return
    d.emit(ev.CancelRequested(by=m.by, reason=m.reason))
    for name in [k for k, s in st.steps.items() if s.status in ACTIVE_STEP]:
        step = st.steps[name]
        if step.status == "running" and not step.task and not suspended(step) and name not in st.maps:
            d.out.stop.append(name)
        else:
            cancel_step(d, name, "cancelled")


def _pause(d: Draft, m: msg.Pause, key: str) -> None:
    if d.st.status in ("queued", "running"):
        d.emit(ev.PauseRequested(by=m.by, reason=m.reason))


def _resume(d: Draft, m: msg.Resume, key: str) -> None:
    st = d.st
    if st.status == "paused":
        breaker.close(d, "the run was resumed")
        d.emit(ev.Resumed(by=m.by))
    elif st.status in STOPPED:
        dead = list(st.dead)
        d.emit(ev.RunReopened(by=m.by, reason="resumed", budget=m.budget))
        for step in dead:
            d.emit(ev.StepRedriven(step=step, by=m.by))


def _redrive(d: Draft, m: msg.Redrive, key: str) -> None:
    st = d.st
    step = st.steps.get(m.step)
    if step is None or step.status not in ("dead_letter", "retrying"):
        return
    if st.status in STOPPED:
        d.emit(ev.RunReopened(by=m.by, reason=m.reason or f"step {m.step} was redriven"))
    if st.status == "cancelling":
        return
    d.emit(ev.StepRedriven(step=m.step, by=m.by, fresh=m.fresh, guidance=m.guidance, config=m.config))


def _child(d: Draft, m: msg.ChildEnded, key: str) -> None:
    step = d.st.steps.get(m.step)
    call = step.calls.get("child") if step is not None else None
    if step is None or call is None or call.name != m.run:
        return
    used = ev.Charge(tokens=m.tokens, tool_calls=m.tool_calls, cost_usd_micros=m.cost_usd_micros)
    if call.status == "unknown":
        d.emit(ev.CallResolved(step=m.step, call="child", resolution="succeeded", by="child", used=used))
        return
    if m.status == "completed":
        d.emit(ev.CallCompleted(step=m.step, call="child", kind="child", name=m.run, out=NULL, used=used))
        complete(d, m.step, m.output)
        return
    cause = m.failure or ev.Failure(code=f"child.{m.status}", message=f"the sub-flow's run {m.run} was {m.status}")
    failure = ev.Failure(
        code=f"child.{m.status}", type="ChildFailed", retryable=False,
        message=f"sub-flow run {m.run} ended as {m.status}: {cause.message}", details={"run": m.run},
    )
    d.emit(ev.CallFailed(step=m.step, call="child", failure=failure, used=used))
    step_failed(d, m.step, failure)


def _task(d: Draft, m: msg.TaskEnded, key: str) -> None:
    step = d.st.steps.get(m.step)
    if step is None or step.status != "running" or step.attempt != m.n:
        return
    if m.failure is not None and m.failure.code == LOST.code:
        worker_lost(d, m.step, m.worker)
    elif m.failure is not None and m.failure.code == INTERRUPTED.code:
        if effect_of(d.node(m.step)) == "effect":
            outcome_unknown(d, m.step, m.failure.message)
        else:
            d.emit(ev.AttemptInterrupted(step=m.step, n=m.n))
    elif m.failure is not None:
        attempt_failed(d, m.step, m.failure, m.worker)
    else:
        queued = max(0, m.began - step.started_at) if m.began else 0
        complete(d, m.step, m.out if m.out is not None else NULL, queued_ms=queued, took_ms=m.took_ms, worker=m.worker)


# --- tickets ---------------------------------------------------------------------------------------------------


def _decision(d: Draft, m: msg.Decision, key: str) -> None:
    ticket = d.st.tickets.get(m.ticket)
    if ticket is None or ticket.status != "open" or d.st.status not in UNFINISHED:
        return
    terms = ticket.terms or ANYBODY
    vote = Vote(decision=m.decision, by=m.by, role=m.role, reason=m.reason, data=m.data, to=m.to)
    if m.digest and m.digest != shown_digest(ticket.kind, ticket.message, body_of(ticket.data, ticket.terms)):
        _ask_anew(d, m.ticket, ticket, "the answer was to another question", ticket.terms, ticket.expires_at)
    elif any(one.by == m.by for one in ticket.votes):
        return
    elif why := refusal(ticket.kind, terms, ticket.votes, vote):
        _ask_anew(d, m.ticket, ticket, why, ticket.terms, ticket.expires_at)
    elif terms.quorum == terms.reject_quorum == 1:
        decide_ticket(d, m.ticket, ticket, vote, m.digest)
    else:
        d.emit(
            ev.TicketVoted(
                ticket=m.ticket, step=ticket.step, decision=m.decision, by=m.by, role=m.role, reason=m.reason, data=m.data,
                digest=m.digest, to=m.to,
            )
        )
        decision = outcome(terms, ticket.votes)
        if decision:
            decide_ticket(d, m.ticket, ticket, msgspec.structs.replace(vote, decision=decision), m.digest)


def _ask_anew(d: Draft, name: str, ticket: Ticket, why: str, terms: Terms | None, expires_at: int) -> None:
    """Put another question in the place of one."""
    if ticket.status == "open":
        d.emit(ev.TicketClosed(ticket=name, reason=why))
    d.emit(
        ev.TicketOpened(
            ticket="tk-" + sha256(f"{name}/anew".encode()).hexdigest()[:20], kind=ticket.kind, step=ticket.step,
            message=ticket.message, call=ticket.call, data=ticket.data, expires_at=expires_at, terms=terms, after=name,
        )
    )


def decide_ticket(d: Draft, name: str, ticket: Ticket, answer: Vote, digest: str = "") -> None:
    """Write an answer to an open ticket and let its step follow it."""
    decision, by, reason, data = answer.decision, answer.by, answer.reason, answer.data
    d.emit(
        ev.TicketDecided(
            ticket=name, decision=decision, by=by, reason=reason, data=data, role=answer.role, digest=digest, to=answer.to
        )
    )
    if ticket.kind == "patch":
        patches.decided(d, ticket, decision, by, reason)
        return
    if ticket.kind == breaker.KIND:
        _go_on(d, ticket, decision, by, reason)
        return
    step = d.st.steps[ticket.step]
    if ticket.kind == "unknown_outcome" and ticket.call:
        _resolve(d, ticket, decision, by, data)
    elif ticket.kind == "budget":
        funds.decided(d, ticket, decision, by, reason)
    elif ticket.call:
        call = step.calls.get(ticket.call)
        if call is not None and call.status == "waiting":
            out = keep(d, _answer(answer, ticket))
            d.emit(ev.WaitEnded(step=ticket.step, call=ticket.call, out=out))
            d.out.wake.append((ticket.step, ticket.call))
    elif step.status != "waiting":
        return
    elif ticket.kind == "approval":
        _approval(d, ticket, answer)
    else:
        _escalated(d, ticket, decision, reason, data)


def _go_on(d: Draft, ticket: Ticket, decision: str, by: str, reason: str) -> None:
    """Let a run that the breaker has paused go on, or end it."""
    if decision == "fail":
        for key in [key for key, step in d.st.steps.items() if step.status in ACTIVE_STEP]:
            cancel_step(d, key, "stopped")
        close_patches(d, "the run has failed")
        breaker.close(d, "the run has failed")
        runaway.give_up(d, ticket.data["what"], by, reason)
    elif decision == "cancel":
        _cancel(d, msg.Cancel(by=by, reason=reason or "too much at once"), "")
    elif d.st.status == "paused" and not breaker.is_open(d.st):
        d.emit(ev.Resumed(by=by))


def _answer(answer: Vote, ticket: Ticket) -> dict[str, Any]:
    found = {
        "decision": answer.decision, "approved": answer.decision == "approve", "reason": answer.reason, "data": answer.data,
        "by": answer.by,
    }
    if answer.to:
        found["to"] = answer.to
    if ticket.votes:
        found["votes"] = [{"decision": one.decision, "by": one.by, "reason": one.reason} for one in ticket.votes]
    return found


def _approval(d: Draft, ticket: Ticket, answer: Vote) -> None:
    key, decision, by, reason = ticket.step, answer.decision, answer.by, answer.reason
    out = keep(d, _answer(answer, ticket))
    node = d.node(key)
    if decision == "approve":
        complete(d, key, out)
    elif decision == "push_back":
        complete(d, key, out, outcome=PUSHED_BACK)
    elif any(edge.on == "rejected" for edge in node.out):
        complete(d, key, out, outcome="rejected")
    elif _reads_decision(node):
        complete(d, key, out)
    else:
        message = f"rejected by {by or 'somebody'}" + (f": {reason}" if reason else "")
        failure = ev.Failure(code="approval.rejected", type="ApprovalRejected", message=message, retryable=False)
        step_failed(d, key, failure)


def _reads_decision(node: PlanNode) -> bool:
    """Say whether the author routes on the decision by conditions instead of a `rejected` edge."""
    return any(edge.when and ("approved" in edge.when or "decision" in edge.when) for edge in node.out)


def _escalated(d: Draft, ticket: Ticket, decision: str, reason: str, data: Any) -> None:
    key = ticket.step
    if decision in ("retry", "approve"):
        begin(d, key)
    elif decision == "succeeded":
        complete(d, key, keep(d, data))
    elif decision == "skip":
        out = keep(d, None)
        node = d.node(key)
        taken = tuple(edge.index for edge in node.out if edge.on == "success" and not edge.when)
        failure = ev.Failure(code="step.skipped", message=reason or "skipped by a person", retryable=False)
        d.emit(ev.StepFailed(step=key, failure=failure, how="continue", out=out, taken=taken))
    else:
        found = ticket.data.get("failure")
        failure = msgspec.convert(found, ev.Failure) if found else None
        message = reason or (failure.message if failure else "failed by a person's decision")
        decided = ev.Failure(code="step.failed", type="Decided", message=message, retryable=False)
        if ticket.kind == "escalation":
            unhandled(d, key, decided)
        else:
            step_failed(d, key, decided)


def _resolve(d: Draft, ticket: Ticket, decision: str, by: str, data: Any) -> None:
    call = d.st.steps[ticket.step].calls.get(ticket.call)
    if call is None or call.status != "unknown":
        return
    out = keep(d, data) if decision == "succeeded" else Raw(b"null")
    resolve_call(d, ticket.step, ticket.call, call, decision, by, out)
    d.out.wake.append((ticket.step, ticket.call))


# --- the clock -------------------------------------------------------------------------------------------------


def tick(d: Draft) -> None:
    """Let everything happen that is due; while paused only the run's own deadline is.

    What ends waits needs to know that no message has come: it says so, and the store refuses it if one has.
    """
    st = d.st
    due = sorted((at, name) for name, at in st.timers.items() if at <= d.t)
    for _, name in due:
        if name not in st.timers:
            continue
        kind, _, rest = name.partition("|")
        before = len(d.out.events)
        if kind == "d":
            _deadline(d)
        elif kind == "g":
            _force(d)
        elif kind == "a" and st.status == "running":
            _again(d)
        elif st.status == "running" and kind in DUE:
            DUE[kind](d, rest)
        d.out.by_time = d.out.by_time or (kind in ENDS_WAITS and len(d.out.events) > before)


def _deadline(d: Draft) -> None:
    st = d.st
    if st.status not in ("running", "paused") or st.ledger.caps is None:
        st.timers.pop("d", None)
        return
    limit = st.ledger.caps.wall_clock_s or 0
    exceed(d, Refused("wall_clock_s", limit, (d.t - st.started_at) / 1000, 0, final=True))


def _force(d: Draft) -> None:
    """End a cancelled run whose attempts did not stop within the grace."""
    for key in [key for key, step in d.st.steps.items() if step.status in ACTIVE_STEP]:
        cancel_step(d, key, "cancelled")
    d.st.timers.pop("g", None)


def _again(d: Draft) -> None:
    """Send a failed run round again from where it stands, by its workflow's own policy."""
    st = d.st
    by = f"retry {st.tries} of the run"
    for step in list(st.dead):
        d.emit(ev.StepRedriven(step=step, by=by))


def _retry_due(d: Draft, key: str) -> None:
    begin(d, key)


def _wait_due(d: Draft, key: str) -> None:
    wait = d.st.steps[key].wait
    if wait is None:
        return
    if wait.kind == "signal":
        name = msgspec.json.encode(wait.name)
        out = Raw(b'{"signal":%b,"payload":null,"timed_out":true}' % name)
    else:
        out = Raw(b'{"waited_ms":%d}' % (d.t - wait.since))
    complete(d, key, out)


def _call_due(d: Draft, rest: str) -> None:
    step, _, call = rest.partition("|")
    kind = d.st.steps[step].calls[call].kind
    if kind == "approval":
        return
    d.emit(ev.WaitEnded(step=step, call=call, out=NULL, timed_out=kind == "signal"))
    d.out.wake.append((step, call))


def _ticket_due(d: Draft, name: str) -> None:
    ticket = d.st.tickets[name]
    rule = _on_timeout(d, ticket)
    reason = "nobody decided in time"
    if isinstance(rule, Escalate):
        terms = escalated(ticket.terms or ANYBODY, rule)
        asked = ", ".join(rule.escalate)
        d.emit(ev.TicketDecided(ticket=name, decision="escalate", by="timeout", reason=f"{reason}; {asked} are asked"))
        _ask_anew(d, name, ticket, "", terms, d.t + int(terms.timeout_s * 1000))
    else:
        decide_ticket(d, name, ticket, Vote(decision=rule, by="timeout", reason=reason))


def _on_timeout(d: Draft, ticket: Ticket) -> str | Escalate:
    if ticket.terms is not None:
        return ticket.terms.on_timeout
    # Asked before questions had terms, or on the usual ones.
    return "approve" if d.node(ticket.step).node.config.get("on_timeout") == "approve" else "reject"


ENDS_WAITS = frozenset({"d", "g", "w", "c", "t"})
DUE: dict[str, Any] = {"r": _retry_due, "w": _wait_due, "c": _call_due, "t": _ticket_due}
RESPONSES: dict[type[Any], Any] = {
    msg.Signal: _signal,
    msg.Decision: _decision,
    msg.Cancel: _cancel,
    msg.Pause: _pause,
    msg.Resume: _resume,
    msg.Redrive: _redrive,
    msg.ChildEnded: _child,
    msg.TaskEnded: _task,
    msg.Funds: funds.heard,
    msg.MoneySettled: funds.settled,
    msg.ProposePatch: patches.proposed,
    msg.ReviewPatch: patches.reviewed,
}
