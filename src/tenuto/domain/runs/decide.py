"""What follows from an input: the pure core.

`decide` reads a state, a plan, an input and the time, and answers with events and effects. It has no clock, no
randomness and no I/O; deciding twice from equal states gives equal answers. The state passed in belongs to the
decision: it comes back with the events folded in, which spares a copy per step. Callers build on it only once the
record is durable, and throw it away when the record was refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenuto.domain.base.values import blob_digest
from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs import calls, funds, patches, respond
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.children import start_child
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.failure import (
    attempt_failed,
    cancel_step,
    effect_of,
    failure_of,
    lose_calls,
    outcome_unknown,
    step_failed,
    worker_lost,
)
from tenuto.domain.runs.settle import complete, recall, settle
from tenuto.domain.runs.state import ENDED, RunState, suspended
from tenuto.errors import TenutoError


def decide(st: RunState, plan: Plan, inputs: Iterable[io.Input], now: int, env: io.Env) -> io.Decision:
    """Return what follows from some inputs that are handled together, in order; time passes after all else.

    Args:
        now: Store time in ms; a time before the newest record counts as that record's.

    Raises:
        NeedValues: A stored value is not at hand. The state is spoilt: rebuild it, load the values, decide again.
    """
    d = Draft(st, plan, max(now, st.t), env)
    for inp in inputs:
        HANDLERS[type(inp)](d, inp)
    if d.ticking:
        respond.tick(d)
    if d.releasing:
        _give_back(d)
    settle(d)
    if d.out.events or d.out.eaten:
        st.t = d.t
        for key in d.out.keys:
            st.seen[key] = 1
    return d.out


def pending(st: RunState) -> list[str]:
    """Return the steps whose attempt has begun but whose code must (still) be running: what a new owner starts."""
    if st.status in ENDED or st.status == "cancelling":
        return []
    return [
        key for key, step in st.steps.items()
        if step.status == "running" and key not in st.maps and not step.task and not suspended(step)
    ]


# --- ownership -------------------------------------------------------------------------------------------------


def _begin(d: Draft, inp: io.Begin) -> None:
    st = d.st
    lost = inp.lost
    if not lost and _left_without_word(st):
        lost = True
        d.emit(ev.LeaseTaken(epoch=inp.epoch, by=inp.worker, from_=st.worker))
    d.emit(ev.Claimed(worker=inp.worker, epoch=inp.epoch))
    if st.status == "queued":
        d.emit(ev.RunStarted())
        return
    if st.status in ENDED:
        return
    for key in [key for key, step in st.steps.items() if step.status == "running"]:
        _take_up(d, key, lost=lost)


def _left_without_word(st: RunState) -> bool:
    """Say whether the former owner neither ended nor interrupted what it ran, though the run was free to be claimed.

    So it is where the engine stopped the run, or where a worker that had taken the run over could not go on with it.
    """
    return st.status not in ENDED and any(
        step.status == "running" and key not in st.maps and not step.task and not suspended(step)
        for key, step in st.steps.items()
    )


def _take_up(d: Draft, key: str, *, lost: bool) -> None:
    """Go on with a step the former owner had begun."""
    step = d.st.steps[key]
    if d.st.status == "cancelling":
        cancel_step(d, key, "cancelled")
    elif suspended(step):
        return
    elif key in d.st.maps or step.task:
        return
    elif lost:
        worker_lost(d, key)
    else:
        d.out.start.append(key)


def _release(d: Draft, inp: io.Release) -> None:
    d.releasing = True


def _give_back(d: Draft) -> None:
    """Interrupt what runs, once everything else is decided: nothing starts here any more."""
    d.out.start.clear()
    d.out.wake.clear()
    d.st.begun.clear()
    for key, step in list(d.st.steps.items()):
        if step.status == "running" and not step.task and not suspended(step) and key not in d.st.maps:
            d.out.stop.append(key)
            if d.st.status == "cancelling":
                cancel_step(d, key, "cancelled")
                continue
            lose_calls(d, key, "the worker shut down")
            if effect_of(d.node(key)) == "effect":
                outcome_unknown(d, key, "the worker shut down")
            else:
                d.emit(ev.AttemptInterrupted(step=key, n=step.attempt))


# --- outcomes of attempts --------------------------------------------------------------------------------------


def _succeeded(d: Draft, inp: io.Succeeded) -> None:
    if calls.current(d, inp.step, inp.n) is None:
        return
    if inp.blob is not None:
        d.store(blob_digest(inp.blob), inp.blob)
    if d.st.ledger.grants:
        lose_calls(d, inp.step, "its step ended without waiting for it")
    complete(d, inp.step, inp.out, queued_ms=inp.queued_ms, took_ms=inp.took_ms, cache=inp.cache)


def _recalled(d: Draft, inp: io.Recalled) -> None:
    if calls.current(d, inp.step, inp.n) is None:
        return
    for kept in inp.kept.values():
        if kept.blob is not None:
            d.store(blob_digest(kept.blob), kept.blob)
    if inp.group:
        d.recalled = [*(d.recalled or ()), inp]
    recall(d, inp.step, inp)


def _errored(d: Draft, inp: io.Errored) -> None:
    if calls.current(d, inp.step, inp.n) is None:
        return
    if d.st.status == "cancelling":
        cancel_step(d, inp.step, "cancelled", begun=inp.failure.unknown)
    elif inp.lost:
        worker_lost(d, inp.step)
    else:
        attempt_failed(d, inp.step, inp.failure)


def _stopped(d: Draft, inp: io.Stopped) -> None:
    if calls.current(d, inp.step, inp.n) is not None:
        cancel_step(d, inp.step, "cancelled", begun=inp.begun)


def _map_items(d: Draft, inp: io.MapItems) -> None:
    if calls.current(d, inp.step, inp.n) is None:
        return
    if inp.blob is not None:
        d.store(blob_digest(inp.blob), inp.blob)
    d.emit(ev.MapOpened(step=inp.step, items=inp.items, count=inp.count))


def _child_asked(d: Draft, inp: io.ChildAsked) -> None:
    if calls.current(d, inp.step, inp.n) is None:
        return
    if inp.blob is not None:
        d.store(blob_digest(inp.blob), inp.blob)
    try:
        start_child(d, inp)
    except TenutoError as exc:
        step_failed(d, inp.step, failure_of(exc))


def _tick(d: Draft, inp: io.Tick) -> None:
    d.ticking = True


HANDLERS: dict[type[Any], Any] = {
    io.Refused: funds.no_room,
    io.Warned: funds.warn,
    io.Begin: _begin,
    io.Release: _release,
    io.Tick: _tick,
    io.Succeeded: _succeeded,
    io.Recalled: _recalled,
    io.Errored: _errored,
    io.Stopped: _stopped,
    io.MapItems: _map_items,
    io.ChildAsked: _child_asked,
    io.CallAsked: calls.ask_call,
    io.WaitAsked: calls.ask_wait,
    io.PatchAsked: patches.asked,
    io.CallDone: calls.call_done,
    io.CallBroke: calls.call_broke,
    io.CallSettled: calls.call_settled,
    io.Arrived: respond.respond,
}
