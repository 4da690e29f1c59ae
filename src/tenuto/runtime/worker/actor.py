"""A run in the hands of its owner: inputs come in, one record at a time goes out, effects follow the commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from tenuto.domain.base.values import blob_digest
from tenuto.domain.budgets.escrow import Short
from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.decide import decide
from tenuto.domain.runs.events import Body
from tenuto.domain.runs.state import ENDED, RunState, encode_state, public_status, suspended
from tenuto.domain.runs.wire import ZERO, Record, encode_body, link
from tenuto.ports.store import Commit, Committed, RowChange, RunRow
from tenuto.runtime.committer import outcome_unknown
from tenuto.runtime.creation import Creation
from tenuto.runtime.worker.attempts import Attempt, Host
from tenuto.runtime.worker.inbox import Inbox
from tenuto.runtime.worker.rows import RARE, escrow_of, outbox_of, task_id, task_row, tickets_of
from tenuto.runtime.worker.timers import Timers
from tenuto.runtime.worker.values import RunEnv

log = logging.getLogger("tenuto.worker")
SNAPSHOT_BYTES = 64 * 1024
LINGER_MS = 200
EARLY_S = 0.02


class Again(Protocol):
    """Decides again what came to nothing."""

    def with_values(self, actor: Actor, inputs: list[io.Input], digests: tuple[str, ...]) -> None:
        """Load values a decision needs first."""
        ...

    def with_messages(self, actor: Actor, inputs: list[io.Input]) -> None:
        """Read the messages it should have known first."""
        ...

    def with_refusals(self, actor: Actor, inputs: list[io.Input], shorts: tuple[Short, ...]) -> None:
        """Know which calls there is no room for."""
        ...


class Owner(Host, Protocol):
    """What a run needs of the worker that owns it.

    Attributes:
        nudge: Set when there is work that a poll finds.
    """

    timers: Timers
    inbox: Inbox
    nudge: asyncio.Event

    @property
    def redo(self) -> Again:
        """Return what decides again."""
        ...

    def committed(self, st: RunState, body: Body) -> None:
        """Announce a durable record."""
        ...

    def parked(self, actor: Actor) -> None:
        """Forget a run that has left by its own record."""
        ...

    def freed(self) -> None:
        """Let those who wait for room under a shared cap be told of some."""
        ...

    def refused(self, actor: Actor, result: Committed) -> None:
        """Let go of a run whose record was refused."""
        ...

    def forget(self, actor: Actor) -> None:
        """Let go of a run without a word; it is taken anew if it is still ours."""
        ...

    def quarantine(self, actor: Actor, why: str) -> None:
        """Stop a run the engine itself failed on."""
        ...


class Actor:
    """One active run. All methods run on the event loop of its worker, so nothing here needs a lock.

    Attributes:
        inbox_seen: Number of the newest message that was handed to a decision.
        attempts: Attempts whose code is on this worker, by step.
        waiters: Calls that wait durably while their code stays on the worker, by step and call.
        held: Calls the budget has no room for until something is settled.
        announce: Resolved with the first result, when the run was created on this worker.
        releasing: The worker shuts down: nothing starts here, and the run is given back.
        timed: What the decision under way was made of, if the store may send it back: because a message has come, or
            because there is no room under a cap that many runs share.
    """

    __slots__ = (
        "announce", "attempts", "body", "bytes_since", "decision", "dropped", "env", "held", "in_flight",
        "inbox_seen", "inputs", "marked", "new", "plan", "releasing", "snapshot_at", "st", "timed", "waiters", "worker",
    )

    def __init__(self, worker: Owner, st: RunState, plan: Plan, env: RunEnv, inbox_seen: int) -> None:
        """Take over a restored state; the first input is a `Begin`."""
        self.worker = worker
        self.st = st
        self.plan = plan
        self.env = env
        self.inbox_seen = inbox_seen
        self.inputs: list[io.Input] = []
        self.attempts: dict[str, Attempt] = {}
        self.waiters: dict[tuple[str, str], asyncio.Future[io.Reply]] = {}
        self.held: list[io.CallAsked] = []
        self.decision: io.Decision | None = None
        self.timed: list[io.Input] = []
        self.body: Body | None = None
        self.new: Creation | None = None
        self.announce: asyncio.Future[Committed] | None = None
        self.in_flight = False
        self.marked = False
        self.dropped = False
        self.releasing = False
        self.bytes_since = 0
        self.snapshot_at = SNAPSHOT_BYTES

    # --- inputs -----------------------------------------------------------------------------------------------

    def push(self, inp: io.Input) -> None:
        """Take an input; it is decided with the next group."""
        self.inputs.append(inp)
        self.touch()

    def release(self) -> None:
        """Give the run back with the next record."""
        self.releasing = True
        self.touch()

    def touch(self) -> None:
        """Ask for a turn in the next group."""
        if not self.marked and not self.in_flight and not self.dropped:
            self.marked = True
            self.worker.resources.committer.mark(self)

    def _ring(self) -> None:
        """Let time itself move the run."""
        if not self.dropped:
            self.push(io.Tick())

    # --- a turn -----------------------------------------------------------------------------------------------

    def propose(self) -> Commit | None:
        """Decide on everything that came in, and return the record to make durable."""
        self.marked = False
        if self.dropped:
            return None
        inputs, self.inputs = self.inputs, []
        if not self.worker.lease.group_holds:
            self.worker.lease.lose()
            return None
        if self.releasing:
            inputs.append(io.Release())
        try:
            return self._decided(inputs)
        except io.NeedValues as need:
            for inp in inputs:
                # What an input brings is in no store yet, and may be what the decision reads.
                blob = getattr(inp, "blob", None)
                if isinstance(blob, bytes):
                    self.worker.resources.values.put(blob_digest(blob), blob)
            self.worker.redo.with_values(self, inputs, need.digests)
        except Exception as exc:
            # Whatever cannot be decided or written is this run's affair; the others' records go on.
            log.exception("a decision failed", extra={"run": self.st.id})
            self.worker.quarantine(self, repr(exc))
        return None

    def _decided(self, inputs: list[io.Input]) -> Commit | None:
        decision = decide(self.st, self.plan, inputs, self.worker.lease.group_now, self.env)
        self.decision = decision
        if not decision.events and not decision.eaten:
            self._act(decision)
            row = self._parking(decision)
            if row is None:
                self.decision = None
                if not self.inputs and (due := self.next_due()):
                    # The clock was set back after the timer was armed, so it rang too early.
                    self.worker.timers.watch(self.st.id, due, self._ring, EARLY_S)
                return None
            self.in_flight = True
            return Commit(run_id=self.st.id, ns=self.st.ns, epoch=self.st.epoch, row=row)
        commit = self._commit(decision)
        self.in_flight = True
        if decision.by_time:
            self.timed, commit.inbox_seen = inputs, self.inbox_seen
        elif commit.escrow is not None:
            self.timed = inputs
        return commit

    def _commit(self, decision: io.Decision) -> Commit:
        st = self.st
        new = self.new
        events = tuple(decision.events)
        if new is not None:
            # The creation is written now, with this record, so this is when the journal says it was.
            st.created_at = st.t
            events = new.body.ev + events
        body = self.body = Body(st.t, events, tuple(decision.keys))
        data = encode_body(body)
        if new is None:
            seq = st.seq = st.seq + 1
            st.chain = link(st.chain, st.id, seq, st.epoch, data)
        else:
            seq = 1
            st.chain = link(ZERO, st.id, seq, st.epoch, data)
        commit = Commit(
            run_id=st.id, ns=st.ns, epoch=st.epoch, record=Record(seq, st.epoch, data, st.chain),
            row=self._parking(decision), blobs=decision.blobs, eaten=decision.eaten,
        )
        if st.tickets or st.dead or not RARE.isdisjoint(map(type, events)):
            commit.tickets = tickets_of(st, events, st.t)
        if decision.tasks:
            commit.tasks = [task_row(st, self.plan, task) for task in decision.tasks]
        if decision.stop:
            commit.tasks_done = [task_id(st.id, key, st.steps[key].attempt) for key in decision.stop if st.steps[key].task]
        if decision.children or decision.stop_children or st.parent is not None:
            commit.outbox = outbox_of(st, decision)
        if decision.money or st.ledger.grants:
            commit.escrow = escrow_of(st, events, decision.heard)
        if decision.plan is not None:
            self.plan = decision.plan
            commit.graph = st.digest
        if new is not None:
            commit.new = self._new_row(new.row)
            if new.blobs:
                commit.blobs = [*new.blobs, *decision.blobs]
        self.bytes_since += len(data)
        if self.bytes_since >= self.snapshot_at and st.status not in ENDED:
            commit.snapshot = encode_state(st)
            self.bytes_since = 0
            self.snapshot_at = max(SNAPSHOT_BYTES, len(commit.snapshot))
        return commit

    def _new_row(self, row: RunRow) -> RunRow:
        row.state = "owned"
        row.status = "running"
        row.worker = self.worker.lease.id
        row.epoch = self.st.epoch
        row.started_at = self.st.started_at
        return row

    def _parking(self, decision: io.Decision) -> RowChange | None:
        """Return how the run leaves this worker with this record, or `None` while there is something to do."""
        st = self.st
        if decision.start or self.inputs or decision.plan is not None:
            return None
        if st.status in ENDED:
            return RowChange(
                state="done", status=st.status, inbox_seen=self.inbox_seen, started_at=st.started_at,
                finished_at=st.finished_at, error=st.failure.message[:500] if st.failure is not None else "",
            )
        if self.releasing:
            return self._given_back()
        if decision.wake or self.held or (decision.replies and _goes_on(decision)):
            return None
        for key in self.attempts:
            step = st.steps[key]
            if step.status == "running" and not suspended(step):
                return None
        due = self.next_due()
        if due and due - st.t < LINGER_MS:
            return None
        if st.status == "cancelling" and self.attempts:
            return None
        return RowChange(
            state="waiting", status=public_status(st), inbox_seen=self.inbox_seen, wake_at=due,
            started_at=st.started_at,
        )

    def _given_back(self) -> RowChange:
        """Return how the run leaves a worker that shuts down: to be claimed at once where there is work to do."""
        st = self.st
        busy = bool(st.ready) or any(s.status == "running" and not suspended(s) and not s.task for s in st.steps.values())
        return RowChange(
            state="ready" if busy else "waiting", status=public_status(st), inbox_seen=self.inbox_seen,
            wake_at=0 if busy else self.next_due(), started_at=st.started_at,
        )

    def next_due(self) -> int:
        """Return when time itself next moves the run, 0 for never; a run that does not go on has its own limits only."""
        timers = self.st.timers
        if self.st.status == "running":
            return min(timers.values(), default=0)
        return min((at for name, at in timers.items() if name in ("d", "g")), default=0)

    # --- after the commit -------------------------------------------------------------------------------------

    def concluded(self, result: Committed) -> None:
        """Act on a committed decision, or let go of the run."""
        self.in_flight = False
        decision, body = self.decision, self.body
        self.decision = self.body = None
        timed, self.timed = self.timed, []
        self.new = None
        if self.announce is not None:
            if not self.announce.done():
                self.announce.set_result(result)
            self.announce = None
        if self.dropped:
            if result.outcome == "fenced":
                log.info("run %s belongs to another worker", self.st.id, extra={"run": self.st.id})
            return
        if result.outcome == "moved":
            self.worker.redo.with_messages(self, timed)
            return
        if result.outcome == "refused":
            self.worker.redo.with_refusals(self, timed, result.shorts)
            return
        if result.warn:
            self.inputs.extend(io.Warned(warn) for warn in result.warn)
        if result.freed:
            self.worker.freed()
        if result.outcome != "ok":
            self.worker.refused(self, result)
            return
        if body is not None:
            self.worker.committed(self.st, body)
            if decision is not None:
                if not self.worker.lease.holds():
                    # The record stands, but its effects belong to whoever takes the run over.
                    self.worker.lease.lose()
                    return
                self._act(decision)
                if decision.children or decision.stop_children or (self.st.parent is not None and result.row_applied):
                    self.worker.nudge.set()
        if result.row_applied:
            self.worker.parked(self)
            return
        if self.st.status in ENDED and not self.inputs:
            self.worker.inbox.read(self)
            return
        if self.held and decision is not None and decision.events:
            self.inputs.extend(self.held)
            self.held.clear()
        if self.inputs:
            self.touch()
        elif due := self.next_due():
            self.worker.timers.watch(self.st.id, due, self._ring)
        if decision is not None and decision.plan is not None:
            self.push(io.Tick())  # the row changes once a record; the run may leave with the next
        if not self.inputs and not self.attempts:
            # Nothing runs here, yet parking was refused: a message came in between.
            self.worker.inbox.read(self)

    def abandon(self) -> None:
        """Let go of the run without knowing what became of its record; it is taken anew and its journal read."""
        self.in_flight = False
        self.decision = self.body = self.new = None
        announce, self.announce = self.announce, None
        if announce is not None and not announce.done():
            announce.set_exception(outcome_unknown())
        self.worker.forget(self)

    def _act(self, decision: io.Decision) -> None:
        """Let the effects of a durable decision happen."""
        for token, answer in decision.replies:
            self._answer(token, answer)
        for key in decision.stop:
            attempt = self.attempts.get(key)
            if attempt is not None:
                attempt.stop()
        for step, call in decision.wake:
            self._wake(step, call)
        for key in decision.start:
            self._start(key)

    def _answer(self, token: Any, answer: io.Reply) -> None:
        if isinstance(answer, io.Hold):
            self.held.append(token.asked)
            return
        token.resolve(answer)

    def _start(self, key: str) -> None:
        """Let an attempt's code run, unless it does, or the run was cancelled in the same record."""
        step, attempt = self.st.steps[key], self.attempts.get(key)
        if self.st.status == "cancelling":
            self.inputs.append(io.Stopped(key, step.attempt))
        elif attempt is None or attempt.n != step.attempt:
            self._attempt(key)

    def _attempt(self, key: str) -> None:
        """Let a step's code run, now or when there is room."""
        attempt = self.attempts[key] = Attempt(self, key)
        if attempt.node.memo is None:
            self.worker.slots.enter(attempt)
        else:
            self.worker.memo.enter(attempt)

    def _wake(self, step: str, call: str) -> None:
        """Give a durable wait's value to the code that waits, or run that code again from the top."""
        attempt = self.attempts.get(step)
        if attempt is not None:
            attempt.woken(call)
        elif self.st.steps[step].status == "running":
            self._attempt(step)

    def drop(self) -> None:
        """Let go of the run: its code is cancelled, its outcomes are ignored."""
        self.dropped = True
        for attempt in list(self.attempts.values()):
            attempt.evict()
        self.attempts.clear()

    def begin(self, inputs: Iterable[io.Input]) -> None:
        """Start with the first inputs of an ownership; whatever came in before then is decided after them."""
        self.in_flight = False
        self.inputs[:0] = inputs
        self.touch()


def _goes_on(decision: io.Decision) -> bool:
    """Say whether an answer lets a step's code run on."""
    return any(not isinstance(answer, io.Waiting) for _, answer in decision.replies)
