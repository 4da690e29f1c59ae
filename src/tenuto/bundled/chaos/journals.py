"""What the journals say after the chaos: invariants, takeovers, and the facts the ledger is compared with."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tenuto.bundled.chaos.shapes import Planned
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.check import Violation, check_row, check_run
from tenuto.domain.runs.history import digest_of_history
from tenuto.domain.runs.state import ENDED
from tenuto.domain.runs.wire import Record, decode
from tenuto.ports.store import RunFilter, RunRow
from tenuto.runtime.services.engine import Engine

_PID = re.compile(r"-(\d+)-[0-9a-f]{8}$")
AT_ONCE = 1000
CallAt = tuple[str, str, str]
StepAt = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Takeover:
    """A run that changed hands against its owner's will; `pid` is the process that owned it."""

    run: str
    pid: int
    t: int


@dataclass(slots=True)
class Journals:
    """Everything that was read out of all journals.

    Attributes:
        rows: Every run's row, sub-flows included.
        flagged: Calls (or, without a call, steps) whose outcome the journal admits not to know.
        results: What finished calls returned, as JSON.
        completed: The attempt that completed each step.
    """

    rows: dict[str, RunRow] = field(default_factory=dict[str, RunRow])
    violations: list[Violation] = field(default_factory=list[Violation])
    takeovers: list[Takeover] = field(default_factory=list[Takeover])
    flagged: set[CallAt] = field(default_factory=set[CallAt])
    results: dict[CallAt, bytes] = field(default_factory=dict[CallAt, bytes])
    completed: dict[StepAt, int] = field(default_factory=dict[StepAt, int])
    events: Counter[str] = field(default_factory=Counter[str])
    records: int = 0
    stolen: Counter[str] = field(default_factory=Counter[str])
    lost: dict[StepAt, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, run: str, records: Sequence[Record]) -> None:
        """Learn what one journal says."""
        self.records += len(records)
        for item in records:
            body = decode(item)
            for event in body.ev:
                self.events[type(event).__name__] += 1
                self._event(run, body.t, event)

    def _event(self, run: str, t: int, event: ev.Events) -> None:
        if isinstance(event, ev.LeaseTaken):
            self.stolen[run] += 1
            found = _PID.search(event.from_)
            self.takeovers.append(Takeover(run, int(found[1]) if found else 0, t))
        elif isinstance(event, ev.AttemptLost):
            self.lost[run, event.step] += 1
            self.flagged.add((run, event.step, ""))
        elif isinstance(event, ev.CallUnknown):
            self.flagged.add((run, event.step, event.call))
        elif isinstance(event, ev.TicketOpened) and event.kind == "unknown_outcome":
            self.flagged.add((run, event.step, event.call))
        elif isinstance(event, ev.CallCompleted):
            self.results[run, event.step, event.call] = bytes(event.out)
        elif isinstance(event, ev.CallResolved) and event.resolution == "succeeded":
            self.results[run, event.step, event.call] = bytes(event.out)
        elif isinstance(event, ev.StepCompleted):
            self.completed[run, event.step] = event.n


async def read_journals(engine: Engine, planned: dict[str, Planned]) -> Journals:
    """Read and check every journal of the store."""
    found = Journals()
    after = ""
    while rows := await engine.store.list_runs(RunFilter(), after=after, limit=500):
        found.rows.update((row.id, row) for row in rows)
        after = rows[-1].cursor
    for row in found.rows.values():
        await _read(engine, row, found, planned.get(row.id))
    return found


async def _read(engine: Engine, row: RunRow, found: Journals, planned: Planned | None) -> None:
    store = engine.store
    records: list[Record] = []
    while part := await store.records(row.id, records[-1].seq if records else 0, AT_ONCE):
        records += part
    first = await engine.context.definitions.plan(row.ns, digest_of_history(None, records))
    (history,) = await store.load([row.id])
    snapshots = [] if history.snapshot is None else [(history.snapshot_seq, history.snapshot)]
    found.violations += check_run(
        row.id, records, lambda _: first, snapshots=snapshots, acknowledged=planned.sent if planned else ()
    )
    found.take(row.id, records)
    st, _ = await engine.context.restored(row.id, history.snapshot, history.records)
    unread = len(await store.inbox(row.id, 0))
    found.violations += check_row(st, row.state, row.wake_at, unread)
    if row.status != st.status and st.status in ENDED:
        message = f"the row says {row.status}, the journal {st.status}"
        found.violations.append(Violation(row.id, st.seq, "row.status", message))


def sequence_of(out: bytes) -> int | None:
    """Return the ledger position a call returned, `None` when it returned something else."""
    value = msgspec.json.decode(out)
    return value if isinstance(value, int) else None
