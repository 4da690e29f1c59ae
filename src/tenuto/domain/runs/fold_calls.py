"""How calls, durable waits, signals and money change the state. Part of folding: mechanical and in place."""

from __future__ import annotations

from tenuto.domain.budgets.ledger import Amounts, minus, plus
from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.events import Failure
from tenuto.domain.runs.state import Call, RunState, Signal, Step


def listener(step: str, call: str) -> str:
    """Return the name under which a step, or a call inside it, waits."""
    return f"{step}|{call}" if call else step


def intended(st: RunState, plan: Plan, e: ev.CallIntended, t: int) -> None:
    """Remember a call that is about to be made, and hold its upper bound."""
    st.steps[e.step].calls[e.call] = Call(
        kind=e.kind, digest=e.digest, hold=e.hold, key=e.key, name=e.name, effect=e.effect, on_unknown=e.on_unknown,
        grant=e.grant, final=e.final,
    )
    st.ledger.grants = max(st.ledger.grants, e.grant)
    hold(st, e.hold)


def completed(st: RunState, plan: Plan, e: ev.CallCompleted, t: int) -> None:
    """Keep a call's result and settle its reservation."""
    step = st.steps[e.step]
    call = step.calls.get(e.call)
    if call is None:
        call = step.calls[e.call] = Call(kind=e.kind, digest=e.digest, name=e.name)
    call.status = "done"
    call.out = e.out
    settle(st, call.hold, e.used)
    call.hold = None


def failed(st: RunState, plan: Plan, e: ev.CallFailed, t: int) -> None:
    """Forget a failed call, so that it can be made again, or keep a final failure; settle what it cost."""
    calls = st.steps[e.step].calls
    call = calls.pop(e.call, None)
    settle(st, call.hold if call else None, e.used)
    if e.final:
        calls[e.call] = Call(kind=e.kind, status="failed", digest=e.digest, failure=e.failure, name=e.name, final=True)


def unknown(st: RunState, plan: Plan, e: ev.CallUnknown, t: int) -> None:
    """Count the whole reservation of a lost call as spent until its outcome is known."""
    call = st.steps[e.step].calls[e.call]
    if call.status == "unknown":
        return
    call.status = "unknown"
    if call.hold is not None:
        settle(st, call.hold, call.hold)
        st.ledger.unknown = plus(st.ledger.unknown, call.hold)
        if call.grant:
            st.ledger.lost[call.grant] = call.hold


def resolved(st: RunState, plan: Plan, e: ev.CallResolved, t: int) -> None:
    """Give a lost call the outcome somebody established, or clear it for another try with the same key."""
    step = st.steps[e.step]
    call = step.calls[e.call]
    held = call.hold
    if e.resolution == "succeeded":
        call.status, call.out = "done", e.out
    elif e.resolution == "failed" and call.final:
        call.status, call.failure = "failed", Failure(code="call.lost", message="it did not take effect")
    else:
        step.calls.pop(e.call)
    if held is not None and e.used is not None:
        ledger = st.ledger
        ledger.unknown = minus(ledger.unknown, held)
        ledger.spent = plus(minus(ledger.spent, held), e.used)
        if held.tool:
            change = e.used.tool_calls - held.tool_calls
            ledger.spent_per_tool[held.tool] = ledger.spent_per_tool.get(held.tool, 0) + change
        ledger.lost.pop(call.grant, None)
    call.hold = None


def refused(st: RunState, plan: Plan, e: ev.FundsRefused, t: int) -> None:
    """Let a call wait for room under a cap that many runs share."""
    st.steps[e.step].calls[e.call] = Call(
        kind="funds", status="waiting", digest=e.digest, name=e.scope or e.period, until=e.until, since=e.since
    )


def returned(st: RunState, plan: Plan, e: ev.FundsReturned, t: int) -> None:
    """Let a call ask for room again, or fail where somebody decided that it is not to be made."""
    call = st.steps[e.step].calls[e.call]
    call.status, call.failure = ("asking", None) if e.failure is None else ("failed", e.failure)


