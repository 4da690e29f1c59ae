"""Sub-flows: a child run takes its caps out of its parent's, and gives back what it did not use."""

from __future__ import annotations

from hashlib import sha256

import msgspec
from msgspec import Raw

from tenuto.domain.budgets.escrow import PROJECT
from tenuto.domain.graph.model import Budget
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import runaway
from tenuto.domain.runs.calls import refusal
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.failure import idempotency_key
from tenuto.domain.runs.settle import complete
from tenuto.domain.runs.state import RunState, in_shadow
from tenuto.domain.runs.trace import context_for_child
from tenuto.errors import Exhausted


def start_child(d: Draft, inp: io.ChildAsked) -> None:
    """Ask for a child run; the step waits for it unless it is detached. At a limit of the run it is to ask again.

    Raises:
        Exhausted: The parent's budget has no room for the child's caps.
    """
    st = d.st
    if not runaway.may_spawn(d):
        d.emit(ev.AttemptInterrupted(step=inp.step, n=inp.n))
        return
    budget = child_budget(st, inp.budget)
    hold = None
    if budget is not None and not inp.detach:
        hold = ev.Charge(
            tokens=budget.tokens or 0, tool_calls=budget.tool_calls or 0, cost_usd_micros=budget.cost_usd_micros or 0
        )
        refused = refusal(st, hold)
        if refused is not None:
            raise Exhausted(
                f"the sub-flow's {refused.cap} cap of {refused.ask:,} does not fit: {refused.spent:,} of "
                f"{refused.limit:,} are spent", code="budget.limit",
            )
    key = idempotency_key(d, inp.step)
    run = child_id(key, d.t)
    d.emit(
        ev.ChildStarted(
            step=inp.step, run=run, workflow=inp.workflow, digest=inp.digest, input=inp.input, budget=budget,
            detach=inp.detach, hold=hold,
        )
    )
    d.out.children.append(
        io.ChildRun(
            run=run, workflow=inp.workflow, digest=inp.digest, input=inp.input,
            parent=ev.Parent(
                run=st.id, step=inp.step, key=key, depth=runaway.depth(st) + 1, deep_since=runaway.deep_since(st)
            ), budget=budget, priority=st.priority, ns=st.ns,
            shadow=in_shadow(st), labels={key: value for key, value in st.labels.items() if key == PROJECT},
            traceparent=context_for_child(st.id, st.traceparent, inp.step, st.steps[inp.step].attempt),
        )
    )
    if inp.detach:
        complete(d, inp.step, Raw(msgspec.json.encode({"run": run})))


def child_budget(st: RunState, asked: Budget | None) -> Budget | None:
    """Return a child's caps: what was asked for, and where nothing was, all that the parent has left."""
    caps = st.ledger.caps
    if caps is None:
        return asked
    spent, held = st.ledger.spent, st.ledger.held
    left = {
        cap: max(0, limit - getattr(spent, cap) - getattr(held, cap))
        for cap in ("tokens", "tool_calls", "cost_usd_micros")
        if (limit := getattr(caps, cap)) is not None
    }
    asked = asked or Budget()
    wall = None if not st.deadline else max(0.001, (st.deadline - st.t) / 1000)
    return Budget(
        tokens=asked.tokens if asked.tokens is not None else left.get("tokens"),
        tool_calls=asked.tool_calls if asked.tool_calls is not None else left.get("tool_calls"),
        cost_usd_micros=asked.cost_usd_micros if asked.cost_usd_micros is not None else left.get("cost_usd_micros"),
        per_tool=asked.per_tool or caps.per_tool,
        wall_clock_s=asked.wall_clock_s if asked.wall_clock_s is not None else wall,
    )


def child_id(key: str, t: int) -> str:
    """Return a run id in the form of UUIDv7, derived from the parent's step, so that asking twice makes one run."""
    tail = sha256(key.encode()).digest()
    value = (t & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (int.from_bytes(tail[:2], "big") & 0xFFF) << 64
    value |= 0b10 << 62 | int.from_bytes(tail[2:10], "big") & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
