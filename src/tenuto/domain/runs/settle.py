"""Following a record's consequences to their end: skips cascade, loops pass, maps advance, steps start, runs end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import NULL, TooLarge, digest_of
from tenuto.domain.graph.people import terms_of
from tenuto.domain.graph.plan import PlanNode, last_frame, split_key
from tenuto.domain.overlays.terms import agents_of
from tenuto.domain.runs import breaker
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.data import render, step_input
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.failure import (
    begin,
    cancel_step,
    cancel_within,
    close_patches,
    close_questions,
    effect_of,
    end_item,
    failure_of,
    keep,
    open_ticket,
    step_failed,
    ticket_id,
)
from tenuto.domain.runs.fold_graph import forget_marks, item_scope, open_items
from tenuto.domain.runs.inputs import Recalled
from tenuto.domain.runs.moments import moment_ms
from tenuto.domain.runs.origin import UNENDED, UNRECORDED, where_origin_stands
from tenuto.domain.runs.outputs import leaf_outputs, run_output
from tenuto.domain.runs.retry import delay_ms, may_retry
from tenuto.domain.runs.routing import PUSHED_BACK, route
from tenuto.domain.runs.runaway import may_step
from tenuto.domain.runs.state import ACTIVE_STEP, in_shadow
from tenuto.errors import InputMissing, RoutingFailed

UNREACHABLE = ev.Failure(
    code="join.unreachable", type="JoinUnreachable", retryable=False,
    message="too many incoming edges are dead for the quorum to be reached",
)
LOOP_LIMIT = "loop.limit"


def settle(d: Draft) -> None:
    """Write down everything that follows from the state, until nothing does."""
    st = d.st
    while True:
        if st.to_skip:
            d.emit(ev.StepSkipped(step=next(iter(st.to_skip))))
        elif st.to_fail:
            _unreachable(d, next(iter(st.to_fail)))
        elif st.ended and (st.status in ("running", "paused")) and _end_something(d):
            continue
        elif st.begun:
            key = next(iter(st.begun))
            del st.begun[key]
            if d.releasing:
                d.emit(ev.AttemptInterrupted(step=key, n=st.steps[key].attempt))
            else:
                d.out.start.append(key)
        elif st.ready and st.status == "running" and not d.releasing and may_step(d):
            start(d, next(iter(st.ready)))
        elif st.ready and st.status == "cancelling":
            cancel_step(d, next(iter(st.ready)), "cancelled")
        else:
            break
    if st.ended or st.begun:
        forget_marks(st)
    _end_run(d)


def _unreachable(d: Draft, key: str) -> None:
    d.emit(ev.JoinUnreachable(step=key))
    step_failed(d, key, UNREACHABLE)


def _end_something(d: Draft) -> bool:
    """Handle one ended region or one map that moved; return whether there was one."""
    st = d.st
    for name in st.ended:
        if name == "":
            continue
        if name.startswith("~"):
            _pass_loop(d, name)
            return True
        if st.status == "running" or _map_full(d, name):
            st.ended.pop(name)
            _advance_map(d, name)
            return True
    return False


def _map_full(d: Draft, key: str) -> bool:
    state = d.st.maps.get(key)
    return state is not None and state.done >= state.count


# --- loops -----------------------------------------------------------------------------------------------------


def _pass_loop(d: Draft, scope: str) -> None:
    """Decide what follows a finished pass: another one, the way out, or the limit."""
    st = d.st
    inst = st.regions[scope]
    region = d.plan.regions[inst.region]
    header, number = last_frame(scope)
    if not inst.back:
        d.emit(ev.LoopPassed(scope=scope, next=0))
        return
    if any(number < d.plan.edges[index].limit for index in inst.back):
        d.emit(ev.LoopPassed(scope=scope, next=number + 1, guidance=_advice(d, scope, inst.back)))
        return
    edges = [d.plan.edges[index] for index in inst.exits]
    if any(edge.on == "limit" for edge in edges):
        d.emit(ev.LoopPassed(scope=scope, next=-1))
    elif any(edge.on == "error" and edge.src == region.owner for edge in edges):
        d.emit(ev.LoopPassed(scope=scope, next=-2))
    else:
        failure = ev.Failure(
            code=LOOP_LIMIT, type="LoopLimit", retryable=False,
            message=f"the loop at {header!r} asked for another pass after {number}, its limit",
        )
        d.emit(ev.StepDeadLettered(step=header + scope, failure=failure, n=st.steps[header + scope].attempt))


def _advice(d: Draft, scope: str, back: Iterable[int]) -> str:
    """Return what people wrote who sent the run back to the head of a loop."""
    found: list[str] = []
    for edge in (d.plan.edges[index] for index in back):
        if edge.on != PUSHED_BACK:
            continue
        key = edge.src + scope
        said = [step.out for name, step in d.st.steps.items() if name == key or name.startswith(key + "~")]
        found += [d.env.load(out)["reason"] for out in said[-1:] if out is not None]
    return "\n".join(found)


# --- maps ------------------------------------------------------------------------------------------------------


def _advance_map(d: Draft, key: str) -> None:
    """Start the next items of a map, end it when all are done, or fail it by its policy."""
    st = d.st
    state, step = st.maps.get(key), st.steps.get(key)
    if state is None or step is None or step.status != "running":
        return
    node = d.node(key)
    if state.errors and 0 <= node.tolerate < len(state.errors):
        _fail_map(d, key, node)
        return
    if state.done == state.count:
        _complete_map(d, key, node)
        return
    limit = node.concurrency or state.count
    room = limit - (state.started - len(state.again) - state.done)
    for index in state.again[: max(0, room)]:
        d.emit(ev.ItemStarted(step=key, first=index, last=index))
    if state.again:
        return
    last = min(state.count, state.done + limit) - 1
    if last >= state.started:
        d.emit(ev.ItemStarted(step=key, first=state.started, last=last))


def _fail_map(d: Draft, key: str, node: PlanNode) -> None:
    errors = d.st.maps[key].errors
    index = min(errors)
    cause = errors[index]
    cancel_within(d, open_items(d.st, d.plan, key), "map failed")
    message = f"{len(errors)} of {d.st.maps[key].count} items failed; the first is item {index}: {cause.message}"
    failure = ev.Failure(
        code="map.item_failed", type="MapFailed", message=message, retryable=False,
        details={"items": sorted(errors)[:100], "cause": msgspec.to_builtins(cause)},
    )
    step_failed(d, key, failure)


def _complete_map(d: Draft, key: str, node: PlanNode) -> None:
    state = d.st.maps[key]
    values = [_item_output(d, key, node, index) for index in range(state.count)]
    try:
        out = keep(d, values)
    except TooLarge as exc:
        step_failed(d, key, ev.Failure(code="output.invalid", type="TooLarge", message=str(exc), retryable=False))
        return
    complete(d, key, out)


def _item_output(d: Draft, key: str, node: PlanNode, index: int) -> Any:
    """Return what an item yields: the output of its only node, or of the nodes no edge followed, by id."""
    error = d.st.maps[key].errors.get(index)
    if error is not None:
        return {"error": msgspec.to_builtins(error)}
    assert node.body is not None
    region = d.plan.regions[node.body]
    scope = f"{split_key(key)[1]}~{node.id}.{index}"
    if region.single:
        step = d.st.steps.get(region.single + scope)
        return None if step is None or step.out is None else d.env.load(step.out)
    leaves = leaf_outputs(d, scope, region.nodes)
    return next(iter(leaves.values())) if len(leaves) == 1 else leaves


# --- starting --------------------------------------------------------------------------------------------------


def start(d: Draft, key: str) -> None:
    """Begin a ready step as its kind asks."""
    st = d.st
    fork = st.fork
    if fork is not None and _take_over(d, key, fork.mode):
        return
    if d.recalled and any(recall(d, key, found) for found in d.recalled):
        return
    node = d.node(key)
    kind = node.node.kind
    if in_shadow(st) and effect_of(node) == "effect":
        _shadow(d, key)
    elif kind == "approval":
        _ask(d, key, node)
    elif kind == "wait":
        _wait(d, key, node)
    elif kind in ("join", "switch"):
        _pass_through(d, key)
    elif kind == "agent" and (failure := _crowded(d)) is not None:
        step_failed(d, key, failure)
    elif key in st.maps:
        d.emit(ev.AttemptStarted(step=key, n=st.steps[key].attempt + 1))
    else:
        begin(d, key)


def _take_over(d: Draft, key: str, mode: str) -> bool:
    """Take a step's outcome from the run that is replayed, when it is to be taken over."""
    fork = d.st.fork
    assert fork is not None
    reused = d.env.reuse.get(key)
    if reused is None:
        if mode == "freeze":
            d.emit(ev.DivergenceFound(step=key, expected=None, found="ready", what="no recorded outcome"))
            failure = ev.Failure(
                code="replay.diverged", type="ReplayDiverged", retryable=False,
                message=f"step {key!r} has no recorded outcome in run {fork.run}",
            )
            d.emit(ev.StepDeadLettered(step=key, failure=failure))
            return True
        return False
    if reused.status == "open":
        d.emit(ev.StepCancelled(step=key, reason=UNENDED))
        return True
    if reused.status == "dead_letter":
        d.emit(ev.StepDeadLettered(step=key, failure=reused.failure or UNRECORDED))
        return True
    if reused.status == "cancelled":
        d.emit(ev.StepCancelled(step=key, reason=reused.how))
        return True
    taken = reused.taken
    if mode == "freeze" and reused.status == "completed":
        try:
            taken = route(d, key, d.node(key), reused.output, _spoken_for(d, key, reused))
        except RoutingFailed as exc:
            d.emit(ev.DivergenceFound(step=key, expected=list(taken or ()), found=str(exc)))
    event = ev.StepReused(
        step=key, run=fork.run, seq=reused.seq, out=reused.output, status=reused.status, taken=taken, how=reused.how,
        failure=reused.failure,
    )
    if reused.how == "item":
        end_item(d, item_scope(d.plan, key), event)
    else:
        d.emit(event)
    return True


