"""What the memory store keeps, and the few moves that several methods share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tenuto.domain.budgets.escrow import Balance, Cap, Hold, Place, Waiter
from tenuto.domain.runs.wire import Record
from tenuto.ports.artifacts import ArtifactRow
from tenuto.ports.cache import CacheEntry
from tenuto.ports.checkpoints import CheckpointRow, ValueRow, WriteRow
from tenuto.ports.data_keys import DataKeyRow
from tenuto.ports.findings import DeletedFinding
from tenuto.ports.lineage import TagMove
from tenuto.ports.notifications import NotificationRow, Told
from tenuto.ports.plugins import LookRow, OptimizerRow
from tenuto.ports.proposals import ProposalRow
from tenuto.ports.services import ReportRow
from tenuto.ports.store import (
    InboxRow,
    OutboxRow,
    RunRow,
    SendOutcome,
    StepRow,
    TaskRow,
    TicketRow,
    WorkerRow,
    WorkflowRow,
)  # fmt: skip
from tenuto.ports.usage import UsageRow

Row = TypeVar("Row", bound=msgspec.Struct)
REOPENS = ("failed", "budget_exceeded")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class Held:
    """A message between runs, and who delivers it until when."""

    row: OutboxRow
    taker: int = 0
    until: int = 0


@dataclass(slots=True)
class Tables:
    """One database in memory; every view of it shares this.

    Attributes:
        due: Runs that may be claimed, and from when.
        groups: Committed groups, by writer; `pruned` counts those forgotten at the front.
        marks: Each writer's newest group at a moment, to know later that it is old.
        unheard: Tickets somebody decided whose runs have not yet said so.
        orphans: Blobs nothing seemed to use, and since when; `unused_artifacts` likewise.
        places: Of artifacts not known yet, and since when; 0 for those that are nobody's.
        cache: Kept results and when they expire, 0 = never, in the order they were put.
        wanting: Calls that wait for room under a shared cap.
        waiters: Events of views that wait for something to do.
    """

    clock: Callable[[], int]
    runs: dict[str, RunRow] = field(default_factory=dict[str, RunRow])
    due: dict[str, int] = field(default_factory=dict[str, int])
    records: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])
    snapshots: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    inbox: dict[str, dict[int, InboxRow]] = field(default_factory=dict[str, dict[int, InboxRow]])
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    orphans: dict[str, int] = field(default_factory=dict[str, int])
    artifacts: dict[tuple[str, str], ArtifactRow] = field(default_factory=dict[tuple[str, str], ArtifactRow])
    unused_artifacts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    places: dict[str, int] = field(default_factory=dict[str, int])
    tickets: dict[tuple[str, str], TicketRow] = field(default_factory=dict[tuple[str, str], TicketRow])
    unheard: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    outbox: dict[int, Held] = field(default_factory=dict[int, Held])
    last_outbox: int = 0
    tasks: dict[str, TaskRow] = field(default_factory=dict[str, TaskRow])
    workers: dict[str, WorkerRow] = field(default_factory=dict[str, WorkerRow])
    workflows: list[WorkflowRow] = field(default_factory=list[WorkflowRow])
    tags: dict[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    keys: dict[tuple[str, str], tuple[str, str, str, int]] = field(
        default_factory=dict[tuple[str, str], tuple[str, str, str, int]]
    )
    groups: dict[int, list[tuple[tuple[str, int], ...]]] = field(
        default_factory=dict[int, list[tuple[tuple[str, int], ...]]]
    )
    pruned: dict[int, int] = field(default_factory=dict[int, int])
    marks: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    cursors: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    steps: dict[tuple[str, str], tuple[str, StepRow]] = field(
        default_factory=dict[tuple[str, str], tuple[str, StepRow]]
    )
    checkpoints: dict[tuple[str, str, str, str], CheckpointRow] = field(
        default_factory=dict[tuple[str, str, str, str], CheckpointRow]
    )
    values: dict[tuple[str, str, str, str, str], ValueRow] = field(
        default_factory=dict[tuple[str, str, str, str, str], ValueRow]
    )
    writes: dict[tuple[str, str, str, str], dict[tuple[str, int], WriteRow]] = field(
        default_factory=dict[tuple[str, str, str, str], dict[tuple[str, int], WriteRow]]
    )
    caps: dict[tuple[str, str, str], Cap] = field(default_factory=dict[tuple[str, str, str], Cap])
    balances: dict[Place, Balance] = field(default_factory=dict[Place, Balance])
    holds: dict[tuple[str, int], Hold] = field(default_factory=dict[tuple[str, int], Hold])
    wanting: dict[tuple[str, str, str], Waiter] = field(default_factory=dict[tuple[str, str, str], Waiter])
    data_keys: dict[str, DataKeyRow] = field(default_factory=dict[str, DataKeyRow])
    usage: dict[tuple[str, int, int], tuple[str, UsageRow]] = field(
        default_factory=dict[tuple[str, int, int], tuple[str, UsageRow]]
    )
    reports: dict[str, ReportRow] = field(default_factory=dict[str, ReportRow])
    asked_look: int = 0
    deleted_findings: dict[tuple[str, str], DeletedFinding] = field(
        default_factory=dict[tuple[str, str], DeletedFinding]
    )
    tag_moves: dict[tuple[str, str, str], list[TagMove]] = field(default_factory=dict[tuple[str, str, str], list[TagMove]])
    starts: dict[tuple[str, str, str], dict[str, int]] = field(
        default_factory=dict[tuple[str, str, str], dict[str, int]]
    )
    proposals: dict[tuple[str, str], ProposalRow] = field(default_factory=dict[tuple[str, str], ProposalRow])
    optimizers: dict[tuple[str, str], tuple[OptimizerRow, bytes]] = field(
        default_factory=dict[tuple[str, str], tuple[OptimizerRow, bytes]]
    )
    looks: dict[tuple[str, str], LookRow] = field(default_factory=dict[tuple[str, str], LookRow])
    cache: dict[tuple[str, str], tuple[CacheEntry, int]] = field(
        default_factory=dict[tuple[str, str], tuple[CacheEntry, int]]
    )
    cache_stamps: dict[str, int] = field(default_factory=dict[str, int])
    flights: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    told: dict[tuple[str, str], tuple[int, Told]] = field(default_factory=dict[tuple[str, str], tuple[int, Told]])
    notifications: dict[tuple[str, str], NotificationRow] = field(
        default_factory=dict[tuple[str, str], NotificationRow]
    )
    held: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    views: int = 0
    waiters: list[asyncio.Event] = field(default_factory=list[asyncio.Event])

    def wake(self) -> None:
        """Let every view that waits look again."""
        for event in self.waiters:
            event.set()

    def alive(self, worker: str | None) -> bool:
        """Tell whether a worker's lease runs."""
        row = self.workers.get(worker) if worker is not None else None
        return row is not None and row.lease_until > self.clock()

    def set_due(self, run: RunRow) -> None:
        """Note from when a run may be claimed, after its state changed."""
        if run.state == "ready":
            self.due[run.id] = run.wake_at or self.clock()
        elif run.state == "waiting" and run.wake_at:
            self.due[run.id] = run.wake_at
        else:
            self.due.pop(run.id, None)

    def newest(self, writer: int) -> int:
        """Return the number of a writer's newest group."""
        return self.pruned.get(writer, 0) + len(self.groups.get(writer, ()))

    def add_workflow(self, row: WorkflowRow) -> None:
        """Store a version if it is new."""
        if not any((w.ns, w.name, w.digest) == (row.ns, row.name, row.digest) for w in self.workflows):
            created_at = row.created_at or self.clock()
            self.workflows.append(msgspec.structs.replace(row, created_at=created_at, retired=False, tags=()))

    def keep_blob(self, digest: str, body: bytes) -> None:
        """Store bytes under their digest; whatever stores them uses them."""
        self.blobs.setdefault(digest, body)
        self.orphans.pop(digest, None)

    def business_run(self, ns: str, key: str) -> str | None:
        """Return the unfinished run with a business key."""
        for run in self.runs.values():
            if run.ns == ns and run.business_key == key and run.state != "done":
                return run.id
        return None

    def receive(self, run_id: str, key: str, body: bytes, reopens: bool) -> SendOutcome:
        """Number a message, keep it, and make the run claimable when it waits."""
        run = self.runs.get(run_id)
        if run is None:
            return "missing"
        box = self.inbox.setdefault(run_id, {})
        if any(row.key == key for row in box.values()):
            return "duplicate"
        if run.state == "done":
            taken = run.business_key is not None and self.business_run(run.ns, run.business_key) is not None
            if not reopens or run.status not in REOPENS or taken:
                return "terminal"
        run.inbox_seq += 1
        box[run.inbox_seq] = InboxRow(run.inbox_seq, key, body)
        if run.state in ("waiting", "done"):
            run.state, run.wake_at = "ready", 0
            self.set_due(run)
        self.wake()
        return "accepted"


def is_id(run_id: str) -> bool:
    """Tell whether a text can be the id of a run; nothing is stored under another."""
    return _UUID.fullmatch(run_id) is not None


def copied(row: Row) -> Row:
    """Return a row of the caller's own; what it holds is never changed in place."""
    return msgspec.structs.replace(row)
