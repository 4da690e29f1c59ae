"""The rows that stand or fall with a record: tickets, dead letters, messages to other runs. Derived from events."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec

from tenuto.domain.budgets.escrow import PROJECT, Ask, Escrow, Place, Settled, Wanted
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.failure import status_hook
from tenuto.domain.runs.inputs import ChildRun, Decision, Task
from tenuto.domain.runs.people import body_of
from tenuto.domain.runs.state import ENDED, RunState
from tenuto.ports.store import OutboxRow, TaskRow, TicketRow

RARE: frozenset[type[ev.Event]] = frozenset(
    {ev.TicketOpened, ev.TicketDecided, ev.TicketClosed, ev.StepDeadLettered, ev.StepRedriven, ev.RunFailed, ev.RunReopened}
)


def tickets_of(st: RunState, events: Sequence[ev.Events], t: int) -> list[TicketRow]:
    """Return the ticket rows some events open, decide or close; later ones of an id replace earlier ones."""
    rows: dict[str, TicketRow] = {}
    for event in events:
        if type(event) in RARE:
            row = _ticket(st, event, t)
            if row is not None:
                rows[row.id] = row
    return list(rows.values())


def _ticket(st: RunState, event: ev.Events, t: int) -> TicketRow | None:
    if isinstance(event, ev.TicketOpened):
        return TicketRow(
            id=event.ticket, ns=st.ns, run_id=st.id, step=event.step, kind=event.kind, message=event.message,
            body=body_of(event.data, event.terms), created_at=t, expires_at=event.expires_at,
        )
    if isinstance(event, ev.TicketDecided):
        answer = {"decision": event.decision, "reason": event.reason, "data": event.data, "by": event.by}
        return _existing(st, event.ticket, "decided", t, msgspec.json.encode(answer))
    if isinstance(event, ev.TicketClosed):
        return _existing(st, event.ticket, "closed", t, b"")
    if isinstance(event, ev.StepDeadLettered):
        body = msgspec.json.encode({"failure": event.failure, "attempt": event.n})
        return TicketRow(
            id=dead_letter_id(st.id, event.step), ns=st.ns, run_id=st.id, step=event.step, kind="dead_letter",
            message=event.failure.message, body=body, created_at=t,
        )
    if isinstance(event, ev.RunFailed):
        return _dead_run(st, event, t)
    if isinstance(event, ev.RunReopened):
        return None if not st.tries else TicketRow(
            id=dead_letter_id(st.id, ""), ns=st.ns, run_id=st.id, step="", kind="dead_letter", state="closed",
            decided_at=t,
        )
    if isinstance(event, ev.StepRedriven):
        return TicketRow(
            id=dead_letter_id(st.id, event.step), ns=st.ns, run_id=st.id, step=event.step, kind="dead_letter",
            state="closed", decided_at=t,
        )
    return None


def _dead_run(st: RunState, event: ev.RunFailed, t: int) -> TicketRow | None:
    """List the run itself where its own tries are spent."""
    if not st.tries:
        return None
    body = msgspec.json.encode({"failure": event.failure, "attempt": st.tries + 1})
    return TicketRow(
        id=dead_letter_id(st.id, ""), ns=st.ns, run_id=st.id, step="", kind="dead_letter",
        message=event.failure.message, body=body, created_at=t,
    )


def _existing(st: RunState, name: str, state: str, t: int, answer: bytes) -> TicketRow:
    ticket = st.tickets[name]
    return TicketRow(
        id=name, ns=st.ns, run_id=st.id, step=ticket.step, kind=ticket.kind, state=state, message=ticket.message,
        body=body_of(ticket.data, ticket.terms), answer=answer, created_at=ticket.opened_at,
        expires_at=ticket.expires_at, decided_at=t,
    )


def dead_letter_id(run: str, step: str) -> str:
    """Return the id under which a step is listed as a dead letter."""
    return "dl-" + sha256(f"{run}/{step}".encode()).hexdigest()[:20]


def escrow_of(st: RunState, events: Sequence[ev.Events], heard: Sequence[tuple[str, str]]) -> Escrow | None:
    """Return what some events ask for, settle and wait for among what many runs share; `None` for nothing."""
    found, project = Escrow(heard=list(heard)), st.labels.get(PROJECT, "")
    asks: list[Ask] = []
    settled: list[Settled] = []
    lost: list[int] = []
    wanted: list[Wanted] = []
    warned: list[Place] = []
    for e in events:
        if isinstance(e, ev.CallIntended) and e.grant:
            usd = e.hold.cost_usd_micros if e.hold is not None else 0
            asks.append(Ask(n=e.grant, step=e.step, call=e.call, usd=usd, project=project, slot=e.slot))
        elif isinstance(e, (ev.CallCompleted, ev.CallFailed)) and e.grant:
            settled.append(Settled(e.grant, e.used.cost_usd_micros if e.used is not None else 0))
        elif isinstance(e, ev.CallResolved) and e.grant and e.used is not None:
            settled.append(Settled(e.grant, e.used.cost_usd_micros))
        elif isinstance(e, ev.MoneyResolved):
            settled.append(Settled(e.grant, e.used.cost_usd_micros))
        elif isinstance(e, ev.CallUnknown) and e.grant:
            lost.append(e.grant)
        elif isinstance(e, ev.FundsRefused):
            wanted.append(Wanted(step=e.step, call=e.call, usd=e.usd, project=project, slot=e.slot, since=e.since, final=e.final))
        elif isinstance(e, ev.FundsReturned):
            found.heard = [*found.heard, (e.step, e.call)]
        elif isinstance(e, ev.BudgetWarned) and e.window:
            warned.append(Place(st.ns, e.scope, e.window))
    found.asks, found.settled, found.lost, found.wanted, found.warned = asks, settled, lost, wanted, warned
    return found if asks or settled or lost or wanted or warned or found.heard else None


def task_id(run: str, step: str, n: int) -> str:
    """Return the id of an attempt that any worker may execute."""
    return f"{run}/{step}/{n}"


def task_row(st: RunState, plan: Plan, task: Task) -> TaskRow:
    """Return the row that offers an attempt to all workers."""
    node = plan.nodes[split_key(task.step)[0]].node
    hook = status_hook(plan.node_of(task.step), st.steps[task.step])
    body = TaskBody(input=task.input, key=task.key, timeout_s=node.timeout_s or 0, hook=hook)
    return TaskRow(
        id=task_id(st.id, task.step, task.n), ns=st.ns, run_id=st.id, step=task.step, attempt=task.n,
        handler=node.config["handler"], body=msgspec.json.encode(body), created_at=st.t,
    )


class TaskBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an executor needs: the input (perhaps by digest), the idempotency key, the limit in seconds (0 = none).

    Attributes:
        hook: Status hook to ask first: an earlier attempt may have taken effect.
    """

    input: msgspec.Raw
    key: str
    timeout_s: float = 0
    hook: str = ""


