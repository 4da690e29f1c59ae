"""The memory store: every promise of the port but outliving the process. No threads, no clock but the given one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from tenuto.adapters.stores.memory.commits import commit_group
from tenuto.adapters.stores.memory.database import Database, wall_clock
from tenuto.adapters.stores.memory.ownership import Ownership
from tenuto.adapters.stores.memory.reading import Reading
from tenuto.domain.runs.wire import Record
from tenuto.errors import KeyReused
from tenuto.ports.store import (
    Commit,
    Committed,
    History,
    InboxRow,
    OutboxRow,
    SendOutcome,
    TicketRow,
    WorkflowRow,
)


class MemoryStore(Ownership, Reading):
    """A store for tests and simulations; `view` gives another process's store on the same data."""

    def __init__(self, *, clock: Callable[[], int] = wall_clock, database: Database | None = None) -> None:
        """Begin empty, or share a database."""
        self._db = database or Database(clock=clock)
        self.url = "memory:"

    def view(self) -> MemoryStore:
        """Return another store on the same data."""
        return MemoryStore(database=self._db)

    async def open(self) -> None:
        """See `Store.open`."""

    async def close(self) -> None:
        """See `Store.close`."""

    async def migrations(self) -> list[tuple[str, bool]]:
        """See `Store.migrations`."""
        return []

    def health(self) -> str:
        """See `Store.health`."""
        return ""

    async def now(self) -> int:
        """See `Store.now`."""
        return self._db.clock()

    # --- definitions ------------------------------------------------------------------------------------------

    async def put_workflow(self, row: WorkflowRow) -> None:
        """See `Store.put_workflow`."""
        key = (row.ns, row.name, row.digest)
        if key not in self._db.workflows:
            self._db.workflows[key] = msgspec.structs.replace(row, tags=())
        self._db.tags[row.ns, row.name, "latest"] = row.digest

    async def get_definition(self, ns: str, digest: str) -> bytes | None:
        """See `Store.get_definition`."""
        return next((r.body for (n, _, d), r in self._db.workflows.items() if n == ns and d == digest), None)

    async def list_workflows(self, ns: str, name: str | None = None) -> list[WorkflowRow]:
        """See `Store.list_workflows`."""
        tags: dict[tuple[str, str], list[str]] = {}
        for (n, workflow, tag), digest in self._db.tags.items():
            if n == ns:
                tags.setdefault((workflow, digest), []).append(tag)
        found = [
            msgspec.structs.replace(row, tags=tuple(sorted(tags.get((row.name, row.digest), ()))))
            for row in self._db.workflows.values()
            if row.ns == ns and name in (None, row.name)
        ]
        found.reverse()
        return found

    async def resolve_tag(self, ns: str, name: str, tag: str) -> str | None:
        """See `Store.resolve_tag`."""
        if (ns, name, tag) in self._db.workflows:
            return tag
        return self._db.tags.get((ns, name, tag))

    async def set_tag(self, ns: str, name: str, tag: str, digest: str) -> None:
        """See `Store.set_tag`."""
        self._db.tags[ns, name, tag] = digest

    async def retire_workflow(self, ns: str, name: str, digest: str | None) -> int:
        """See `Store.retire_workflow`."""
        count = 0
        for row in self._db.workflows.values():
            if row.ns == ns and row.name == name and digest in (None, row.digest) and not row.retired:
                row.retired = True
                count += 1
        return count

    # --- the journal ------------------------------------------------------------------------------------------

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """See `Store.commit`."""
        return commit_group(self._db, batch)

    async def create_once(self, commit: Commit, key: str, body_digest: str) -> tuple[str, bool]:
        """See `Store.create_once`."""
        known = self._db.keys.get((commit.ns, key))
        if known is not None:
            if known[1] != body_digest:
                raise KeyReused(f"the idempotency key {key!r} was used before with another body", key=key)
            return known[0], False
        commit_group(self._db, [commit])
        self._db.keys[commit.ns, key] = (commit.run_id, body_digest)
        return commit.run_id, True

    async def create_business(self, commit: Commit) -> tuple[str, bool]:
        """See `Store.create_business`."""
        assert commit.new is not None
        for row in self._db.runs.values():
            if row.ns == commit.ns and row.business_key == commit.new.business_key and row.state != "done":
                return row.id, False
        commit_group(self._db, [commit])
        return commit.run_id, True

    async def load(self, run_ids: Sequence[str]) -> list[History]:
        """See `Store.load`."""
        found: list[History] = []
        for run_id in run_ids:
            if run_id in self._db.runs:
                seq, snapshot = self._db.snapshots.get(run_id, (0, None))
                records = self._db.journal[run_id][seq:]
                found.append(History(run_id=run_id, snapshot_seq=seq, snapshot=snapshot, records=list(records)))
        return found

    async def records(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Record]:
        """See `Store.records`."""
        return self._db.journal.get(run_id, [])[after : after + limit]

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """See `Store.get_blobs`."""
        return {digest: self._db.blobs[digest] for digest in digests if digest in self._db.blobs}

    async def put_blobs(self, blobs: Sequence[tuple[str, bytes]]) -> None:
        """See `Store.put_blobs`."""
        for digest, body in blobs:
            self._db.blobs.setdefault(digest, body)

    # --- messages ---------------------------------------------------------------------------------------------

    async def wait_hint(self, timeout_s: float) -> None:
        """See `Store.wait_hint`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._db.changed.wait(), timeout_s)

    async def send(self, run_id: str, key: str, body: bytes, *, reopens: bool = False) -> SendOutcome:
        """See `Store.send`."""
        row = self._db.runs.get(run_id)
        if row is None:
            return "missing"
        if key in self._db.inbox_keys[run_id]:
            return "duplicate"
        if row.state == "done":
            if not reopens or row.status not in ("failed", "budget_exceeded"):
                return "terminal"
            row.state = "ready"
            row.wake_at = 0
        row.inbox_seq += 1
        self._db.inbox[run_id].append(InboxRow(n=row.inbox_seq, key=key, body=body))
        self._db.inbox_keys[run_id].add(key)
        if row.state == "waiting":
            row.state, row.wake_at = "ready", 0
        self._db.wake()
        return "accepted"

    async def inbox(self, run_id: str, after: int = 0) -> list[InboxRow]:
        """See `Store.inbox`."""
        return [row for row in self._db.inbox.get(run_id, []) if row.n > after]

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """See `Store.outbox`."""
        return list(self._db.outbox.values())[:limit]

    async def delivered(self, ids: Sequence[int]) -> None:
        """See `Store.delivered`."""
        for row in ids:
            self._db.outbox.pop(row, None)

    # --- tickets ----------------------------------------------------------------------------------------------

    async def tickets(
        self, ns: str, *, kind: str | None = None, state: str | None = None, run_id: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[TicketRow]:
        """See `Store.tickets`."""
        found = [
            msgspec.structs.replace(row)
            for row in self._db.tickets.values()
            if row.ns == ns and kind in (None, row.kind) and state in (None, row.state) and run_id in (None, row.run_id)
        ]
        found.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        if after:
            ids = [row.id for row in found]
            found = found[ids.index(after) + 1 :] if after in ids else []
        return found[:limit]

    async def get_ticket(self, ns: str, ticket: str) -> TicketRow | None:
        """See `Store.get_ticket`."""
        row = self._db.tickets.get((ns, ticket))
        return None if row is None else msgspec.structs.replace(row)

    async def decide_ticket(self, ns: str, ticket: str, answer: bytes, key: str, body: bytes) -> TicketRow | None:
        """See `Store.decide_ticket`."""
        row = self._db.tickets.get((ns, ticket))
        if row is None:
            return None
        if row.state == "open":
            row.state, row.answer, row.decided_at = "decided", answer, self._db.clock()
            await self.send(row.run_id, key, body)
        return msgspec.structs.replace(row)

    async def stats(self) -> dict[str, Any]:
        """See `Store.stats`."""
        return {"backend": "memory", "runs": len(self._db.runs), "records": sum(map(len, self._db.journal.values()))}

    async def tail_heads(self) -> dict[int, int]:
        """See `Store.tail_heads`."""
        return {1: len(self._db.groups)} if self._db.groups else {}

    async def projection_cursors(self, name: str) -> dict[int, int]:
        """See `Store.projection_cursors`."""
        return dict(self._db.cursors.get(name, {}))

    async def reset_projection(self, name: str) -> None:
        """See `Store.reset_projection`."""
        self._db.cursors.pop(name, None)
        self._db.steps.pop(name, None)
