"""Whether a simulated history kept every promise: journals, effects, acknowledgements, outcomes, progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.check import Checker, check_row
from tenuto.domain.runs.failure import LOST
from tenuto.domain.runs.fold import fold
from tenuto.domain.runs.history import restore
from tenuto.domain.runs.state import RunState, decode_state, encode_state
from tenuto.domain.runs.transitions import RUN_MOVES, STEP_MOVES
from tenuto.domain.runs.wire import Record, decode
from tenuto.testing.report import Report, met, move
from tenuto.testing.simulation_client import Outcome
from tenuto.testing.simulation_world import World
from tenuto.testing.workloads import plan_of
from tenuto.testing.workloads_kinds import Scenario


class Evidence(msgspec.Struct):
    """What was noted while the history went on.

    Attributes:
        steals: Epochs that began by taking a run over, by run.
        snapshots: `(seq, state)` of every snapshot committed, by run.
        announced: `(run, seq, body)` of every record a worker announced as durable.
        read: Ids of the events a client read, page by page, by run.
    """

    steals: dict[str, list[int]] = {}
    snapshots: dict[str, list[tuple[int, bytes]]] = {}
    announced: list[tuple[str, int, ev.Body]] = []
    read: dict[str, list[str]] = {}


class Judge:
    """Looks at a history once it is over; `found` lists everything that is wrong."""

    def __init__(self, db: Tables, world: World, evidence: Evidence, report: Report) -> None:
        """Judge a database against the world's record; what was met goes into a report."""
        self._db, self._world, self._evidence, self._report = db, world, evidence, report
        self.found: list[str] = []

    def judge(self, kinds: Mapping[str, Scenario]) -> None:
        """Check everything; `kinds` says what each run that a client started must have come to."""
        for run_id in self._world.created - set(self._db.runs):
            self.found.append(f"{run_id}: its creation was acknowledged, but it does not exist")
        for run_id in self._db.runs:
            self._run(run_id, kinds.get(run_id))
        encoder = msgspec.json.Encoder()
        for run_id, seq, body in self._evidence.announced:
            journal = self._db.records.get(run_id, [])
            if len(journal) < seq or journal[seq - 1].body != encoder.encode(body):
                self.found.append(f"{run_id}: record {seq} was announced but is not in the journal (I3)")

        for run_id, ids in self._evidence.read.items():
            journal = self._db.records.get(run_id, [])
            every = [f"{item.seq}.{i}" for item in journal for i in range(len(decode(item).ev))]
            if ids != every:
                self.found.append(f"{run_id}: a reader got other events than the journal has: {_differ(ids, every)}")

    def _run(self, run_id: str, scenario: Scenario | None) -> None:
        records = self._db.records[run_id]
        snapshots = self._evidence.snapshots.get(run_id, [])
        promised = self._world.promised.get(run_id, [])
        checker = Checker(run_id, plan_of, steals=self._evidence.steals.get(run_id, ()))
        pending = dict(snapshots)
        for item in records:
            checker.add(item)
            if item.seq in pending:
                checker.snapshot(item.seq, pending.pop(item.seq))
        checker.finish(pending, promised)
        self.found += [f"{v.run}@{v.seq} {v.rule}: {v.message}" for v in checker.found]
        st = checker.state
        if st is None:
            return
        self._row(run_id, st)
        self._restored(run_id, st)
        bodies = [decode(item) for item in records]
        events = [event for body in bodies for event in body.ev]
        self._given_back(run_id, bodies)
        self._effects(st, events)
        self._meet(run_id, records, st)
        if scenario is not None:
            wrong = scenario.expect(self._outcome(st, events))
            if wrong:
                self.found.append(f"{run_id} ({scenario.name}): {wrong}")
        told = self._world.told.get(run_id)
        if told is not None and told != st.status:
            self.found.append(f"{run_id}: a client was told {told}, the journal says {st.status} (I3)")

    def _given_back(self, run_id: str, bodies: Sequence[ev.Body]) -> None:
        """An attempt that is given back does not begin again in the same breath, unless its policy says so."""
        for seq, body in enumerate(bodies, 1):
            back: set[str] = set()
            for event in body.ev:
                if isinstance(event, ev.AttemptInterrupted):
                    back.add(event.step)
                elif isinstance(event, ev.AttemptStarted) and event.step in back and not event.task:
                    plan = plan_of(self._db.runs[run_id].digest)
                    if plan.nodes[split_key(event.step)[0]].node.effect != "effect":
                        self.found.append(f"{run_id}@{seq}: {event.step!r} was given back and begun at once")

    def _row(self, run_id: str, st: RunState) -> None:
        row = self._db.runs[run_id]
        known = row.worker in self._db.workers
        wrong = check_row(st, row.state, row.wake_at, len(self._db.inbox.get(run_id, ())), owner_known=known or bool(row.worker))
        self.found += [f"{v.run}@{v.seq} {v.rule}: {v.message}" for v in wrong]
        if row.state != "done":
            self.found.append(f"{run_id}: not over: {row.state} by {row.worker}, {st.status} in its journal (I6)")

    def _restored(self, run_id: str, st: RunState) -> None:
        """I4: what a new owner would rebuild from snapshot and tail is the fold of the whole journal."""
        at, snapshot = self._db.snapshots.get(run_id, (0, None))
        if snapshot is None:
            return
        tail = self._db.records[run_id][at:]
        try:
            again, _ = restore(run_id, snapshot, tail, plan_of)
        except Exception as exc:
            self.found.append(f"{run_id}: snapshot at {at} and tail cannot be restored: {exc} (I4)")
            return
        if decode_state(encode_state(again)) != decode_state(encode_state(st)):
            self.found.append(f"{run_id}: snapshot at {at} and tail differ from the whole journal (I4)")

    # --- effects ----------------------------------------------------------------------------------------------

    def _effects(self, st: RunState, events: Sequence[ev.Event]) -> None:
        """I5 and I8 outside the engine: once per key or flagged, one key per effect, never more than was allowed."""
        flags: Counter[tuple[str, str]] = Counter()
        fresh: Counter[str] = Counter()
        keys: dict[tuple[str, str], set[str]] = {}
        for event in events:
            if isinstance(event, ev.AttemptLost | ev.AttemptInterrupted):
                flags[event.step, ""] += 1
            elif isinstance(event, ev.AttemptFailed) and event.failure.unknown:
                flags[event.step, ""] += 1
            elif isinstance(event, ev.CallUnknown):
                flags[event.step, event.call] += 1
            elif isinstance(event, ev.StepRedriven):
                fresh[event.step] += event.fresh
                flags[event.step, ""] += 1
            elif isinstance(event, ev.CallIntended) and event.key:
                keys.setdefault((event.step, event.call), set()).add(event.key)
        for (step, call), used in keys.items():
            if len(used) > 1 + fresh[step]:
                self.found.append(f"{st.id}: call {call!r} of {step!r} was made under {sorted(used)} (I5)")
        by_key = {key: at for at, used in keys.items() for key in used}
        charged = 0
        for key, times in self._world.effects.items():
            if not key.startswith(st.id):
                continue
            at = by_key.get(key)
            if at is None:
                rest = key[len(st.id) + 1 :].split("/")
                at = (rest[0], "")
                if len(rest) > 1 and (not rest[1].isdecimal() or int(rest[1]) > fresh[rest[0]]):
                    self.found.append(f"{st.id}: an effect was made under {key!r}, which no step has (I5)")
            elif at[1].startswith("c"):
                charged += len(times)
            if len(times) > 1 + flags[at]:
                self.found.append(f"{key}: applied {len(times)} times, {flags[at]} flagged (I5)")
        caps = st.ledger.caps
        if caps is not None and caps.tool_calls is not None and charged > caps.tool_calls:
            self.found.append(f"{st.id}: {charged} tools were called, the cap is {caps.tool_calls} (I8)")

    # --- outcomes and what was met ----------------------------------------------------------------------------

    def _outcome(self, st: RunState, events: Sequence[ev.Event]) -> Outcome:
        done: Counter[str] = Counter()
        lost = False
        for event in events:
            if isinstance(event, ev.StepCompleted | ev.StepReused):
                done[split_key(event.step)[0]] += 1
            elif isinstance(event, ev.StepFailed | ev.StepDeadLettered):
                lost = lost or LOST.message in event.failure.message
        why = "" if st.failure is None else st.failure.message
        return Outcome(status=st.status, output=self._value(st.output), outcomes=dict(done), lost=lost, why=why)

    def _value(self, output: Raw | None) -> object:
        if output is None:
            return None
        digest = digest_of(output)
        if digest is None:
            return unpack(output)
        body = self._db.blobs.get(digest)
        if body is None:
            self.found.append(f"the stored value {digest} is gone")
            return None
        return unpack(body)

    def _meet(self, run_id: str, records: Sequence[Record], final: RunState) -> None:
        """Count events and changes of status."""
        report = self._report
        report.runs += 1
        met(report.outcomes, final.status)
        st = RunState(id=run_id)
        plan = plan_of(final.version or final.digest)
        for item in records:
            body = decode(item)
            for event in body.ev:
                kind = type(event)
                met(report.events, kind.__name__)
                if kind in STEP_MOVES and not getattr(event, "call", ""):
                    step = st.steps.get(getattr(event, "step", ""))
                    before = step.status if step is not None else ""
                    met(report.moves, move("step", kind.__name__, before, STEP_MOVES[kind][1]))
                elif kind in RUN_MOVES:
                    met(report.moves, move("run", kind.__name__, st.status, RUN_MOVES[kind][1]))
                plan = fold(st, plan, event, body.t)
            st.ended = {name: 1 for name in st.ended if not name or name[0] == "~"}


def _differ(found: Sequence[str], expected: Sequence[str]) -> str:
    for at, name in enumerate(expected):
        if at >= len(found) or found[at] != name:
            return f"after {at} events it should have got {name}"
    return f"{len(found) - len(expected)} too many"
