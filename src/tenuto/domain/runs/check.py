"""The invariants of a journal as assertions: what must hold of any run's records, whatever faults it met.

Used by the audit, the chaos run, the simulation and the tests; knows nothing of how records came about.
Everything is linear in the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from tenuto.domain.budgets.ledger import CAPS
from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.overlay import plan_after
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.check_steps import StepRules
from tenuto.domain.runs.check_types import Violation
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.state import ENDED, RunState, decode_state, encode_state, suspended
from tenuto.domain.runs.wire import ZERO, Record, UnknownEvent, decode, link
from tenuto.errors import Corrupt

__all__ = ["Checker", "Violation", "check_row", "check_run"]

_AFTER_END = (ev.Claimed, ev.LeaseTaken)


def check_run(
    run_id: str, records: Sequence[Record], plan_of: Callable[[str], Plan], *,
    snapshots: Sequence[tuple[int, bytes]] = (), steals: Iterable[int] = (), acknowledged: Iterable[str] = (),
) -> list[Violation]:
    """Return every broken invariant of one run's whole journal.

    Args:
        plan_of: Gives the plan of a definition's digest.
        snapshots: `(seq, bytes)` of stored snapshots.
        steals: Epochs that are known to have begun by taking the run from another worker.
        acknowledged: Keys of inbox messages accepted from callers; all must be consumed once the run has ended.
    """
    checker = Checker(run_id, plan_of, steals=steals)
    pending = dict(snapshots)
    for item in records:
        checker.add(item)
        if item.seq in pending:
            checker.snapshot(item.seq, pending.pop(item.seq))
    checker.finish(pending, acknowledged)
    return checker.found


class Checker:
    """Checks a journal record by record, in order.

    Attributes:
        found: Broken invariants so far; empty is good.
        state: The fold of the records so far; `None` once folding has failed.
    """

    def __init__(self, run_id: str, plan_of: Callable[[str], Plan], *, steals: Iterable[int] = ()) -> None:
        """Start before the first record."""
        self.found: list[Violation] = []
        self.state: RunState | None = RunState(id=run_id)
        self._run, self._plan_of, self._steals = run_id, plan_of, set(steals)
        self._plan: Plan | None = None
        self._seq, self._epoch, self._t, self._chain = 0, 0, 0, ZERO
        self._rules = StepRules(self._report)
        self._keys: set[str] = set()
        self._taken: set[int] = set()

    def _report(self, rule: str, message: str) -> None:
        self.found.append(Violation(self._run, self._seq, rule, message))

    def add(self, item: Record) -> None:
        """Check the next record."""
        self._position(item)
        try:
            body = decode(item)
        except (Corrupt, UnknownEvent) as exc:
            self._report("I1.body", str(exc))
            self.state = None
            return
        if body.t < self._t:
            self._report("I1.time", f"the clock went back from {self._t} to {body.t}")
        self._t = body.t
        self._ownership(item, body)
        self._inbox(body)
        self._ended(body)
        plan = self._plan
        for event in body.ev:
            self._rules.event(event, plan)
            if isinstance(event, ev.PatchApplied) and plan is not None:
                plan = _after(plan, event)
        self._fold(item, body)

    def _position(self, item: Record) -> None:
        """I1: dense from 1, each chained to the one before."""
        self._seq += 1
        if item.seq != self._seq:
            self._report("I1.dense", f"record {self._seq} is missing; found {item.seq}")
            self._seq = item.seq
        if link(self._chain, self._run, item.seq, item.epoch, item.body) != item.chain:
            self._report("I1.chain", "the record was altered, or one before it")
        self._chain = item.chain

    def _ownership(self, item: Record, body: ev.Body) -> None:
        """I2: epochs never fall, and each begins with the record that says how the run was taken."""
        if item.epoch < self._epoch:
            self._report("I2.zombie", f"epoch {item.epoch} wrote after epoch {self._epoch} had taken the run")
            return
        begun = {event.epoch for event in body.ev if isinstance(event, ev.Claimed | ev.LeaseTaken)}
        self._taken.update(event.epoch for event in body.ev if isinstance(event, ev.LeaseTaken))
        for epoch in begun - {item.epoch}:
            self._report("I2.claim", f"a record of epoch {item.epoch} speaks of epoch {epoch}")
        if item.epoch == self._epoch:
            return
        if item.epoch not in begun:
            self._report("I2.claim", f"epoch {item.epoch} began without Claimed or LeaseTaken")
        stolen = item.epoch in self._steals or self._in_flight()
        if stolen and item.epoch not in self._taken:
            self._report("I2.lease_taken", f"epoch {item.epoch} took work in flight without LeaseTaken")
        self._epoch = item.epoch

    def _in_flight(self) -> bool:
        """Return whether the former owner's journal shows code running, which a clean claim never meets."""
        st, plan = self.state, self._plan
        if st is None or plan is None or st.status in ENDED:
            return False
        return any(
            step.status == "running" and not step.isolate and key not in st.maps and not suspended(step)
            and plan.nodes[key.partition("~")[0]].node.isolation == "inline"
            for key, step in st.steps.items()
        )

    def _inbox(self, body: ev.Body) -> None:
        """I7: a message is consumed with effect once."""
        if len(set(body.inbox)) != len(body.inbox):
            self._report("I7.twice", "a record consumes a message twice")
        new = [key for key in body.inbox if key not in self._keys]
        self._keys.update(new)
        for event in body.ev:
            if isinstance(event, ev.SignalReceived) and body.inbox and event.key not in new:
                self._report("I7.twice", f"signal {event.key!r} took effect again")

    def _ended(self, body: ev.Body) -> None:
        """Completed and cancelled absorb; a stopped run needs to be reopened first."""
        st = self.state
        if st is None or st.status not in ENDED or not body.ev:
            return
        rest = [event for event in body.ev if not isinstance(event, _AFTER_END)]
        if not rest:
            return
        if st.status in ("completed", "cancelled"):
            self._report("terminal", f"{type(rest[0]).__name__} after the run was {st.status}")
        elif not any(isinstance(event, ev.RunReopened | ev.CancelRequested) for event in body.ev):
            quiet = (ev.TicketClosed, ev.CallUnknown, ev.CallFailed, ev.CallCompleted, ev.CallResolved,
                     ev.SignalReceived, ev.TicketVoted, ev.TicketDecided, ev.Overrun, ev.MoneyResolved, ev.BudgetWarned,
                     ev.PatchProposed, ev.PatchApplied, ev.PatchRejected, ev.TicketOpened)
            if not isinstance(rest[0], quiet):
                self._report("terminal", f"{type(rest[0]).__name__} after the run was {st.status}, not reopened")

    def _fold(self, item: Record, body: ev.Body) -> None:
        """Legal transitions, and I8 after every record."""
        if self.state is None:
            return
        if self._plan is None:
            first = body.ev[0] if body.ev else None
            if not isinstance(first, ev.RunCreated):
                self._report("I1.creation", "the journal does not begin with its creation")
                self.state = None
                return
            self._plan = self._plan_of(first.digest)
        try:
            self._plan = fold_body(self.state, self._plan, body)
        except (AssertionError, KeyError, IndexError, ValueError) as exc:
            self._report("legal", f"the record cannot follow the ones before: {exc!r}")
            self.state = None
            return
        self.state.seq, self.state.epoch, self.state.chain = item.seq, item.epoch, item.chain
        self._money(self.state)

    def _money(self, st: RunState) -> None:
        ledger = st.ledger
        caps = ledger.caps
        if caps is None:
            return
        for cap in CAPS:
            limit = getattr(caps, cap)
            used = getattr(ledger.spent, cap) + getattr(ledger.held, cap)
            if limit is not None and used > limit + ledger.overrun.get(cap, 0):
                self._report("I8", f"{cap}: spent and held are {used}, the cap is {limit}")
        for tool, limit in caps.per_tool.items():
            used = ledger.spent_per_tool.get(tool, 0) + ledger.held_per_tool.get(tool, 0)
            if used > limit + ledger.overrun.get(f"per_tool.{tool}", 0):
                self._report("I8", f"per_tool.{tool}: spent and held are {used}, the cap is {limit}")

    def snapshot(self, seq: int, body: bytes) -> None:
        """I4: a snapshot taken at the current record equals the fold of all records up to it."""
        if self.state is None:
            return
        try:
            stored = decode_state(body)
        except msgspec.DecodeError as exc:
            self._report("I4", f"the snapshot at {seq} cannot be read: {exc}")
            return
        # Both once through the bytes: whether a default is written depends on where its text came from.
        if stored != decode_state(encode_state(self.state)):
            names = [
                name for name in RunState.__struct_fields__
                if msgspec.json.encode(getattr(stored, name)) != msgspec.json.encode(getattr(self.state, name))
            ]
            self._report("I4", f"the snapshot at {seq} is not the fold of the records: {', '.join(names)} differ")

    def finish(self, snapshots: Mapping[int, bytes], acknowledged: Iterable[str]) -> None:
        """Check what can only be known at the end of the journal."""
        for seq in snapshots:
            if seq > self._seq:
                self._report("I4.ahead", f"a snapshot at {seq} is ahead of the last record {self._seq}")
        for epoch in self._steals - self._taken:
            if epoch <= self._epoch:
                self._report("I2.lease_taken", f"the run was stolen as epoch {epoch} without LeaseTaken")
        if self.state is not None and self.state.status in ENDED:
            lost = [key for key in acknowledged if key not in self._keys]
            for key in lost:
                self._report("I7.lost", f"the accepted message {key!r} was never consumed")


