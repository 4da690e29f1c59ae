"""A group of commits as few statements over many rows, built in one pass."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.funds import NoRoom, enter
from tenuto.adapters.stores.sqlite.rows import Ids, encode_labels
from tenuto.adapters.stores.sqlite.transaction import NeedsCare, Tx, alone
from tenuto.ports.store import Commit, Committed, RowChange, RunRow

_OK = Committed("ok")
_APPLIED = Committed("ok", True)
_FENCED = Committed("fenced")
_MOVED = Committed("moved")

_place = struct.Struct(">16si").pack
ids = Ids()


class _Fenced(Exception):
    """The position is taken, or the owner was replaced."""


class _Moved(Exception):
    """A message came in that the record should have known."""


def store(tx: Tx, commits: Sequence[Commit]) -> list[Committed]:
    """Store commits, each wholly or not at all; one answer per commit, in order."""
    if not tx.careful:
        try:
            return _together(tx, commits)
        except (_Fenced, _Moved, NoRoom):
            raise NeedsCare from None
    return [_single(tx, commit) for commit in commits]


def _single(tx: Tx, commit: Commit) -> Committed:
    answer, error = alone(tx, lambda tx: _together(tx, [commit])[0])
    if error is None:
        return answer
    if isinstance(error, _Fenced):
        return _stored_before(tx, commit)
    if isinstance(error, _Moved):
        return _MOVED
    if isinstance(error, NoRoom):
        return Committed("refused", shorts=error.shorts)
    return Committed("poison", error=f"{type(error).__name__}: {error}")


def _stored_before(tx: Tx, commit: Commit) -> Committed:
    """Know a commit again that was made before and whose answer was lost."""
    if commit.record is None:
        return _FENCED
    run = ids[commit.run_id]
    found = sql.first(tx.db, "chain", run, commit.record.seq)
    if found is None or found[0] != commit.record.chain:
        return _FENCED
    if commit.row is None:
        return _OK
    epoch, state = sql.first(tx.db, "owner", run) or (0, "done")
    left = epoch > commit.epoch or (epoch == commit.epoch and state != "owned")
    return _APPLIED if left or commit.new is not None else _OK


def _together(tx: Tx, commits: Sequence[Commit]) -> list[Committed]:
    """Store commits none of which is refused.

    Raises:
        _Fenced: One of them is fenced; the caller undoes what was done.
        _Moved: One of them has not seen its newest message; the caller undoes what was done.
        NoRoom: One of them asks for more than there is; the caller undoes what was done.
    """
    db, owners = tx.db, tx.owners
    records: list[Any] = []
    packed: list[bytes] = []
    unsure: list[Any] = []
    timed: list[Any] = []
    rest: list[Commit] = []
    funded = False
    for commit in commits:
        funded = funded or commit.escrow is not None
        run = ids[commit.run_id]
        record = commit.record
        if record is not None:
            records += (run, record.seq, record.epoch, record.chain, record.body)
            packed.append(_place(run, record.seq))
        if commit.new is None and owners.get(run) != commit.epoch:
            unsure += (run, commit.epoch)
        if commit.inbox_seen is not None:
            timed += (run, commit.inbox_seen)
        if (
            record is None
            or commit.row is not None
            or commit.new is not None
            or commit.eaten
            or commit.blobs
            or commit.tickets
            or commit.outbox
            or commit.tasks
            or commit.tasks_done
            or commit.graph
            or commit.snapshot is not None
        ):
            rest.append(commit)
    if unsure:
        _check_owners(tx, unsure)
    if sql.BULK["rec_add"].run(db, records) != len(packed):
        raise _Fenced
    if timed and sql.BULK["moved"].total(db, timed):
        raise _Moved
    unapplied = _rest(tx, rest) if rest else ()
    tx.packed += packed
    answers = [_OK if commit.row is None or commit.run_id in unapplied else _APPLIED for commit in commits]
    return _funds(tx, commits, answers) if funded else answers


def _funds(tx: Tx, commits: Sequence[Commit], answers: list[Committed]) -> list[Committed]:
    """Enter what some of the commits ask for and settle among what many runs share.

    Raises:
        NoRoom: One asks for more than there is; the caller undoes what was done.
    """
    return [
        answer if commit.escrow is None else enter(tx, commit, answer)
        for commit, answer in zip(commits, answers, strict=True)
    ]


def _check_owners(tx: Tx, unsure: list[Any]) -> None:
    """Refuse commits of replaced owners and for no run; while only we write, a run is looked up once for each owner."""
    if sql.BULK["valid"].total(tx.db, unsure) * 2 != len(unsure):
        raise _Fenced
    tx.owners.update(zip(unsure[::2], unsure[1::2], strict=True))


def _rest(tx: Tx, commits: list[Commit]) -> set[str]:
    """Store what stands or falls with the records; return the runs whose change of ownership was left out."""
    news: list[Any] = []
    changes: list[Any] = []
    changed: list[Commit] = []
    eaten: list[Any] = []
    unapplied: set[str] = set()
    for commit in commits:
        run = ids[commit.run_id]
        if commit.new is not None:
            if not _add_new(tx, news, run, commit.new, commit.row):
                unapplied.add(commit.run_id)
        elif commit.row is not None:
            changes += _change(tx, run, commit.epoch, commit.row)
            changed.append(commit)
        for n in commit.eaten:
            eaten += (run, n)
        _rare(tx, run, commit)
    if news:
        sql.BULK["run_add"].run(tx.db, news)
    if changes and sql.BULK["run_change"].run(tx.db, changes) != len(changed):
        unapplied |= {commit.run_id for commit in changed if not _was_applied(tx, commit)}
    if eaten:
        sql.BULK["inbox_eat"].run(tx.db, eaten)
    return unapplied


def _was_applied(tx: Tx, commit: Commit) -> bool:
    """The condition of the change holds after it as before, for a change alters none of what it asks."""
    assert commit.row is not None
    seen = (ids[commit.run_id], commit.epoch, commit.row.inbox_seen)
    return sql.first(tx.db, "run_seen", *seen) is not None


def _due_at(tx: Tx, state: str, wake_at: int) -> int | None:
    if state == "ready":
        return wake_at or tx.now
    return wake_at if state == "waiting" and wake_at else None


def _change(tx: Tx, run: bytes, epoch: int, row: RowChange) -> tuple[Any, ...]:
    tx.woke = tx.woke or row.state == "ready"
    return (
        run, epoch, row.inbox_seen, row.state, row.status, row.wake_at, _due_at(tx, row.state, row.wake_at),
        row.error, row.started_at, row.finished_at,
    )  # fmt: skip


def _add_new(tx: Tx, news: list[Any], run: bytes, new: RunRow, row: RowChange | None) -> bool:
    """Add a new run's row, a change that rides with it made at once; return whether nothing was left out."""
    state, status, wake_at, error = new.state, new.status, new.wake_at, new.error
    started_at, finished_at, worker = new.started_at, new.finished_at, new.worker
    applied = row is None or row.inbox_seen == new.inbox_seq
    if row is not None and applied:
        state, status, wake_at, error = row.state, row.status, row.wake_at, row.error
        started_at, finished_at, worker = row.started_at, row.finished_at, None
    tx.woke = tx.woke or state == "ready"
    due_at = max(wake_at, min(new.created_at, tx.now)) if state == "ready" else _due_at(tx, state, wake_at)
    tx.owners[run] = new.epoch
    news += (
        run, new.ns, new.workflow, new.digest, state, status, new.priority, wake_at, due_at, worker,
        new.epoch, new.inbox_seq, new.created_at, started_at, finished_at,
        new.goal, encode_labels(new.labels).decode() if new.labels else "", new.parent, new.replay_of, error,
        new.business_key,
    )  # fmt: skip
    return applied


