"""Commits to a memory database: the fence, and the rows that stand or fall with a record."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.memory.database import Database
from tenuto.ports.store import Commit, Committed, RowChange, RunRow, TailRow, TicketRow


def commit_group(db: Database, batch: Sequence[Commit]) -> list[Committed]:
    """Apply a group; nothing of a refused commit is left behind."""
    results: list[Committed] = []
    written: list[tuple[str, int]] = []
    for item in batch:
        result = _commit(db, item)
        results.append(result)
        if result.outcome == "ok" and item.record is not None:
            written.append((item.run_id, item.record.seq))
    if written:
        db.groups.append(TailRow(writer=1, n=len(db.groups) + 1, runs=tuple(written)))
    db.wake()
    return results


def _commit(db: Database, c: Commit) -> Committed:
    if c.new is not None:
        if c.run_id in db.runs:
            return _fenced_unless_ours(db, c)
        db.runs[c.run_id] = msgspec.structs.replace(c.new)
        db.journal[c.run_id] = []
        db.inbox[c.run_id] = []
        db.inbox_keys[c.run_id] = set()
    row = db.runs.get(c.run_id)
    if row is None or (c.new is None and row.epoch > c.epoch):
        return _fenced_unless_ours(db, c)
    if c.record is not None:
        journal = db.journal[c.run_id]
        if c.record.seq != len(journal) + 1:
            return _fenced_unless_ours(db, c)
        journal.append(c.record)
    applied = c.row is not None and _change(row, c.epoch, c.row)
    _beside(db, c)
    return Committed(outcome="ok", row_applied=applied)


def _fenced_unless_ours(db: Database, c: Commit) -> Committed:
    """Recognise a commit that was made before and whose answer was lost."""
    journal = db.journal.get(c.run_id, [])
    if c.record is not None and c.record.seq <= len(journal) and journal[c.record.seq - 1].chain == c.record.chain:
        row = db.runs[c.run_id]
        wanted = c.row is not None and row.worker is None and row.epoch == c.epoch
        return Committed(outcome="ok", row_applied=wanted)
    return Committed(outcome="fenced")


def _change(row: RunRow, epoch: int, change: RowChange) -> bool:
    if row.epoch != epoch or row.inbox_seq != change.inbox_seen:
        return False
    row.state, row.status, row.worker = change.state, change.status, None
    row.wake_at, row.error = change.wake_at, change.error
    row.started_at = change.started_at or row.started_at
    row.finished_at = change.finished_at
    return True


def _beside(db: Database, c: Commit) -> None:
    for digest, body in c.blobs:
        db.blobs.setdefault(digest, body)
    if c.eaten:
        gone = set(c.eaten)
        db.inbox[c.run_id] = [item for item in db.inbox[c.run_id] if item.n not in gone]
    if c.snapshot is not None and c.record is not None:
        db.snapshots[c.run_id] = (c.record.seq, c.snapshot)
    for ticket in c.tickets:
        _ticket(db, ticket)
    for message in c.outbox:
        db.outbox_seq += 1
        db.outbox[db.outbox_seq] = msgspec.structs.replace(message, id=db.outbox_seq)
    for task in c.tasks:
        db.tasks.setdefault(task.id, msgspec.structs.replace(task))
    for task_id in c.tasks_done:
        db.tasks.pop(task_id, None)


def _ticket(db: Database, ticket: TicketRow) -> None:
    """Insert a ticket, or close or decide it; an answer given by a person before is kept."""
    known = db.tickets.get((ticket.ns, ticket.id))
    if known is None or (ticket.state == "open" and ticket.kind == "dead_letter"):
        db.tickets[ticket.ns, ticket.id] = msgspec.structs.replace(ticket)
    elif ticket.state != "open":
        known.decided_at = known.decided_at or ticket.decided_at
        known.answer = known.answer or ticket.answer
        known.state = ticket.state
