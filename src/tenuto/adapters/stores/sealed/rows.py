"""What is sealed in each kind of row, and bound to which place; everything else stays readable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from tenuto.adapters.stores.sealed.envelope import Envelopes, key_of
from tenuto.adapters.stores.sealed.ring import EVERYBODY, KeyRing
from tenuto.domain.runs.takeover import Taken, body_of
from tenuto.domain.runs.wire import ZERO, Record, encode_body, link
from tenuto.domain.runs.wire import record as plain_record
from tenuto.errors import Corrupt, TenutoError
from tenuto.ports.artifacts import ArtifactRow
from tenuto.ports.checkpoints import Saved
from tenuto.ports.findings import DeletedFinding
from tenuto.ports.lineage import TagMove
from tenuto.ports.notifications import NotificationRow
from tenuto.ports.plugins import OptimizerRow
from tenuto.ports.proposals import ProposalRow, Settled
from tenuto.ports.services import ReportRow
from tenuto.ports.store import (
    Commit,
    History,
    InboxRow,
    Once,
    OutboxRow,
    RunRow,
    StepRow,
    TaskRow,
    TicketRow,
    WorkflowRow,
)  # fmt: skip

log = logging.getLogger("tenuto.encryption")
CHAIN = 32


class UnknownKey(Exception):
    """A head is sealed by a key that was made after the ring was last read."""


class Rows:
    """Seals rows on their way in and opens them on their way out."""

    def __init__(self, ring: KeyRing, envelopes: Envelopes) -> None:
        """Use these keys."""
        self._ring = ring
        self._e = envelopes
        self.strict = True

    # --- journals ---------------------------------------------------------------------------------------------

    def record(self, ns: str, run: str, record: Record) -> Record:
        """Seal a record; its chain travels inside, and what can be compared of it stands outside."""
        body = self._e.seal(ns, record.chain + record.body, "record", run, record.seq)
        return Record(record.seq, record.epoch, body, self._e.mask(ns, record.chain))

    def open_record(self, run: str, stored: Record) -> Record:
        """Return a record as it was written.

        Raises:
            Shredded: Its key was destroyed.
            Corrupt: It is not sealed, not at its place, or altered.
        """
        text = self._e.open(stored.body, "record", run, stored.seq)
        chain, body = text[:CHAIN], text[CHAIN:]
        key = self._ring.key(key_of(stored.body))
        if key is None or not self._ring.has(key.ns) or self._e.mask(key.ns, chain) != stored.chain:
            raise Corrupt(f"run {run}: the chain of record {stored.seq} was altered", run=run, seq=stored.seq)
        return Record(stored.seq, stored.epoch, body, chain)

    def history(self, stored: History) -> History:
        """Open a history; what cannot be opened is its fault, and nobody else's."""
        run, snapshot = stored.run_id, stored.snapshot
        try:
            if snapshot is not None:
                snapshot = self._e.open(snapshot, "snapshot", run, stored.snapshot_seq)
            return replace(stored, snapshot=snapshot, records=[self.open_record(run, item) for item in stored.records])
        except TenutoError as error:
            return replace(stored, snapshot=None, records=[], fault=error)

    def taken(self, taken: Taken) -> Record:
        """Make the record of a takeover behind a sealed head.

        A head that cannot be opened is followed by a record that says so by not being sealed: whoever opens the run
        is stopped at the head already.
        """
        head = taken.head
        key = self._ring.key(key_of(head.body)) if head is not None else None
        if head is None or key is None or key.aead is None or not self._ring.has(key.ns):
            if head is not None and key is None and key_of(head.body) and self.strict:
                raise UnknownKey
            seq, chain = (0, ZERO) if head is None else (head.seq, head.chain)
            return plain_record(chain, taken.run_id, seq + 1, taken.epoch + 1, body_of(taken, None))
        try:
            text = self._e.open(head.body, "record", taken.run_id, head.seq)
        except TenutoError:
            return plain_record(head.chain, taken.run_id, head.seq + 1, taken.epoch + 1, body_of(taken, None))
        body = encode_body(body_of(taken, text[CHAIN:]))
        chain = link(text[:CHAIN], taken.run_id, head.seq + 1, taken.epoch + 1, body)
        return self.record(key.ns, taken.run_id, Record(head.seq + 1, taken.epoch + 1, body, chain))

    # --- commits ----------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> Commit:
        """Seal what a commit carries."""
        e, ns, run, seq = self._e, commit.ns, commit.run_id, 0
        record, row, new = commit.record, commit.row, commit.new
        if record is not None:
            seq, record = record.seq, self.record(ns, run, record)
        if row is not None and row.error:
            row = replace(row, error=e.seal_text(ns, row.error, "error", run))
        snapshot = commit.snapshot
        if snapshot is not None:
            snapshot = e.seal(ns, snapshot, "snapshot", run, seq)
        return replace(
            commit, record=record, new=new and self.run(new), row=row, blobs=self.blobs(ns, commit.blobs), snapshot=snapshot,
            tickets=[self.ticket(row) for row in commit.tickets],
            outbox=[self.message(row) for row in commit.outbox],
            tasks=[replace(row, body=e.seal(row.ns, row.body, "task", row.id)) for row in commit.tasks],
        )  # fmt: skip

    def namespaces(self, commit: Commit) -> set[str]:
        """Return the namespaces whose keys a commit needs."""
        found = {commit.ns}
        found.update(row.ns for row in commit.tickets)
        found.update(row.ns for row in commit.outbox)
        found.update(row.ns for row in commit.tasks)
        return found

    def blobs(self, ns: str, blobs: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Seal values under names that do not tell their digests."""
        named = [(self._e.name(ns, digest), body) for digest, body in blobs]
        return [(name, self._e.seal(ns, body, "blob", name)) for name, body in named]

    def open_blob(self, ns: str, name: str, stored: bytes) -> bytes:
        """Return a value."""
        return self._e.open(stored, "blob", name, ns=ns)

    def artifact(self, row: ArtifactRow) -> ArtifactRow:
        """Seal what is said of an artifact; its name does not tell its digest."""
        name = self._e.name(row.ns, row.name)
        return replace(row, name=name, body=self._e.seal(row.ns, row.body, "artifact", name))

    def open_artifact(self, row: ArtifactRow) -> ArtifactRow:
        """Open what is said of an artifact; its name stays that under which it is kept."""
        return replace(row, body=self._e.open(row.body, "artifact", row.name, ns=row.ns))

    # --- rows of runs -----------------------------------------------------------------------------------------

    def run(self, row: RunRow) -> RunRow:
        """Seal what a run's row says for people."""
        e, ns = self._e, row.ns
        return replace(
            row, goal=e.seal_text(ns, row.goal, "goal", row.id), error=e.seal_text(ns, row.error, "error", row.id),
            labels=self.labels(ns, row.labels), business_key=self.business(ns, row.business_key),
        )  # fmt: skip

    def open_run(self, row: RunRow) -> RunRow:
        """Return a run's row as it was; what cannot be opened is shown as such."""
        e, ns = self._e, row.ns
        return replace(
            row, goal=e.show(row.goal, "goal", row.id, ns=ns), error=e.show(row.error, "error", row.id, ns=ns),
            labels={name: e.show(value, "label", name, ns=ns) for name, value in row.labels.items()},
            business_key=row.business_key and e.show(row.business_key, "business", ns=ns),
        )  # fmt: skip

    def labels(self, ns: str, labels: Mapping[str, str]) -> dict[str, str]:
        """Seal the values of labels, so that they can still be asked for."""
        return {name: self._e.seal_same_text(ns, value, "label", name) for name, value in labels.items()}

    def business(self, ns: str, key: str | None) -> str | None:
        """Seal a business key, so that it stays unique."""
        return key and self._e.seal_same_text(ns, key, "business")

    def step(self, row: StepRow) -> StepRow:
        """Seal a step's error."""
        return replace(row, error=self._e.seal_text(row.ns, row.error, "step", row.run_id, row.step)) if row.error else row

    def open_step(self, row: StepRow) -> StepRow:
        """Return a step as it was."""
        return replace(row, error=self._e.show(row.error, "step", row.run_id, row.step, ns=row.ns)) if row.error else row

    # --- messages, tickets, tasks -----------------------------------------------------------------------------

    def inbox(self, ns: str, run: str, key: str, body: bytes) -> bytes:
        """Seal a message to a run."""
        return self._e.seal(ns, body, "inbox", run, key)

    def open_inbox(self, run: str, row: InboxRow) -> InboxRow:
        """Return a message to a run."""
        return InboxRow(row.n, row.key, self._e.open(row.body, "inbox", run, row.key))

    def message(self, row: OutboxRow) -> OutboxRow:
        """Seal a message between runs."""
        return replace(row, body=self._e.seal(row.ns, row.body, "outbox", row.target, row.key, row.kind))

    def open_messages(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Return messages between runs; one that is refused stays where it is, and is told of."""
        found: list[OutboxRow] = []
        for row in rows:
            try:
                body = self._e.open(row.body, "outbox", row.target, row.key, row.kind, ns=row.ns)
            except TenutoError as error:
                log.error("message %d to run %s is not delivered: %s", row.id, row.target, error, extra={"run": row.target})
            else:
                found.append(replace(row, body=body))
        return found

    def open_task(self, row: TaskRow) -> TaskRow:
        """Return a task; one that is refused has no body, so its attempt fails."""
        try:
            return replace(row, body=self._e.open(row.body, "task", row.id, ns=row.ns))
        except TenutoError as error:
            log.error("task %s cannot be executed: %s", row.id, error, extra={"run": row.run_id})
            return replace(row, body=b"")

    def ticket(self, row: TicketRow) -> TicketRow:
        """Seal what a ticket asks and was answered."""
        e, ns = self._e, row.ns
        return replace(
            row, message=e.seal_text(ns, row.message, "ticket message", row.id),
            body=e.seal(ns, row.body, "ticket body", row.id), answer=self.answer(ns, row.id, row.answer),
        )  # fmt: skip

    def answer(self, ns: str, ticket: str, answer: bytes) -> bytes:
        """Seal a decision; none stays none."""
        return self._e.seal(ns, answer, "ticket answer", ticket) if answer else b""

    def open_ticket(self, row: TicketRow) -> TicketRow:
        """Return a ticket as it was; what cannot be opened is left out, and its message says so."""
        e, ns = self._e, row.ns
        message = e.show(row.message, "ticket message", row.id, ns=ns)
        try:
            body = e.open(row.body, "ticket body", row.id, ns=ns)
            answer = e.open(row.answer, "ticket answer", row.id, ns=ns) if row.answer else b""
        except TenutoError as error:
            return replace(row, message=f"(unreadable: {error.message})", body=b"{}", answer=b"")
        return replace(row, message=message, body=body, answer=answer)

    def notification(self, row: NotificationRow) -> NotificationRow:
        """Seal to whom a message goes."""
        return replace(row, body=self._e.seal(row.ns, row.body, "notification", row.id))

    def notification_error(self, row: NotificationRow, error: str) -> str:
        """Seal why a message could not be sent."""
        return self._e.seal_text(row.ns, error, "notification.error", row.id)

    def open_notification(self, row: NotificationRow) -> NotificationRow:
        """Return a message to people as it was; of one that cannot be opened it is not known to whom it goes."""
        error = self._e.show(row.error, "notification.error", row.id, ns=row.ns)
        try:
            return replace(row, body=self._e.open(row.body, "notification", row.id, ns=row.ns), error=error)
        except TenutoError as fault:
            return replace(row, body=b"{}", error=f"(unreadable: {fault.message})")

    # --- checkpoints ------------------------------------------------------------------------------------------

    def saved(self, ns: str, saved: Saved) -> Saved:
        """Seal checkpoints, their values and writes."""
        return _each(saved, partial(self._e.seal, ns))

    def open_saved(self, ns: str, saved: Saved) -> Saved:
        """Return checkpoints, their values and writes as they were."""
        return _each(saved, partial(self._e.open, ns=ns))

    # --- reports ----------------------------------------------------------------------------------------------

    def report(self, row: ReportRow) -> ReportRow:
        """Seal what a process saw outside, under a key that outlives every namespace."""
        return replace(row, services=self._e.seal(EVERYBODY, row.services, "report", row.process))

    def open_report(self, row: ReportRow) -> ReportRow:
        """Return a report as it was; one that cannot be read says nothing."""
        try:
            return replace(row, services=self._e.open(row.services, "report", row.process, ns=EVERYBODY))
        except TenutoError:
            return replace(row, services=b"[]")

    # --- findings ---------------------------------------------------------------------------------------------

    def finding(self, ns: str, row: DeletedFinding) -> DeletedFinding:
        """Seal a deleted finding; its id comes from its text, so it is sealed too, comparable with itself."""
        return replace(
            row, id=self._e.seal_same_text(ns, row.id, "finding", row.run_id),
            by=self._e.seal_text(ns, row.by, "finding.by", row.run_id),
            reason=self._e.seal_text(ns, row.reason, "finding.reason", row.run_id),
        )  # fmt: skip

    def open_finding(self, ns: str, row: DeletedFinding) -> DeletedFinding:
        """Return a deleted finding as it was."""
        return replace(
            row, id=self._e.open_text(row.id, "finding", row.run_id, ns=ns),
            by=self._e.show(row.by, "finding.by", row.run_id, ns=ns),
            reason=self._e.show(row.reason, "finding.reason", row.run_id, ns=ns),
        )  # fmt: skip

    # --- definitions and idempotency --------------------------------------------------------------------------

    def workflow(self, row: WorkflowRow) -> WorkflowRow:
        """Seal a definition, under a key that outlives every namespace."""
        return replace(row, body=self._e.seal(EVERYBODY, row.body, "definition", row.ns, row.digest))

    def definition(self, ns: str, digest: str, stored: bytes) -> bytes:
        """Return a definition."""
        return self._e.open(stored, "definition", ns, digest, ns=EVERYBODY)

    def open_workflow(self, row: WorkflowRow) -> WorkflowRow:
        """Return a version as it was."""
        return replace(row, body=self.definition(row.ns, row.digest, row.body))

    def tag_move(self, move: TagMove) -> TagMove:
        """Seal why a tag was moved and what was changed, under a key that outlives every namespace."""
        place = f"{move.name}/{move.tag}/{move.digest}"
        return replace(
            move, by=self._e.seal_text(EVERYBODY, move.by, "move.by", place),
            reason=self._e.seal_text(EVERYBODY, move.reason, "move.reason", place),
            ops=self._e.seal(EVERYBODY, move.ops, "move.ops", move.ns, place),
            evidence=self._e.seal(EVERYBODY, move.evidence, "move.evidence", move.ns, place),
        )  # fmt: skip

    def open_tag_move(self, move: TagMove) -> TagMove:
        """Return a move as it was."""
        place = f"{move.name}/{move.tag}/{move.digest}"
        return replace(
            move, by=self._e.show(move.by, "move.by", place, ns=EVERYBODY),
            reason=self._e.show(move.reason, "move.reason", place, ns=EVERYBODY),
            ops=self._e.open(move.ops, "move.ops", move.ns, place, ns=EVERYBODY),
            evidence=self._e.open(move.evidence, "move.evidence", move.ns, place, ns=EVERYBODY),
        )  # fmt: skip

    # --- proposals and plug-ins, under a key that outlives every namespace ------------------------------------

    def proposal(self, row: ProposalRow) -> ProposalRow:
        """Seal what is proposed, why and by whom."""
        return replace(row, body=self._e.seal(EVERYBODY, row.body, "proposal", row.ns, row.id))

    def settled(self, settled: Settled) -> Settled:
        """Seal who decided and why."""
        return replace(settled, answer=self._e.seal(EVERYBODY, settled.answer, "proposal.answer", settled.ns, settled.id))

    def open_proposal(self, row: ProposalRow) -> ProposalRow:
        """Return a proposal as it was."""
        answer = self._e.open(row.answer, "proposal.answer", row.ns, row.id, ns=EVERYBODY) if row.answer else b""
        return replace(row, body=self._e.open(row.body, "proposal", row.ns, row.id, ns=EVERYBODY), answer=answer)

    def optimizer(self, row: OptimizerRow) -> OptimizerRow:
        """Seal who added a plug-in."""
        return replace(row, by=self._e.seal_text(EVERYBODY, row.by, "optimizer.by", f"{row.ns}/{row.name}"))

    def error(self, ns: str, name: str, error: str) -> str:
        """Seal what went wrong with a plug-in."""
        return self._e.seal_text(EVERYBODY, error, "optimizer.error", f"{ns}/{name}")

    def open_optimizer(self, row: OptimizerRow) -> OptimizerRow:
        """Return a plug-in's row as it was."""
        place = f"{row.ns}/{row.name}"
        return replace(
            row, by=self._e.show(row.by, "optimizer.by", place, ns=EVERYBODY),
            error=self._e.show(row.error, "optimizer.error", place, ns=EVERYBODY),
        )  # fmt: skip

    def module(self, ns: str, name: str, module: bytes) -> bytes:
        """Seal a plug-in's module."""
        return self._e.seal(EVERYBODY, module, "optimizer.module", ns, name)

    def open_module(self, ns: str, name: str, module: bytes) -> bytes:
        """Return a plug-in's module as it was."""
        return self._e.open(module, "optimizer.module", ns, name, ns=EVERYBODY)

    def once(self, once: Once) -> Once:
        """Seal what is kept under an idempotency key."""
        return replace(
            once, digest=self.request(once.ns, once.key, once.digest),
            answer=self._e.seal_text(once.ns, once.answer, "answer", once.key),
        )  # fmt: skip

    def request(self, ns: str, key: str, digest: str) -> str:
        """Seal the digest of a request, so that it can be compared."""
        return self._e.seal_same_text(ns, digest, "request", key)

    def open_once(self, once: Once) -> Once:
        """Return what is kept under an idempotency key."""
        return replace(
            once, digest=self._e.show(once.digest, "request", once.key, ns=once.ns),
            answer=self._e.show(once.answer, "answer", once.key, ns=once.ns),
        )  # fmt: skip


def _each(saved: Saved, do: Callable[..., bytes]) -> Saved:
    """Return checkpoints with each of their bodies sealed or opened, at its place."""
    return Saved(
        checkpoints=[
            replace(row, body=do(row.body, "checkpoint", *row.place), meta=do(row.meta, "checkpoint meta", *row.place))
            for row in saved.checkpoints
        ],
        values=[
            replace(row, body=do(row.body, "checkpoint value", row.thread, row.space, row.channel, row.version))
            for row in saved.values
        ],
        writes=[
            replace(row, body=do(row.body, "checkpoint write", row.thread, row.space, row.id, row.task, row.n, row.channel))
            for row in saved.writes
        ],
    )
