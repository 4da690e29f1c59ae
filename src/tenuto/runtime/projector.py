"""Keeps the tables of steps and of calls paid for up to date from the journals, off the commit path, rebuildable at will.

It tails the groups every writer committed, reads their records and upserts rows with its cursors in one transaction,
so a crash repeats work but loses none. Only records are decoded; no run is folded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.wire import UnknownEvent, decode
from tenuto.errors import Corrupt, Gone, TenutoError, WorkflowMissing
from tenuto.ports.store import StepRow, Store, TailRow
from tenuto.ports.usage import UsageRow
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.usage import METERED, NAME, Meter, behind

log = logging.getLogger("tenuto.projector")

GROUPS = 500
RUNS_OPEN = 2000
LOAD_AT_ONCE = 200
RECORDS_AT_ONCE = 2000
HEARD = 20_000
_LAST = 2**31 - 1
_ABSORBING = frozenset({ev.RunCompleted, ev.RunCancelled})


class OpenRun:
    """What the projector remembers of a run it may hear of again: its rows, up to which record."""

    __slots__ = ("kinds", "meter", "ns", "rows", "run_id", "seq")

    def __init__(self, run_id: str) -> None:
        """Know nothing yet."""
        self.run_id, self.ns, self.seq = run_id, "", 0
        self.kinds: Mapping[str, str] = {}
        self.rows: dict[str, StepRow] = {}
        self.meter: Meter | None = None


class Projector:
    """One tailer; several may run at once, which wastes work and harms nothing."""

    def __init__(self, store: Store, definitions: Definitions, *, leads: Callable[[], bool] | None = None) -> None:
        """Project a store's journals.

        Args:
            leads: Whether this process should do the work now; `None` = always.
        """
        self._store, self._definitions, self._leads = store, definitions, leads
        self._open: OrderedDict[str, OpenRun] = OrderedDict()
        self._kinds: dict[str, dict[str, str]] = {}
        self._unknown: dict[str, ev.RunCreated] = {}
        self._heard: dict[tuple[str, int], ev.Body] = {}
        self._usage: list[UsageRow] = []
        self.cursors: dict[int, int] = {}
        self._loaded = False
        self._hears = True

    def hear(self, run_id: str, seq: int, body: ev.Body) -> None:
        """Keep a record this process has just committed, so that it need not be read back; never more than a few."""
        if self._hears and len(self._heard) < HEARD:
            self._heard[run_id, seq] = body

    async def run(self, interval_s: float = 0.5) -> None:
        """Project for ever, a pass at a time; waits out a store that does not answer."""
        while True:
            busy = False
            try:
                self._hears = self._leads is None or self._leads()
                if self._hears:
                    busy = await self.step()
                else:
                    self._loaded = False  # whoever leads now moves the stored cursors on
                    self._heard.clear()
            except (TenutoError, OSError):
                log.exception("the projection of steps is behind")
                self._loaded = False
            await asyncio.sleep(0 if busy else interval_s)

    async def step(self) -> bool:
        """Project one batch of groups; return whether there may be more."""
        if not self._loaded:
            self.cursors = await self._store.projection_cursors(NAME)
            self._open.clear()
            self._usage.clear()
            self._loaded = True
        groups = await self._store.tail(self.cursors, GROUPS)
        if self._misses_some(groups):
            await self.rebuild()
            return True
        if not groups:
            self._heard.clear()
            return False
        touched = await self._advance(groups)
        for group in groups:
            self.cursors[group.writer] = group.n
        await self._put_usage()
        await self._store.project_steps(NAME, touched, dict(self.cursors))
        return len(groups) == GROUPS

    async def drain(self) -> None:
        """Project everything committed so far."""
        while await self.step():
            pass

    async def rebuild(self) -> None:
        """Drop the rows and build them anew from the journals; the answers are the same afterwards."""
        await self._store.reset_projection(NAME)
        self._open.clear()
        self._heard.clear()
        self._usage.clear()
        heads, after = await self._store.tail_heads(), ""
        while runs := await self._store.run_ids(after, LOAD_AT_ONCE):
            after = runs[-1]
            everything = TailRow(0, 0, tuple((run_id, _LAST) for run_id in runs))
            touched = await self._advance([everything])
            await self._put_usage()
            await self._store.project_steps(NAME, touched, {})
        # Only now: a rebuilding that breaks off before is noticed, for old groups may be gone, and done again.
        await self._store.project_steps(NAME, [], heads)
        self._loaded = False
        await self.drain()

    async def _put_usage(self) -> None:
        """Write what calls cost, before the cursors pass their records; written again, it changes nothing."""
        if self._usage:
            await self._store.put_usage(NAME, self._usage)
            self._usage = []

    def _misses_some(self, groups: Iterable[TailRow]) -> bool:
        """Return whether groups we have not seen were forgotten, as for a projection begun when others were done."""
        before = dict(self.cursors)
        for group in groups:
            if group.n != before.get(group.writer, 0) + 1:
                return True
            before[group.writer] = group.n
        return False

    async def lag(self) -> int:
        """Return how many committed groups are not projected yet."""
        return await behind(self._store)

    async def _advance(self, groups: Iterable[TailRow]) -> list[StepRow]:
        """Return the rows that the records of some groups changed."""
        changed: dict[tuple[str, str], StepRow] = {}
        upto: dict[str, int] = {}
        for group in groups:
            for run_id, seq in group.runs:
                if not self._apply_heard(run_id, seq, changed):
                    upto[run_id] = max(upto.get(run_id, 0), seq)
        fresh = [run_id for run_id in upto if run_id not in self._open]
        for start in range(0, len(fresh), LOAD_AT_ONCE):
            part = fresh[start : start + LOAD_AT_ONCE]
            for history in await self._store.load(part):
                run = self._open[history.run_id] = OpenRun(history.run_id)
                if history.fault is not None:
                    self._leave_out(run, upto[history.run_id], history.fault)
                    continue
                if history.snapshot is None:
                    for item in history.records:
                        self._apply(run, item.seq, item.body, changed)
        for run_id, seq in upto.items():
            run = self._open.get(run_id)
            if run is not None and run.seq < seq:
                try:
                    await self._read(run, changed)
                except (Corrupt, Gone) as fault:
                    self._leave_out(run, seq, fault)
        if self._unknown:
            await self._name_kinds(changed)
        while len(self._open) > RUNS_OPEN:
            self._open.popitem(last=False)
        return list(changed.values())

    def _leave_out(self, run: OpenRun, seq: int, fault: TenutoError) -> None:
        run.seq = seq
        log.warning("run %s is left out of the projection: %s", run.run_id, fault.message, extra={"run": run.run_id})

    async def _read(self, run: OpenRun, changed: dict[tuple[str, str], StepRow]) -> None:
        self._open.move_to_end(run.run_id)
        while True:
            part = await self._store.records(run.run_id, run.seq, RECORDS_AT_ONCE)
            for item in part:
                self._apply(run, item.seq, item.body, changed)
            if len(part) < RECORDS_AT_ONCE:
                return

    def _apply_heard(self, run_id: str, seq: int, changed: dict[tuple[str, str], StepRow]) -> bool:
        """Apply a record this process committed, if it follows what is known of the run; return whether it did."""
        body = self._heard.pop((run_id, seq), None)
        if body is None:
            return False
        run = self._open.get(run_id)
        if run is None:
            if seq != 1:
                return False
            run = self._open[run_id] = OpenRun(run_id)
        if run.seq != seq - 1:
            return run.seq >= seq
        run.seq = seq
        self._apply_body(run, seq, body, changed)
        return True

    def _apply(self, run: OpenRun, seq: int, stored: bytes, changed: dict[tuple[str, str], StepRow]) -> None:
        run.seq = seq
        try:
            body = decode(stored)
        except (Corrupt, UnknownEvent):
            log.warning("record %d of run %s is left out of the projection", seq, run.run_id)
            return
        self._apply_body(run, seq, body, changed)

    def _apply_body(self, run: OpenRun, seq: int, body: ev.Body, changed: dict[tuple[str, str], StepRow]) -> None:
        rows, t = run.rows, body.t
        for event in body.ev:
            kind = type(event)
            change = CHANGES.get(kind)
            if change is None:
                if kind is ev.RunCreated:
                    self._created(run, event)  # type: ignore[arg-type]
                elif kind in _ABSORBING:
                    rows.clear()
                    run.meter = None
                elif kind in METERED:
                    self._meter(run, event, seq, body)
                continue
            key: str = getattr(event, "step")  # noqa: B009
            row = rows.get(key)
            if row is None:
                node = split_key(key)[0]
                row = rows[key] = StepRow(
                    ns=run.ns, run_id=run.run_id, step=key, node=node, kind=run.kinds.get(node, ""), status="ready"
                )
            change(row, event, t)
            row.as_of = seq
            changed[run.run_id, key] = row
            if row.finished_at and row.status != "dead_letter":
                del rows[key]

    def _meter(self, run: OpenRun, event: ev.Events, seq: int, body: ev.Body) -> None:
        """Note what a call cost."""
        if run.meter is None:
            return  # its first record could not be read, or the run is over
        n = next(n for n, one in enumerate(body.ev) if one is event)
        row = run.meter.read(event, seq, n, body.t)
        if row is not None:
            self._usage.append(row)

    def _created(self, run: OpenRun, event: ev.RunCreated) -> None:
        run.ns, run.meter = event.ns, Meter(run.run_id, event)
        known = self._kinds.get(event.digest)
        if known is None:
            self._unknown[run.run_id] = event
        else:
            run.kinds = known

    async def _name_kinds(self, changed: dict[tuple[str, str], StepRow]) -> None:
        """Learn the kinds of nodes of definitions met for the first time, and write them into their rows."""
        for run_id, created in self._unknown.items():
            known = self._kinds.get(created.digest)
            if known is None:
                try:
                    plan = await self._definitions.plan(created.ns, created.digest)
                except WorkflowMissing:
                    continue
                known = self._kinds[created.digest] = {name: node.node.kind for name, node in plan.nodes.items()}
            self._open[run_id].kinds = known
        for (run_id, _), row in changed.items():
            if run_id in self._unknown:
                row.kind = self._open[run_id].kinds.get(row.node, "")
        self._unknown.clear()

# --- what each event does to its step's row ----------------------------------------------------------------------

Change = Callable[[StepRow, Any, int], None]


def _began(row: StepRow, event: ev.AttemptStarted, t: int) -> None:
    row.status, row.attempt, row.finished_at = "running", event.n, 0
    row.started_at = row.started_at or t


def _retrying(row: StepRow, event: ev.AttemptFailed, t: int) -> None:
    row.status, row.attempt, row.error = "retrying", event.n, event.failure.message


def _ready(row: StepRow, event: Any, t: int) -> None:
    row.status, row.finished_at = "ready", 0


def _waiting(row: StepRow, event: ev.WaitStarted, t: int) -> None:
    row.status, row.started_at = "waiting", row.started_at or t


def _woken(row: StepRow, event: ev.WaitEnded, t: int) -> None:
    row.status = "running"


def _child(row: StepRow, event: ev.ChildStarted, t: int) -> None:
    row.status = row.status if event.detach else "waiting"


def _completed(row: StepRow, event: ev.StepCompleted, t: int) -> None:
    row.status, row.finished_at, row.error = "completed", t, ""
    row.attempt = max(row.attempt, event.n)
    row.reused = event.cache is not None and event.cache.how in ("hit", "joined")
    row.started_at = row.started_at or t
    if event.cache is not None:
        cache = event.cache
        row.cache, row.stored = cache.how, cache.stored
        row.saved_ms, row.saved_usd_micros = cache.saved_ms, cache.saved_usd_micros


def _reused(row: StepRow, event: ev.StepReused, t: int) -> None:
    row.status, row.finished_at = event.status, t
    row.started_at = row.started_at or t


def _failed(status: str) -> Change:
    def change(row: StepRow, event: Any, t: int) -> None:
        row.status, row.finished_at, row.error, row.attempt = status, t, event.failure.message, event.n

    return change


def _ended(status: str) -> Change:
    def change(row: StepRow, event: Any, t: int) -> None:
        row.status, row.finished_at = status, t

    return change


CHANGES: dict[type[Any], Change] = {
    ev.AttemptStarted: _began,
    ev.AttemptFailed: _retrying,
    ev.AttemptInterrupted: _ready,
    ev.StepCompleted: _completed,
    ev.StepReused: _reused,
    ev.StepFailed: _failed("failed"),
    ev.StepDeadLettered: _failed("dead_letter"),
    ev.StepSkipped: _ended("skipped"),
    ev.StepCancelled: _ended("cancelled"),
    ev.StepRedriven: _ready,
    ev.WaitStarted: _waiting,
    ev.WaitEnded: _woken,
    ev.ChildStarted: _child,
}