def outbox_of(st: RunState, decision: Decision) -> list[OutboxRow]:
    """Return the messages a decision sends to other runs: children to make or stop, a parent to tell."""
    rows = [_create(child) for child in decision.children]
    rows += [
        _send(st.ns, child, f"parent/{st.id}", msg.Cancel(by=f"run {st.id}", reason="the parent run was stopped"))
        for child in decision.stop_children
    ]
    if st.parent is not None and st.status in ENDED and any(
        isinstance(e, (ev.RunCompleted, ev.RunFailed, ev.RunCancelled, ev.RunExceeded)) for e in decision.events
    ):
        spent = st.ledger.spent
        told = msg.ChildEnded(
            by=f"run {st.id}", step=st.parent.step, run=st.id, status=st.status,
            output=st.output if st.output is not None else msgspec.Raw(b"null"), failure=st.failure,
            tokens=spent.tokens, tool_calls=spent.tool_calls, cost_usd_micros=spent.cost_usd_micros,
        )
        rows.append(_send(st.ns, st.parent.run, f"child/{st.id}/{st.seq}", told))
    return rows


def _create(child: ChildRun) -> OutboxRow:
    return OutboxRow(ns=child.ns, target=child.run, key=f"create/{child.run}", kind="create",
                     body=msgspec.json.encode(child))


def _send(ns: str, target: str, key: str, message: msg.Messages) -> OutboxRow:
    return OutboxRow(ns=ns, target=target, key=key, kind="send", body=msg.encode_message(message))
