"""A group of commits as the parameters of one statement: columns of rows, built in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres.rows import packed_digest
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.ports.store import Commit, RowChange, RunRow

_labels = msgspec.json.Encoder().encode
_NO_KEYS: Mapping[str, tuple[str, str, str]] = {}


class Batch:
    """What a group asks of the database.

    Attributes:
        expected: How many commits must be answered `ok` if none is fenced.
        changes: Row changes of runs that existed before, by run.
        statement: The smallest statement that can store the group.
        wakes: Whether other processes may find something to do.
    """

    def __init__(
        self, commits: Sequence[Commit], keys: Mapping[str, tuple[str, str, str]] = _NO_KEYS
    ) -> None:
        self.commits = commits
        self.expected = len(commits)
        self.has_records = False
        self.wakes = False
        records: list[Any] = []
        fences: list[int] = []
        run_ids: list[str] = []
        solo: list[tuple[Any, ...]] = []
        news: list[tuple[Any, ...]] = []
        eaten: list[tuple[Any, ...]] = []
        changes: list[Commit] = []
        rare: list[Commit] = []
        timed: list[tuple[Any, ...]] = []
        for commit in commits:
            record = commit.record
            if record is not None:
                run_ids.append(commit.run_id)
                records.append(record)
                fences.append(commit.epoch)
            else:
                solo.append((commit.run_id, commit.epoch))
            if commit.new is not None:
                self._add_new(news, commit.new, commit.row)
            elif commit.row is not None:
                changes.append(commit)
            for n in commit.eaten:
                eaten.append((commit.run_id, n))
            if commit.inbox_seen is not None and commit.new is None:
                timed.append((commit.run_id, commit.inbox_seen))
            if (
                commit.blobs
                or commit.tickets
                or commit.outbox
                or commit.tasks
                or commit.tasks_done
                or commit.graph
                or commit.snapshot is not None
            ):
                rare.append(commit)
        self.has_records = bool(run_ids)
        self.changes = changes
        epochs = [r.epoch for r in records]
        # Encoding a column costs more than comparing it; a missing fence is the record's own epoch.
        self._rows = [
            run_ids,
            [r.seq for r in records],
            epochs,
            [r.body for r in records],
            [r.chain for r in records],
            [] if fences == epochs else fences,
        ]
        if not (solo or changes or eaten or news or rare or keys or timed):
            self.statement = SQL["commit_records"]
            self._after: list[Any] = []
            return
        self._after = [
            *columns(solo, 2),
            *self._changes(),
            *columns(eaten, 2),
            *without_defaults(columns(news, 20), kept=6),
            len(commits),
        ]
        self.statement = SQL["commit"]
        if rare or keys or timed:
            self.statement = SQL["commit_full"]
            self._after += self._rare(rare) + columns([(run, *key) for run, key in keys.items()], 4)
            self._after += columns(timed, 2) + columns([(c.run_id, packed_digest(c.graph)) for c in rare if c.graph], 2)

    def arguments(self, writer: int, n: int) -> list[Any]:
        """Return the parameters; the group is listed as number `n` of `writer`, not at all when `n` is 0."""
        return [*self._rows, writer, n, *self._after]

    def _changes(self) -> list[list[Any]]:
        self.changes.sort(key=_run_id)
        rows: list[tuple[Any, ...]] = []
        for commit in self.changes:
            row = commit.row
            assert row is not None
            self.wakes = self.wakes or row.state == "ready"
            rows.append(
                (
                    commit.run_id,
                    commit.epoch,
                    row.inbox_seen,
                    row.state,
                    row.status,
                    row.wake_at,
                    row.error,
                    row.started_at,
                    row.finished_at,
                )
            )
        return without_defaults(columns(rows, 9), kept=5)

    def _add_new(self, news: list[tuple[Any, ...]], new: RunRow, row: RowChange | None) -> None:
        state, status, wake_at, error = new.state, new.status, new.wake_at, new.error
        started_at, finished_at, worker = new.started_at, new.finished_at, new.worker
        if row is not None and row.inbox_seen == new.inbox_seq:
            state, status, wake_at, error = row.state, row.status, row.wake_at, row.error
            started_at, finished_at, worker = row.started_at, row.finished_at, None
        self.wakes = self.wakes or state == "ready"
        news.append(
            (
                new.id,
                new.ns,
                new.workflow,
                packed_digest(new.digest),
                state,
                status,
                new.priority,
                wake_at,
                worker,
                new.epoch,
                new.inbox_seq,
                new.goal,
                _labels(new.labels).decode() if new.labels else None,
                new.parent,
                new.replay_of,
                error,
                new.business_key,
                new.created_at,
                started_at,
                finished_at,
            )
        )

    def _rare(self, commits: list[Commit]) -> list[list[Any]]:
        blobs: list[tuple[Any, ...]] = []
        snapshots: list[tuple[Any, ...]] = []
        tickets: list[tuple[Any, ...]] = []
        outbox: list[tuple[Any, ...]] = []
        tasks: list[tuple[Any, ...]] = []
        done: list[tuple[Any, ...]] = []
        for commit in commits:
            run = commit.run_id
            blobs += [(run, digest, body) for digest, body in commit.blobs]
            if commit.snapshot is not None and commit.record is not None:
                snapshots.append((run, commit.record.seq, commit.snapshot))
            # One statement may touch a row once: of several changes to a ticket the last one counts.
            tickets += [
                (
                    run,
                    t.id,
                    t.ns,
                    t.step,
                    t.kind,
                    t.state,
                    t.message,
                    t.body,
                    t.answer,
                    t.created_at,
                    t.expires_at,
                    t.decided_at,
                )
                for t in {(t.ns, t.id): t for t in commit.tickets}.values()
            ]
            outbox += [(run, m.ns, m.target, m.key, m.kind, m.body) for m in commit.outbox]
            tasks += [
                (run, t.id, t.ns, t.step, t.attempt, t.handler, t.body, t.created_at) for t in commit.tasks
            ]
            done += [(run, task) for task in commit.tasks_done]
        self.wakes = self.wakes or bool(outbox or tasks)
        # Two processes that store the same values take their locks in the same order.
        blobs.sort(key=_digest)
        return [
            *columns(blobs, 3),
            *columns(snapshots, 3),
            *columns(tickets, 12),
            *columns(outbox, 6),
            *columns(tasks, 8),
            *columns(done, 2),
        ]


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Return rows as `width` columns."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def without_defaults(columns: list[list[Any]], kept: int) -> list[list[Any]]:
    """Return columns, those that hold nothing but zeros, empty texts and nulls emptied; the statement fills them.

    Encoding a value costs far more than looking at it, and most columns of most runs hold nothing.
    """
    return [column if n < kept or any(column) else [] for n, column in enumerate(columns)]


def _run_id(commit: Commit) -> str:
    return commit.run_id


def _digest(row: tuple[Any, ...]) -> str:
    return row[1]
