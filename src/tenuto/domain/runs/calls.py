"""Calls inside a step: known results are given back, money is reserved first, intents precede effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.values import NULL, blob_digest
from tenuto.domain.budgets.ledger import CAPS, WARN_SHARE, Amounts, Refused, admit
from tenuto.domain.graph.people import terms_of
from tenuto.domain.runs import breaker
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.failure import cancel_step, idempotency_key, keep, open_ticket, ticket_id
from tenuto.domain.runs.funds import wait_for_room
from tenuto.domain.runs.settle import deliver
from tenuto.domain.runs.state import ACTIVE_STEP, Call, RunState, Step, in_shadow

LOST = ev.Failure(code="call.lost", type="CallLost", message="the call did not take effect")
STALE = ev.Failure(code="attempt.stale", type="Stale", message="this attempt is no longer the current one")
ASKS = ("approval", "review")
"""Kinds of waits that ask a person, and of the tickets they open."""
TWICE = ev.Failure(
    code="call.concurrent", type="CallConcurrent", retryable=False,
    message="two calls of one identity run at once; give each a `key`, or use `ctx.map`",
)


def current(d: Draft, step: str, n: int) -> Step | None:
    """Return a step whose running attempt is `n`, or `None`."""
    found = d.st.steps.get(step)
    if found is None or found.status != "running" or found.attempt != n:
        return None
    return found


def ask_call(d: Draft, inp: io.CallAsked) -> None:
    """Answer a step that is about to make a call."""
    step = current(d, inp.step, inp.n)
    if step is None or d.st.status not in ("running", "paused"):
        d.reply(inp.token, io.Broken(STALE))
        return
    call = step.calls.get(inp.call)
    if call is not None and not _again(d, inp, call):
        return
    if _suppressed(d, inp):
        return
    if inp.hold is not None and not _admit(d, inp):
        return
    if d.shorts is not None and (short := d.shorts.get((inp.step, inp.call))) is not None:
        wait_for_room(d, inp, short)
        return
    key = idempotency_key(d, inp.step, inp.call)
    if inp.effect == "effect" or inp.hold is not None or inp.slot:
        grant = 0
        if inp.slot or (inp.hold is not None and inp.hold.cost_usd_micros):
            grant, d.out.money = d.st.ledger.grants + 1, True
        d.emit(
            ev.CallIntended(
                step=inp.step, call=inp.call, kind=inp.kind, name=inp.name, key=key, digest=inp.digest,
                effect=inp.effect, on_unknown=inp.on_unknown, hold=inp.hold, grant=grant, slot=inp.slot, final=inp.final,
            )
        )
    d.reply(inp.token, io.Go(key))


def _again(d: Draft, inp: io.CallAsked, call: Call) -> bool:
    """Answer from what is known of the call; return whether it has to be made (again)."""
    if call.digest and inp.digest and call.digest != inp.digest:
        failure = ev.Failure(
            code="replay.diverged", type="CallDiverged", retryable=False,
            message=f"call {inp.call!r} of step {inp.step!r} was recorded with other arguments; "
            "give calls that differ between runs of the same code an explicit `key`",
        )
        d.reply(inp.token, io.Broken(failure))
    elif call.status == "done":
        d.reply(inp.token, io.Known(call.out if call.out is not None else NULL, call.timed_out))
    elif call.status == "waiting":
        d.reply(inp.token, io.Waiting())
    elif call.status == "asking":
        return True
    elif call.final and call.status == "failed":
        d.reply(inp.token, io.Broken(call.failure or LOST, final=True))
    elif call.failure is not None:
        d.reply(inp.token, io.Broken(call.failure))
    elif call.status == "open":
        d.reply(inp.token, io.Broken(TWICE))
    elif call.effect != "effect" or call.on_unknown == "retry":
        return True
    elif call.on_unknown in ("", "ask"):
        ask_about(d, inp.step, inp.call, call)
        d.reply(inp.token, io.Waiting())
    else:
        d.reply(inp.token, io.AskHook(call.on_unknown, call.key))
    return False


def ask_about(d: Draft, step: str, call_id: str, call: Call) -> None:
    """Ask a person what became of a call whose outcome was lost; asking twice opens one ticket."""
    part = f"call/{call_id}"
    known = d.st.tickets.get(ticket_id(d, step, part))
    if known is not None and known.status == "open":
        return
    if known is not None:
        part = f"{part}/{len(d.st.tickets)}"
    open_ticket(
        d, step, "unknown_outcome", part,
        f"Did {call.name or call_id!r} in step {d.plan.title(step)!r} take effect? Its outcome was lost.",
        {"key": call.key, "call": call_id, "choices": ["retry", "succeeded", "failed"]}, call=call_id,
    )


def _suppressed(d: Draft, inp: io.CallAsked) -> bool:
    """Answer an effect of a shadow replay without making it."""
    if not in_shadow(d.st) or inp.effect != "effect":
        return False
    d.emit(
        ev.CallCompleted(
            step=inp.step, call=inp.call, out=NULL, kind=inp.kind, name=inp.name, digest=inp.digest,
            meta={"shadow": True},
        )
    )
    d.reply(inp.token, io.Known(NULL))
    return True


def _admit(d: Draft, inp: io.CallAsked) -> bool:
    assert inp.hold is not None
    refused = refusal(d.st, inp.hold)
    if refused is None:
        return True
    if refused.final:
        exceed(d, refused, {inp.step: keep(d, inp.partial)} if inp.partial is not None else {})
        message = f"{refused.cap}: {refused.spent:,} spent + {refused.ask:,} asked > {refused.limit:,}"
        d.reply(inp.token, io.Broken(ev.Failure(code="budget.limit", type="BudgetExceeded", message=message)))
    else:
        d.reply(inp.token, io.Hold())
    return False


def refusal(st: RunState, ask: ev.Charge) -> Refused | None:
    """Say whether the run's caps have room for an ask."""
    ledger = st.ledger
    if ledger.caps is None:
        return None
    return admit(
        ledger.caps, ledger.spent, ledger.held, ask, ask.tool,
        ledger.spent_per_tool.get(ask.tool, 0), ledger.held_per_tool.get(ask.tool, 0),
    )