def check_row(
    st: RunState, row_state: str, wake_at: int, unread: int, *, owner_known: bool = True
) -> list[Violation]:
    """Return what is wrong between a run's row and its journal at rest (I6, I7): nothing may wait for ever.

    Args:
        unread: Messages in the inbox that no record consumed.
        owner_known: Whether the owner named by an `owned` row has a lease, live or expired.
    """
    def report(rule: str, message: str) -> list[Violation]:
        return [Violation(st.id, st.seq, rule, message)]

    if st.status in ENDED:
        return report("I6.done", f"the run is {st.status} but its row is waiting") if row_state == "waiting" else []
    if row_state == "done":
        return report("I6.done", f"the row is done but the run is {st.status}")
    if row_state == "owned" and not owner_known:
        return report("I6.owner", "the run is owned by a worker nobody knows")
    if row_state != "waiting":
        return []
    if unread:
        return report("I7.lost_wakeup", f"the run is parked with {unread} unread messages")
    due = min(st.timers.values(), default=0)
    if due and (not wake_at or wake_at > due) and st.status != "paused":
        return report("I6.timer", f"a timer is due at {due} but the run wakes at {wake_at or 'no time'}")
    waits = st.timers or st.listeners or st.children or st.status == "paused" or any(
        ticket.status == "open" for ticket in st.tickets.values()
    ) or any(
        (step.status == "running" and not suspended(step)) or any(call.kind == "funds" for call in step.calls.values())
        for step in st.steps.values()
    )
    return [] if waits else report("I6.stuck", "the run is parked and nothing can ever wake it")


def _after(plan: Plan, event: ev.PatchApplied) -> Plan:
    """Return the plan after a patch; the one before where the journal does not lead to it, which folding reports."""
    try:
        return plan_after(plan, bytes(event.ops), event.digest)
    except ValueError:
        return plan