def _spoken_for(d: Draft, key: str, reused: ev.Reused) -> str:
    """Return which edges a recorded outcome speaks for: those of a rejected approval, or the usual ones."""
    node = d.node(key)
    if node.node.kind != "approval" or not any(edge.on in ("rejected", PUSHED_BACK) for edge in node.out):
        return "success"
    decision = d.env.load(reused.output).get("decision")
    if decision == "push_back":
        return PUSHED_BACK
    return "rejected" if decision == "reject" and any(edge.on == "rejected" for edge in node.out) else "success"


def _crowded(d: Draft) -> ev.Failure | None:
    """Return why no agent may begin: patches have made more of them than are allowed now."""
    if not d.st.overlays:
        return None
    agents = agents_of(d.plan.definition)
    most = max(d.env.surroundings().terms.of(d.plan.definition).max_agents, d.st.agents)
    if agents <= most:
        return None
    message = f"the graph has {agents} agents since it was patched; at most {most} are allowed"
    return ev.Failure(code="patch.agents", type="TooManyAgents", message=message, retryable=False)


def _shadow(d: Draft, key: str) -> None:
    """Let a step that would act on the world complete without doing so."""
    d.emit(ev.AttemptStarted(step=key, n=d.st.steps[key].attempt + 1))
    complete(d, key, NULL)