def exceed(d: Draft, refused: Refused, partial: Mapping[str, Raw] = {}) -> None:
    """Halt the run at a cap: everything in flight is cancelled, what is known is kept.

    Args:
        partial: What steps have come to so far, by key.
    """
    if d.st.status not in ("running", "paused"):
        return
    for key in [key for key, step in d.st.steps.items() if step.status in ACTIVE_STEP]:
        cancel_step(d, key, "stopped", out=partial.get(key))
    breaker.close(d, "the run has ended")
    what = refused.cap
    d.emit(
        ev.RunExceeded(
            cap=what, limit=refused.limit, ask=refused.ask, spent=refused.spent,
            message=f"{what} budget exceeded: {refused.spent:,} spent + {refused.ask:,} asked for, "
            f"the cap is {refused.limit:,}",
        )
    )


def _keep_blob(d: Draft, out: Raw, blob: bytes | None) -> None:
    if blob is not None:
        d.store(blob_digest(blob), blob)


def call_done(d: Draft, inp: io.CallDone) -> None:
    """Keep a call's result and settle its money; a late result of a lost call counts too."""
    step = d.st.steps.get(inp.step)
    call = step.calls.get(inp.call) if step is not None else None
    if step is None or d.st.status in ("completed", "cancelled"):
        d.reply(inp.token, io.Broken(STALE))
        return
    if call is not None and call.status == "unknown":
        _keep_blob(d, inp.out, inp.blob)
        d.emit(
            ev.CallResolved(
                step=inp.step, call=inp.call, resolution="succeeded", by="late outcome", out=inp.out, used=inp.used,
                meta=inp.meta, grant=call.grant,
            )
        )
        d.reply(inp.token, io.Known(inp.out))
        return
    if current(d, inp.step, inp.n) is None:
        d.reply(inp.token, io.Broken(STALE))
        return
    hold = call.hold if call is not None else None
    _keep_blob(d, inp.out, inp.blob)
    d.emit(
        ev.CallCompleted(
            step=inp.step, call=inp.call, out=inp.out, kind=inp.kind, name=inp.name, digest=inp.digest,
            used=inp.used, took_ms=inp.took_ms, meta=inp.meta, grant=call.grant if call is not None else 0,
        )
    )
    if inp.used is not None:
        _watch(d, hold, inp.used)
    d.reply(inp.token, io.Known(inp.out))


def _watch(d: Draft, hold: ev.Charge | None, used: ev.Charge) -> None:
    """Note overruns and warnings after money was spent; an overrun past a cap halts the run."""
    ledger = d.st.ledger
    caps = ledger.caps
    if caps is None:
        return
    bound = hold or Amounts()
    for cap in CAPS:
        limit = getattr(caps, cap)
        if limit is None:
            continue
        spent = getattr(ledger.spent, cap)
        over = min(getattr(used, cap) - getattr(bound, cap), spent + getattr(ledger.held, cap) - limit)
        if over > 0:
            d.emit(ev.Overrun(cap=cap, amount=over))
            exceed(d, Refused(cap, limit, spent, 0, final=True))
        elif spent >= WARN_SHARE * limit and cap not in ledger.warned:
            d.emit(ev.BudgetWarned(cap=cap, limit=limit, spent=spent))