def money_resolved(st: RunState, plan: Plan, e: ev.MoneyResolved, t: int) -> None:
    """Count what a lost call did cost instead of what it might have cost."""
    ledger = st.ledger
    held = ledger.lost.pop(e.grant, None)
    if held is None:
        return
    ledger.unknown = minus(ledger.unknown, held)
    ledger.spent = plus(minus(ledger.spent, held), e.used)
    for step in st.steps.values():
        for call in step.calls.values():
            if call.grant == e.grant and call.status == "unknown":
                call.hold = None


def begin_wait(st: RunState, step: Step, e: ev.WaitStarted) -> None:
    """Let a call inside a step wait durably."""
    step.calls[e.call] = Call(kind=e.kind, status="waiting", name=e.name, until=e.until, reason=e.reason)
    if e.until:
        st.timers[f"c|{e.step}|{e.call}"] = e.until
    if e.kind == "signal":
        st.listeners.setdefault(e.name, []).append(listener(e.step, e.call))


def wait_ended(st: RunState, plan: Plan, e: ev.WaitEnded, t: int) -> None:
    """Give a waiting call its value."""
    call = st.steps[e.step].calls[e.call]
    end_wait(st, e.step, e.call, call.kind, call.name)
    call.status, call.out, call.timed_out = "done", e.out, e.timed_out


def end_wait(st: RunState, step: str, call: str, kind: str, name: str) -> None:
    """Stop listening and stop the clock of a wait."""
    st.timers.pop(f"c|{step}|{call}" if call else "w|" + step, None)
    if kind == "signal" and name in st.listeners:
        waiting = st.listeners[name]
        who = listener(step, call)
        if who in waiting:
            waiting.remove(who)
        if not waiting:
            del st.listeners[name]


def drop_unfinished(st: RunState, key: str, step: Step) -> None:
    """Close what a step that ended had open: waits stop, reservations of unmade calls return."""
    gone: list[str] = []
    for name, call in step.calls.items():
        if call.status == "waiting":
            end_wait(st, key, name, call.kind, call.name)
            gone.append(name)
        elif call.status == "open":
            settle(st, call.hold, None)
            gone.append(name)
    for name in gone:
        del step.calls[name]


def queue_signal(st: RunState, e: ev.SignalReceived) -> None:
    """Put a signal at the end of its line."""
    st.signals.setdefault(e.name, []).append(Signal(key=e.key, payload=e.payload))


def take_signal(st: RunState, name: str) -> None:
    """Remove the first signal of a name."""
    line = st.signals[name]
    line.pop(0)
    if not line:
        del st.signals[name]


def hold(st: RunState, ask: ev.Charge | None) -> None:
    """Reserve an upper bound."""
    if ask is None:
        return
    ledger = st.ledger
    ledger.held = plus(ledger.held, ask)
    if ask.tool:
        ledger.held_per_tool[ask.tool] = ledger.held_per_tool.get(ask.tool, 0) + ask.tool_calls


def settle(st: RunState, held: ev.Charge | None, used: ev.Charge | None) -> None:
    """Return a reservation and count what was really used (`None` = nothing)."""
    ledger = st.ledger
    if held is not None:
        ledger.held = minus(ledger.held, held)
        if held.tool:
            _add(ledger.held_per_tool, held.tool, -held.tool_calls)
    if used is not None:
        ledger.spent = plus(ledger.spent, Amounts(used.tokens, used.tool_calls, used.cost_usd_micros))
        tool = used.tool or (held.tool if held else "")
        if tool:
            _add(ledger.spent_per_tool, tool, used.tool_calls)


def _add(counts: dict[str, int], name: str, change: int) -> None:
    value = counts.get(name, 0) + change
    if value:
        counts[name] = value
    else:
        counts.pop(name, None)


def warned(st: RunState, plan: Plan, e: ev.BudgetWarned, t: int) -> None:
    """Remember that a cap's warning was given; those of shared caps are remembered with the caps."""
    if not e.window:
        st.ledger.warned.append(e.cap)


def overrun(st: RunState, plan: Plan, e: ev.Overrun, t: int) -> None:
    """Remember usage above an upper bound."""
    st.ledger.overrun[e.cap] = st.ledger.overrun.get(e.cap, 0) + e.amount