def _pass_through(d: Draft, key: str) -> None:
    try:
        out = keep(d, step_input(d.st, d.plan, d.env, key))
    except InputMissing as exc:
        step_failed(d, key, failure_of(exc))
        return
    complete(d, key, out)


def _ask(d: Draft, key: str, node: PlanNode) -> None:
    """Open an approval."""
    config = node.node.config
    try:
        message = render(d.st, d.plan, d.env, config.get("message", f"Approve {key}?"), key)
        shown = step_input(d.st, d.plan, d.env, key)
    except InputMissing as exc:
        step_failed(d, key, failure_of(exc))
        return
    timeout = config.get("timeout_s")
    expires = d.t + int(timeout * 1000) if timeout else 0
    part = f"approval{d.st.steps[key].attempt}"
    d.emit(ev.WaitStarted(step=key, kind="approval", name=ticket_id(d, key, part)))
    terms = terms_of(config, d.st.by, [edge.dst for edge in node.out if edge.on == PUSHED_BACK])
    open_ticket(d, key, "approval", part, str(message), {"input": shown}, expires_at=expires, terms=terms)


def _wait(d: Draft, key: str, node: PlanNode) -> None:
    """Begin a wait for a signal, a span of time or a moment."""
    config = node.node.config
    if "signal" in config:
        timeout = config.get("timeout_s")
        until = d.t + int(timeout * 1000) if timeout else 0
        name = config["signal"]
        d.emit(ev.WaitStarted(step=key, kind="signal", name=name, until=until))
        deliver(d, name)
        return
    try:
        seconds = render(d.st, d.plan, d.env, config.get("seconds", 0), key)
        moment = render(d.st, d.plan, d.env, config.get("until", 0), key)
        until = moment_ms(moment) if moment else d.t + int(float(seconds) * 1000)
    except (InputMissing, ValueError, TypeError) as exc:
        failure = ev.Failure(code="input.missing", type="BadWait", message=str(exc), retryable=False)
        step_failed(d, key, failure)
        return
    d.emit(ev.WaitStarted(step=key, kind="timer", until=max(until, d.t)))


def deliver(d: Draft, name: str) -> None:
    """Give queued signals of a name to those who wait for it, first come first served."""
    st = d.st
    while st.signals.get(name) and st.listeners.get(name):
        signal = st.signals[name][0]
        who, _, call = st.listeners[name][0].partition("|")
        d.emit(ev.SignalTaken(name=name, key=signal.key, step=who))
        if call:
            d.emit(ev.WaitEnded(step=who, call=call, out=signal.payload))
            d.out.wake.append((who, call))
        else:
            complete(d, who, _signalled(d, name, signal.payload))