def call_broke(d: Draft, inp: io.CallBroke) -> None:
    """Decide what a failed call means to its step's code."""
    step = current(d, inp.step, inp.n)
    if step is None:
        d.reply(inp.token, io.Broken(STALE))
        return
    call = step.calls.get(inp.call)
    if call is None and not inp.final:
        d.reply(inp.token, io.Broken(inp.failure))
        return
    if call is None or not inp.failure.unknown:
        d.emit(
            ev.CallFailed(
                step=inp.step, call=inp.call, failure=inp.failure, used=inp.used, kind=inp.kind, name=inp.name,
                digest=inp.digest if inp.final else "", final=inp.final, meta=inp.meta,
                grant=call.grant if call is not None else 0,
            )
        )
        d.reply(inp.token, io.Broken(inp.failure, final=inp.final))
        return
    d.emit(ev.CallUnknown(step=inp.step, call=inp.call, reason=inp.failure.message, grant=call.grant))
    if call.effect != "effect" or call.on_unknown == "retry":
        d.reply(inp.token, io.Broken(inp.failure))
    elif call.on_unknown in ("", "ask"):
        ask_about(d, inp.step, inp.call, call)
        d.reply(inp.token, io.Waiting())
    else:
        d.reply(inp.token, io.AskHook(call.on_unknown, call.key))


def call_settled(d: Draft, inp: io.CallSettled) -> None:
    """Apply what a status hook found out about a lost call."""
    step = d.st.steps.get(inp.step)
    call = step.calls.get(inp.call) if step is not None else None
    if call is None or call.status != "unknown":
        d.reply(inp.token, io.Broken(STALE))
        return
    _keep_blob(d, inp.out, inp.blob)
    resolve_call(d, inp.step, inp.call, call, inp.resolution, "status hook", inp.out)
    if inp.resolution == "succeeded":
        d.reply(inp.token, io.Known(inp.out))
    else:
        lost = msgspec.structs.replace(LOST, message=f"call {inp.call!r} did not take effect")
        d.reply(inp.token, io.Broken(lost, final=call.final and inp.resolution == "failed"))


def resolve_call(d: Draft, step: str, call_id: str, call: Call, resolution: str, by: str, out: Raw) -> None:
    """Write what became of a lost call; a call that did not happen gives its money back."""
    used: Any = call.hold if resolution == "succeeded" else None
    if resolution == "failed" and call.hold is not None:
        used = ev.Charge(tool=call.hold.tool)
    d.emit(
        ev.CallResolved(step=step, call=call_id, resolution=resolution, by=by, out=out, used=used, grant=call.grant)
    )


def ask_wait(d: Draft, inp: io.WaitAsked) -> None:
    """Let a step's code wait durably, or answer at once when the wait is over."""
    step = current(d, inp.step, inp.n)
    if step is None or d.st.status not in ("running", "paused"):
        d.reply(inp.token, io.Broken(STALE))
        return
    call = step.calls.get(inp.call)
    if call is not None and call.status in ("done", "waiting"):
        known = call.status == "done"
        d.reply(inp.token, io.Known(call.out or NULL, call.timed_out) if known else io.Waiting())
        return
    name, part = inp.name, f"call/{inp.call}"
    asks = inp.kind in ASKS
    if asks:
        if ticket_id(d, inp.step, part) in d.st.tickets:
            # An earlier attempt asked, and its question was closed with it: nobody could answer that one any more.
            part += f"/{inp.n}"
        name = ticket_id(d, inp.step, part)
    kind = "approval" if asks else inp.kind
    until = 0 if asks else inp.until  # a question has an end of its own, and may be put to others then
    d.emit(ev.WaitStarted(step=inp.step, call=inp.call, kind=kind, name=name, until=until, reason=inp.reason))
    if asks:
        open_ticket(
            d, inp.step, inp.kind, part, inp.message, inp.data, call=inp.call, expires_at=inp.until,
            terms=terms_of(inp.terms, d.st.by),
        )
    elif inp.kind == "signal":
        deliver(d, inp.name)
    elif inp.until <= d.t:
        d.emit(ev.WaitEnded(step=inp.step, call=inp.call, out=NULL))
    answer = d.st.steps[inp.step].calls[inp.call]
    if answer.status == "done":
        d.reply(inp.token, io.Known(answer.out or NULL, answer.timed_out))
    else:
        d.reply(inp.token, io.Waiting())