def _rare(tx: Tx, run: bytes, commit: Commit) -> None:
    """Store what few commits carry."""
    db = tx.db
    if commit.blobs:
        sql.changes(db, "blob_add", list(commit.blobs))
    if commit.snapshot is not None and commit.record is not None:
        sql.change(db, "snapshot_put", run, commit.record.seq, commit.snapshot)
    if commit.graph:
        sql.change(db, "run_graph", commit.graph, run)
    if commit.tickets:
        sql.changes(db, "ticket_put", [
            (t.ns, t.id, run, t.step, t.kind, t.state, t.message, t.body, t.answer, t.created_at, t.expires_at,
             t.decided_at)
            for t in {(t.ns, t.id): t for t in commit.tickets}.values()
        ])  # fmt: skip
    if commit.outbox:
        tx.woke = True
        sql.changes(db, "outbox_add", [(m.ns, m.target, m.key, m.kind, m.body) for m in commit.outbox])
    if commit.tasks:
        tx.woke = True
        sql.changes(db, "task_add", [
            (t.id, t.ns, run, t.step, t.attempt, t.handler, t.body, t.created_at or tx.now) for t in commit.tasks
        ])  # fmt: skip
    if commit.tasks_done:
        sql.changes(db, "task_withdraw", [(task,) for task in commit.tasks_done])