def _signalled(d: Draft, name: str, payload: Raw) -> Raw:
    if digest_of(payload) is not None:  # a reference counts as one only at the top of a value
        return keep(d, {"signal": name, "payload": d.env.load(payload), "timed_out": False})
    return Raw(b'{"signal":%b,"payload":%b,"timed_out":false}' % (msgspec.json.encode(name), bytes(payload)))


def complete(
    d: Draft, key: str, out: Raw, *, outcome: str = "success", queued_ms: int = 0, took_ms: int = 0, worker: str = "",
    cache: ev.Cached | None = None,
) -> None:
    """Let a step's outcome stand and route on; a condition that cannot be evaluated fails the step instead."""
    step = d.st.steps[key]
    node = d.node(key)
    try:
        taken = None if node.plain and outcome == "success" else route(d, key, node, out, outcome)
    except RoutingFailed as exc:
        step_failed(d, key, failure_of(exc))
        return
    if step.calls:
        close_questions(d, key, "its step completed")
    d.emit(
        ev.StepCompleted(
            step=key, out=out, n=step.attempt or 1, taken=taken, queued_ms=queued_ms, took_ms=took_ms,
            worker=worker if worker != d.st.worker else "", cache=cache,
        )
    )
    if d.plan.cancels_losers:
        for edge in node.out if taken is None else [d.plan.edges[index] for index in taken]:
            _cancel_losers(d, edge.dst, key)


def recall(d: Draft, key: str, found: Recalled) -> bool:
    """Let what the cache had of a step stand as its outcome; return whether it had anything of it."""
    node, scope = split_key(key)
    kept = found.kept.get(node)
    if kept is None or scope != split_key(found.step)[1]:
        return False
    cache = ev.Cached(
        key=found.key, how="joined" if found.joined else "hit", group=found.group, saved_ms=kept.ms,
        saved_usd_micros=kept.usd_micros,
    )
    complete(d, key, kept.out, cache=cache)
    return True


def _cancel_losers(d: Draft, target: str, source: str) -> None:
    """Cancel the branches a fired `any` or quorum join did not wait for, where its author asks for it."""
    node = d.plan.nodes[target]
    if not node.node.cancel_losers:
        return
    scope = split_key(source)[1]
    join = d.st.joins.get(target + scope)
    if join is None or not join.fired or join.late:
        return
    for edge in d.plan.edges:
        if edge.dst == target and edge.index not in join.taken:
            step = d.st.steps.get(edge.src + scope)
            if step is not None and step.status in ACTIVE_STEP and edge.src + scope != source:
                cancel_step(d, edge.src + scope, "loser")


# --- the end ---------------------------------------------------------------------------------------------------


def _end_run(d: Draft) -> None:
    """End the run when nothing is ready, running or waiting."""
    st = d.st
    if st.active or st.ready:
        return
    if st.status == "cancelling":
        close_patches(d, "the run was cancelled")
        breaker.close(d, "the run was cancelled")
        d.emit(ev.RunCancelled(reason=st.reason))
    elif st.status == "running":
        if "" in st.ended:
            _complete_run(d)
        elif st.dead:
            first = st.steps[st.dead[0]].failure
            assert first is not None
            if _run_again(d, first):
                return
            failure = ev.Failure(
                code=first.code, type=first.type, message=f"step {d.plan.title(st.dead[0])!r}: {first.message}", retryable=False,
                details={"step": st.dead[0], "dead_letters": list(st.dead)},
            )
            d.emit(ev.RunFailed(failure=failure))
        elif st.fork is not None and st.fork.mode == "freeze":
            d.emit(ev.RunFailed(failure=where_origin_stands(st, st.fork)))
        else:
            failure = ev.Failure(
                code="run.no_progress", type="NoProgress", retryable=False,
                message="steps are left, but nothing is ready, running or waiting",
            )
            d.emit(ev.RunFailed(failure=failure))


def _run_again(d: Draft, failure: ev.Failure) -> bool:
    """Let a failed run wait for another try, where its workflow's policy has one left."""
    st, policy = d.st, d.plan.definition.retry
    if "a" in st.timers:
        return True
    if policy is None or not may_retry(policy, st.tries + 1, failure):
        return False
    at = d.t + delay_ms(policy, st.tries + 1, st.id, "run")
    d.emit(ev.RunRetried(n=st.tries + 1, failure=failure, retry_at=at))
    return True


def _complete_run(d: Draft) -> None:
    try:
        out = keep(d, run_output(d))
    except TooLarge as exc:
        d.emit(ev.RunFailed(failure=ev.Failure(code="output.invalid", message=str(exc), retryable=False)))
        return
    close_patches(d, "the run has ended")
    breaker.close(d, "the run has ended")
    d.emit(ev.RunCompleted(output=out))
