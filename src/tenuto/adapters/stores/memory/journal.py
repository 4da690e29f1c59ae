"""Appending to journals and reading them back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.memory.funds import Funds
from tenuto.adapters.stores.memory.tables import Held, Tables, copied, is_id
from tenuto.domain.runs.wire import Record
from tenuto.errors import Conflict, Invalid, KeyReused
from tenuto.ports.store import Commit, Committed, History, RowChange, RunRow, TicketRow

_LARGEST_POSITION = 2**31 - 1
_OK = Committed("ok")
_APPLIED = Committed("ok", True)
_FENCED = Committed("fenced")
_MOVED = Committed("moved")


class Journal(Funds):
    """The journal's side of the store."""

    tables: Tables
    writer: int

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Store a group; one answer per commit, in order."""
        answers = [self._store(commit) for commit in batch]
        self._list(batch, answers)
        return answers

    async def create_once(self, commit: Commit, key: str, body_digest: str) -> tuple[str, bool]:
        """Create a run under an idempotency key; return its id and whether it was created now.

        Raises:
            KeyReused: The key was used with another body.
            Invalid: The store refuses the run itself.
            Conflict: The id of the new run is taken.
        """
        before = self.tables.keys.get((commit.ns, key))
        if before is not None:
            if before[1] != body_digest:
                raise KeyReused(f"the idempotency key {key!r} was used before with another request body")
            return before[0], False
        await self._create(commit)
        self.tables.keys[commit.ns, key] = (commit.run_id, body_digest, "", self.tables.clock())
        return commit.run_id, True

    async def create_business(self, commit: Commit) -> tuple[str, bool]:
        """Create a run unless an unfinished run has its business key; return the id and whether new.

        Raises:
            Invalid: The store refuses the run itself, or it has no business key.
            Conflict: The id of the new run is taken.
        """
        key = commit.new.business_key if commit.new is not None else None
        if key is None:
            raise Invalid("a run started by business key needs one")
        before = self.tables.business_run(commit.ns, key)
        if before is not None:
            return before, False
        await self._create(commit)
        return commit.run_id, True

    async def load(self, run_ids: Sequence[str]) -> list[History]:
        """Return newest snapshot and the records after it, for each run that exists, in the order asked for."""
        found: list[History] = []
        for run_id in dict.fromkeys(run_ids):
            seq, body = self.tables.snapshots.get(run_id, (0, None))
            records = self.tables.records.get(run_id, [])[seq:]
            if body is not None or records:
                found.append(History(run_id, seq, body, records))
        return found

    async def records(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Record]:
        """Return records with `seq > after`, in order."""
        return self.tables.records.get(run_id, [])[after : after + limit]

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return the stored bytes of those digests that exist."""
        return {digest: self.tables.blobs[digest] for digest in digests if digest in self.tables.blobs}

    async def put_blobs(self, blobs: Sequence[tuple[str, bytes]], *, ns: str = "default") -> None:
        """Store bytes under their digests; repeats are harmless."""
        for digest, body in blobs:
            self.tables.keep_blob(digest, body)

    async def _create(self, commit: Commit) -> None:
        (done,) = await self.commit([commit])
        if done.outcome == "poison":
            raise Invalid(f"the run cannot be stored: {done.error}")
        if done.outcome == "fenced":
            raise Conflict(f"a run with the id {commit.run_id} exists already")

    def _list(self, batch: Sequence[Commit], answers: list[Committed]) -> None:
        places = tuple(
            (commit.run_id, commit.record.seq)
            for commit, answer in zip(batch, answers, strict=True)
            if commit.record is not None and answer.outcome == "ok"
        )
        if places:
            self.tables.groups.setdefault(self.writer, []).append(places)

    def _store(self, commit: Commit) -> Committed:
        tables, run = self.tables, self.tables.runs.get(commit.run_id)
        problem = self._problem(commit)
        if problem:
            return Committed("poison", error=problem)
        record = commit.record
        replaced = commit.new is None and (run is None or run.epoch > commit.epoch)
        journal = tables.records.get(commit.run_id, [])
        if replaced or (record is not None and record.seq <= len(journal)):
            return self._stored_before(commit, run, journal)
        if record is not None:
            if record.seq != len(journal) + 1:
                return Committed("poison", error=f"record {len(journal) + 1} is missing before {record.seq}")
            if run is not None and commit.inbox_seen is not None and run.inbox_seq > commit.inbox_seen:
                return _MOVED
            short = self.short(commit)
            if short is not None:
                return short
            tables.records.setdefault(commit.run_id, []).append(record)
        applied = commit.row is not None and self._change(commit, run, commit.row)
        self._rare(commit)
        return self.enter(commit, _APPLIED if applied else _OK)

    def _stored_before(self, commit: Commit, run: RunRow | None, journal: list[Record]) -> Committed:
        """Know a commit again that was made before and whose answer was lost."""
        record = commit.record
        if record is None or record.seq > len(journal) or journal[record.seq - 1].chain != record.chain:
            return _FENCED
        if commit.row is None:
            return _OK
        epoch, state = (run.epoch, run.state) if run is not None else (0, "done")
        left = epoch > commit.epoch or (epoch == commit.epoch and state != "owned")
        return _APPLIED if left or commit.new is not None else _OK

    def _problem(self, commit: Commit) -> str:
        """Return why a commit cannot be stored at all; checked before anything is changed."""
        if not is_id(commit.run_id):
            return f"{commit.run_id!r} is no run id; ids are UUIDs in lower case with dashes"
        record, new = commit.record, commit.new
        if record is not None and not (
            type(record.body) is bytes and type(record.chain) is bytes and 0 < record.seq <= _LARGEST_POSITION
        ):
            return "the record's body and chain must be bytes and its position a number from 1"
        if new is None or new.business_key is None or new.id in self.tables.runs:
            return ""
        if self.tables.business_run(new.ns, new.business_key) is not None:
            return f"an unfinished run has the business key {new.business_key!r}"
        return ""

    def _change(self, commit: Commit, run: RunRow | None, change: RowChange) -> bool:
        new = commit.new
        if new is not None:
            return change.inbox_seen == new.inbox_seq
        if run is None or run.epoch != commit.epoch or run.inbox_seq != change.inbox_seen:
            return False
        _apply(run, change)
        self.tables.set_due(run)
        if change.state == "ready":
            self.tables.wake()
        return True

    def _rare(self, commit: Commit) -> None:
        tables = self.tables
        if commit.new is not None:
            row = msgspec.structs.replace(commit.new, labels=dict(commit.new.labels), cursor="")
            if commit.row is not None and commit.row.inbox_seen == row.inbox_seq:
                _apply(row, commit.row)
            tables.runs[row.id] = row
            tables.set_due(row)
            if row.state == "ready":
                tables.due[row.id] = max(row.wake_at, min(row.created_at, tables.clock()))
        for n in commit.eaten:
            tables.inbox.get(commit.run_id, {}).pop(n, None)
        for digest, body in commit.blobs:
            tables.keep_blob(digest, body)
        if commit.graph:
            tables.runs[commit.run_id].digest = commit.graph
        if commit.snapshot is not None and commit.record is not None:
            tables.snapshots[commit.run_id] = (commit.record.seq, commit.snapshot)
        for ticket in {(ticket.ns, ticket.id): ticket for ticket in commit.tickets}.values():
            self._put_ticket(ticket)
        for message in commit.outbox:
            tables.last_outbox += 1
            tables.outbox[tables.last_outbox] = Held(msgspec.structs.replace(message, id=tables.last_outbox))
        for task in commit.tasks:
            created_at = task.created_at or tables.clock()
            tables.tasks.setdefault(task.id, msgspec.structs.replace(task, worker=None, created_at=created_at))
        for task_id in commit.tasks_done:
            tables.tasks.pop(task_id, None)
        if commit.outbox or commit.tasks or (commit.new is not None and commit.new.state == "ready"):
            tables.wake()

    def _put_ticket(self, ticket: TicketRow) -> None:
        tables, name = self.tables, (ticket.ns, ticket.id)
        before = tables.tickets.get(name)
        if before is None or (ticket.state == "open" and name not in tables.unheard):
            tables.tickets[name] = copied(ticket)
        elif ticket.state != "open":
            before.answer = ticket.answer if before.state == "open" else before.answer or ticket.answer
            before.state = ticket.state
            before.decided_at = before.decided_at or ticket.decided_at
            tables.unheard.discard(name)


def _apply(run: RunRow, change: RowChange) -> None:
    run.state, run.status, run.wake_at, run.error = change.state, change.status, change.wake_at, change.error
    run.started_at, run.finished_at = change.started_at or run.started_at, change.finished_at
    run.worker = None
