"""What the engine asks of a store: journals with a fence, ownership by lease, inboxes without lost wake-ups.

Every method is atomic: it happens wholly or not at all, and once it returns it survives a crash of any process.
Reads of one run are current. Times are integers, milliseconds since 1970, by the store's own clock.
A method that cannot reach the database waits and reconnects for ever; `health` says so meanwhile.
Implementations prove themselves with `tenuto.testing.conformance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from tenuto.domain.budgets.escrow import Escrow, Short, Warn
from tenuto.domain.runs.takeover import MakeRecord
from tenuto.domain.runs.wire import Record
from tenuto.ports.artifacts import ArtifactTable
from tenuto.ports.cache import CacheTable
from tenuto.ports.checkpoints import Checkpoints
from tenuto.ports.data_keys import DataKeys
from tenuto.ports.escrow import Funds
from tenuto.ports.findings import Findings
from tenuto.ports.journal import History as History
from tenuto.ports.journal import InboxRow as InboxRow
from tenuto.ports.lineage import Lineage
from tenuto.ports.lists import RunFilter as RunFilter
from tenuto.ports.lists import StepFilter as StepFilter
from tenuto.ports.lists import StepRow as StepRow
from tenuto.ports.lists import TailRow as TailRow
from tenuto.ports.lists import WorkflowRow as WorkflowRow
from tenuto.ports.notifications import Notifications
from tenuto.ports.plugins import Optimizing
from tenuto.ports.services import Reports
from tenuto.ports.starts import Starts
from tenuto.ports.upkeep import Upkeep
from tenuto.ports.usage import UsageTable

State = Literal["ready", "owned", "waiting", "done"]
PRIORITIES = ("high", "medium", "low")


class RunRow(msgspec.Struct, kw_only=True):
    """The row of a run: who may move it, and what lists show. Written at creation, claim, parking and end only.

    Attributes:
        state: `ready` to be claimed, `owned` by `worker`, `waiting` until `wake_at` or a message, `done`.
        status: The public status when the row was last written; the journal knows better while a run is owned.
        priority: 0 high, 1 medium, 2 low.
        wake_at: For `ready` (start later) and `waiting`: when the run becomes claimable by itself; 0 = not by time.
        epoch: Grows with every change of owner.
        inbox_seq: Number of the newest message ever sent to the run.
        cursor: Opaque position for paging, filled by `list_runs`.
    """

    id: str
    ns: str = "default"
    workflow: str
    digest: str
    state: State = "ready"
    status: str = "queued"
    priority: int = 1
    wake_at: int = 0
    worker: str | None = None
    epoch: int = 0
    inbox_seq: int = 0
    goal: str = ""
    labels: dict[str, str] = {}
    parent: str | None = None
    replay_of: str | None = None
    error: str = ""
    business_key: str | None = None
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    cursor: str = ""


class RowChange(msgspec.Struct, kw_only=True, frozen=True):
    """A change of ownership that rides with a record (or alone).

    Applied only while the run has the commit's epoch and `inbox_seq == inbox_seen`; else a message came, and its owner keeps it.

    Attributes:
        state: `waiting` (parked until `wake_at`, 0 = only a message), `ready` (released), `done`.
    """

    state: Literal["waiting", "ready", "done"]
    status: str
    inbox_seen: int
    wake_at: int = 0
    error: str = ""
    started_at: int = 0
    finished_at: int = 0


class TicketRow(msgspec.Struct, kw_only=True):
    """A question to a person.

    Attributes:
        state: `open`, `decided`, `closed`.
        body: What the person is shown, JSON.
        answer: `{decision, reason, data, by}` once decided, JSON; before, the answers so far, or empty.
        votes: How many answers it has got.
    """

    id: str
    ns: str
    run_id: str
    step: str
    kind: str
    state: str = "open"
    message: str = ""
    body: bytes = b"{}"
    answer: bytes = b""
    created_at: int = 0
    expires_at: int = 0
    decided_at: int = 0
    votes: int = 0


class OutboxRow(msgspec.Struct, kw_only=True):
    """A message from one run to another, stored with the record that causes it and delivered later, at least once.

    Attributes:
        key: Unique per target; the receiver drops repeats.
        kind: `create` (body: an encoded `NewRun`) or `send` (body: the inbox message).
    """

    id: int = 0
    ns: str
    target: str
    key: str
    kind: Literal["create", "send"]
    body: bytes


class TaskRow(msgspec.Struct, kw_only=True):
    """An attempt that any worker may execute: `isolation: process` and steps spread over workers.

    Attributes:
        id: `run/step/attempt`.
        body: What the executor needs, JSON.
        worker: Who executes it now; `None` while it waits.
    """

    id: str
    ns: str
    run_id: str
    step: str
    attempt: int
    handler: str
    body: bytes
    worker: str | None = None
    created_at: int = 0


class Commit(msgspec.Struct, kw_only=True, eq=False):
    """What one run commits in a group: at most one record, and the rows that must stand or fall with it.

    Attributes:
        record: `None` for a change of ownership alone.
        new: Set when the run is created by this commit; `record.seq` is then 1.
        inbox_seen: Set where the record follows from time alone, such as the end of a wait: stored only while no
            newer message was sent to the run. `None` = no condition. A creation has no inbox and no condition.
        eaten: Numbers of inbox messages consumed.
        snapshot: Encoded state after the record.
        tickets: Questions the run asks, and what became of earlier ones. `open` asks, again too: whatever was asked
            under the id before is over, and its answer with it. Only an answer the run has not yet heard (decided by
            `decide_ticket`, no record since) stands, for its message is on the way. `decided` and `closed` say that
            the run is done with the question; an answer given before is kept. Of several rows of an id the last counts.
        tasks: Attempts offered to any worker.
        tasks_done: Ids of attempts withdrawn.
        escrow: What the record asks for, settles and waits for among what many runs share.
        graph: Digest of the graph the run goes by from here on, if the record changes it; the run's row names it then.
            Never together with `row`.
    """

    run_id: str
    ns: str = "default"
    epoch: int = 0
    record: Record | None = None
    new: RunRow | None = None
    row: RowChange | None = None
    inbox_seen: int | None = None
    blobs: Sequence[tuple[str, bytes]] = ()
    eaten: Sequence[int] = ()
    snapshot: bytes | None = None
    tickets: Sequence[TicketRow] = ()
    outbox: Sequence[OutboxRow] = ()
    tasks: Sequence[TaskRow] = ()
    tasks_done: Sequence[str] = ()
    escrow: Escrow | None = None
    graph: str = ""


class Committed(msgspec.Struct, frozen=True):
    """What became of a `Commit`.

    Attributes:
        outcome: `ok`: durable. `fenced`: another owner wrote first; nothing of it was stored. `moved`: a message came
            in after `Commit.inbox_seen`; nothing of it was stored, and the run stays ours. `poison`: the store refuses
            this commit itself (never its neighbours'); `error` says why. `refused`: its `escrow` asks for more room
            than there is; nothing of it was stored, and the run stays ours.
        row_applied: Whether `row` was applied.
        shorts: For `refused`: each ask without room; none when a warning it gives was given by another record.
        warn: Shared caps past their warning share; the run may say so with its next record.
        freed: Whether there is more room under a shared cap than before.
    """

    outcome: Literal["ok", "fenced", "moved", "poison", "refused"]
    row_applied: bool = False
    error: str = ""
    shorts: tuple[Short, ...] = ()
    warn: tuple[Warn, ...] = ()
    freed: bool = False


class Claim(msgspec.Struct, frozen=True):
    """A run that is now ours.

    Attributes:
        stolen_from: The worker whose lease had ended; `None` for a clean claim.
        status: What the row of a run claimed cleanly said before.
    """

    run_id: str
    ns: str
    epoch: int
    digest: str
    inbox_seq: int
    stolen_from: str | None = None
    status: str = ""


class WorkerRow(msgspec.Struct, kw_only=True):
    """A worker as others see it; `manifest` is JSON with what it can serve."""

    id: str
    host: str = ""
    pid: int = 0
    lease_until: int = 0
    started_at: int = 0
    manifest: bytes = b"{}"


class Poll(msgspec.Struct, frozen=True):
    """What an idle worker learns from one query.

    Attributes:
        claimable: Whether a run is ready or due.
        inbox: Our own runs that have unread messages.
        expired: Whether some worker's lease has ended while it owns runs.
        outbox: Whether messages wait to be delivered.
        tasks: Whether attempts wait for an executor.
        now: The store's clock.
        waiters: Whether calls wait for room under a shared cap.
    """

    claimable: bool
    inbox: tuple[str, ...]
    expired: bool
    outbox: bool
    tasks: bool
    now: int
    waiters: bool = False


class Once(msgspec.Struct, frozen=True):
    """An idempotency key, kept with the run it speaks to, which `answered` fills in.

    Attributes:
        digest: Of what was asked; the same key with another is somebody's mistake.
        answer: What whoever asks again is told.
    """

    ns: str
    key: str
    digest: str
    answer: str = ""
    run: str = ""


SendOutcome = Literal["accepted", "duplicate", "terminal", "missing"]


class Store(
    Upkeep, ArtifactTable, Checkpoints, Funds, DataKeys, UsageTable, Reports, Findings, Lineage, Starts, Optimizing,
    CacheTable, Notifications, Protocol
):
    """All that outlives a process.

    Attributes:
        make_taken: Makes the record of a takeover; whoever wraps a store may put another maker here.
    """

    url: str
    make_taken: MakeRecord

    # --- life -------------------------------------------------------------------------------------------------
    async def open(self, *, migrate: bool = True) -> None:
        """Connect and, unless only looking, bring the schema up to date. Idempotent, safe for many processes at once."""
        ...

    async def close(self) -> None:
        """Release connections. Commits already accepted are finished first."""
        ...

    def health(self) -> str:
        """Return an empty string while the database answers, else what is wrong, for a person."""
        ...

    async def now(self) -> int:
        """Return the store's clock."""
        ...

    # --- definitions ------------------------------------------------------------------------------------------
    async def put_workflow(self, row: WorkflowRow) -> None:
        """Store a version if it is new; no tag moves."""
        ...

    async def get_definition(self, ns: str, digest: str) -> bytes | None:
        """Return a version's canonical JSON."""
        ...

    async def list_workflows(self, ns: str, name: str | None = None) -> list[WorkflowRow]:
        """Return versions with their tags, newest first, retired ones included."""
        ...

    async def resolve_tag(self, ns: str, name: str, tag: str) -> str | None:
        """Return the digest a tag points at; a full digest of the workflow resolves to itself."""
        ...

    async def retire_workflow(self, ns: str, name: str, digest: str | None) -> int:
        """Mark versions (all when `digest` is `None`) as not startable; return how many."""
        ...

    # --- the journal ------------------------------------------------------------------------------------------
    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Make a group durable in one transaction; one answer per commit, in order.

        At most one commit per run in a batch. The fence is `(run_id, seq)`: a commit whose position is taken is
        `fenced` and leaves nothing behind, its neighbours stand. So is one whose run has a larger epoch, or no row
        unless the commit creates it. The same commit sent again is `ok`. A connection lost at COMMIT is resolved by
        reading back: rows with our chain are ours. One bad commit never fails the batch. `Commit.inbox_seen` is
        compared in the same transaction, so no message can slip in between.
        """
        ...

    async def create_once(self, commit: Commit, key: str, body_digest: str) -> tuple[str, bool]:
        """Create a run under an idempotency key.

        Returns:
            The run's id and whether it was created now.

        Raises:
            KeyReused: The key was used with another body.
        """
        ...

    async def create_business(self, commit: Commit) -> tuple[str, bool]:
        """Create a run with `new.business_key` unless an unfinished run has that key; return its id and whether new."""
        ...

    async def load(self, run_ids: Sequence[str]) -> list[History]:
        """Return newest snapshot and the records after it, for each run that exists."""
        ...

    async def records(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Record]:
        """Return records with `seq > after`, in order."""
        ...

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return the stored bytes of those digests that exist."""
        ...

    async def put_blobs(self, blobs: Sequence[tuple[str, bytes]], *, ns: str = "default") -> None:
        """Store bytes of a namespace under their digests; repeats are harmless, and take back that nothing uses a value."""
        ...

    # --- ownership --------------------------------------------------------------------------------------------
    async def register(self, worker: WorkerRow, lease_ms: int) -> int:
        """Announce a worker with a lease from now; return the store's clock."""
        ...

    async def heartbeat(self, worker: str, lease_ms: int) -> int | None:
        """Extend an unexpired lease; return the store's clock, or `None` when the lease has ended or is gone."""
        ...

    async def unregister(self, worker: str) -> None:
        """Remove a worker; runs it still owns become stealable at once."""
        ...

    async def workers(self) -> list[WorkerRow]:
        """Return all workers with their leases."""
        ...

    async def claim(self, worker: str, limit: int, exclude: Sequence[str] = ()) -> list[Claim]:
        """Take up to `limit` ready or due runs, highest priority then longest waiting first, ageing included.

        Only a worker with a living lease gets any; their status becomes `running`.
        Runs whose definition digest is in `exclude` are left alone. Each run goes to exactly one claimer.
        """
        ...

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take runs whose owner's lease has ended: epoch + 1 and a `LeaseTaken` record, together for each run.

        Only a worker with a living lease gets any.
        """
        ...

    async def owned(self, worker: str) -> list[tuple[str, int]]:
        """Return the runs a worker owns, with their epochs."""
        ...

    async def retake(self, worker: str, runs: Sequence[tuple[str, int]]) -> list[Claim]:
        """Take some of our own runs anew, because nothing of them is here: as `steal` does, from ourselves.

        A run that is not ours any more, or not in the epoch given, is left alone.
        """
        ...

    async def adopt(self, worker: str, dead: str) -> int:
        """End a worker's lease at once because its process is known to be dead; return how many runs it owns."""
        ...

    async def poll(self, worker: str) -> Poll:
        """Return in one query what there is to do."""
        ...

    async def wait_hint(self, timeout_s: float) -> None:
        """Return early when somebody, here or elsewhere, made work; a hint only, `poll` is the truth."""
        ...

    # --- messages ---------------------------------------------------------------------------------------------
    async def send(
        self, run_id: str, key: str, body: bytes, *, reopens: bool = False, once: Once | None = None
    ) -> SendOutcome:
        """Put a message in a run's inbox and make a waiting run claimable, in one transaction.

        A key the inbox already holds is `duplicate`, and so is a message under an idempotency key that is kept
        already, whatever has become of the run; an accepted one keeps its idempotency key.
        A run that is `done` takes messages only if `reopens` and its status is `failed` or `budget_exceeded`; it then
        becomes ready.
        """
        ...

    async def answered(self, ns: str, key: str) -> Once | None:
        """Return what is kept under an idempotency key."""
        ...

    async def inbox(self, run_id: str, after: int = 0) -> list[InboxRow]:
        """Return unconsumed messages with `n > after`, in order."""
        ...

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Return undelivered messages, oldest first, skipping those another process delivers just now."""
        ...

    async def delivered(self, ids: Sequence[int]) -> None:
        """Forget delivered messages."""
        ...

    # --- tickets ----------------------------------------------------------------------------------------------
    async def tickets(
        self, ns: str, *, kind: str | None = None, state: str | None = None, run_id: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[TicketRow]:
        """Return tickets, newest first; `after` is the id of the last one seen."""
        ...

    async def get_ticket(self, ns: str, ticket: str) -> TicketRow | None:
        """Return one ticket."""
        ...

    async def decide_ticket(
        self, ns: str, ticket: str, answer: bytes, key: str, body: bytes, *, votes: int = 0, closes: bool = True
    ) -> TicketRow | None:
        """Set an open ticket to `decided` with `answer` and send `body` to its run, in one transaction.

        A run that has ended gets no message and is not reopened by it.

        Args:
            votes: How many answers the ticket has got before; with another number nothing is done.
            closes: Whether this answer decides; otherwise the ticket stays open for more.

        Returns:
            The ticket as it now stands; the caller compares `answer` with its own. `None` when there is none.
        """
        ...

    # --- tasks ------------------------------------------------------------------------------------------------
    async def take_tasks(self, worker: str, limit: int, handlers: Sequence[str]) -> list[TaskRow]:
        """Take waiting tasks we can execute, and those whose executor's lease has ended.

        The rows returned name in `worker` the executor that died, or `None` where nobody had begun.
        """
        ...

    async def drop_task(self, task: str, worker: str) -> bool:
        """Remove a task we hold; `False` when it is no longer ours."""
        ...

    # --- reading ----------------------------------------------------------------------------------------------
    async def get_run(self, run_id: str) -> RunRow | None:
        """Return a run's row."""
        ...

    async def list_runs(self, where: RunFilter, *, after: str = "", limit: int = 50) -> list[RunRow]:
        """Return runs, newest first; `after` is the `cursor` of the last one seen."""
        ...

    async def count_runs(self, ns: str) -> dict[str, int]:
        """Return how many runs have each status."""
        ...

    async def delete_runs(self, ns: str, *, run_id: str | None = None, before: int = 0, limit: int = 1000) -> int:
        """Delete ended runs with all they own: one by id, or those finished before a time; return how many."""
        ...

    async def tail(self, cursors: Mapping[int, int], limit: int = 1000) -> list[TailRow]:
        """Return groups committed after each writer's cursor (writers not named start at 0), per writer in order."""
        ...

    async def tail_heads(self) -> dict[int, int]:
        """Return each writer's newest position."""
        ...

    # --- projections ------------------------------------------------------------------------------------------
    async def project_steps(self, name: str, rows: Sequence[StepRow], cursors: Mapping[int, int]) -> None:
        """Upsert step rows and the projection's cursors in one transaction; steps of deleted runs are left out.

        A row replaces one of the same or an older `as_of` only, so that a projector that has fallen behind undoes
        nothing; of repeats in one call the newest counts, of those as of one record the last.
        """
        ...

    async def projection_cursors(self, name: str) -> dict[int, int]:
        """Return where a projection stands."""
        ...

    async def reset_projection(self, name: str) -> None:
        """Drop a projection's rows and cursors, so that it is built anew."""
        ...

    async def list_steps(self, where: StepFilter, *, after: str = "", limit: int = 100) -> list[StepRow]:
        """Return steps across runs, newest first."""
        ...
