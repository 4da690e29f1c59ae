"""Definitions, lists, projections: what people see."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.sqlite import rows, sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import Ids, stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.store import RunFilter, RunRow, StepFilter, StepRow, TailRow, WorkflowRow

_OWNED = (
    "rec_delete", "inbox_delete", "snapshot_delete", "ticket_delete", "notification_delete", "task_delete",
    "key_delete", "view_delete", "findings_forget", "run_delete",
)  # fmt: skip

_ids = Ids()


def _place(row: StepRow) -> tuple[str, str]:
    return row.run_id, row.step


def _list(values: Sequence[str]) -> str | None:
    return msgspec.json.encode(list(values)).decode() if values else None


class Definitions(Part):
    """Versions of workflows and their tags."""

    async def put_workflow(self, row: WorkflowRow) -> None:
        """Store a version if it is new; no tag moves."""

        def put(tx: Tx) -> None:
            created_at = row.created_at or tx.now
            sql.change(tx.db, "workflow_add", row.ns, row.name, row.digest, row.body, created_at)

        await self.parts.writer.run(put)

    async def get_definition(self, ns: str, digest: str) -> bytes | None:
        """Return a version's canonical JSON."""
        row = await self.parts.readers.first("definition", ns, digest)
        return None if row is None else row[0]

    async def list_workflows(self, ns: str, name: str | None = None) -> list[WorkflowRow]:
        """Return versions with their tags, newest first, retired ones included."""
        return [rows.workflow(row) for row in await self.parts.readers.rows("workflow_list", ns, name)]

    async def resolve_tag(self, ns: str, name: str, tag: str) -> str | None:
        """Return the digest a tag points at; a full digest of the workflow resolves to itself."""
        row = await self.parts.readers.first("tag_resolve", ns, name, tag)
        return None if row is None else row[0]

    async def retire_workflow(self, ns: str, name: str, digest: str | None) -> int:
        """Mark versions (all when `digest` is `None`) as not startable; return how many."""
        return await self.parts.writer.run(lambda tx: sql.change(tx.db, "workflow_retire", ns, name, digest))


class Reading(Part):
    """Lists of runs and the retention of them."""

    async def get_run(self, run_id: str) -> RunRow | None:
        """Return a run's row."""
        run = stored_id(run_id)
        row = await self.parts.readers.first("run_get", run) if run else None
        return None if row is None else rows.run_row(row)

    async def list_runs(self, where: RunFilter, *, after: str = "", limit: int = 50) -> list[RunRow]:
        """Return runs, newest first; `after` is the `cursor` of the last one seen."""
        labels = msgspec.json.encode(dict(where.labels)).decode() if where.labels else None
        found = await self.parts.readers.rows(
            "run_list", where.ns, _list(where.statuses), where.workflow, where.digest, labels, where.replay_of,
            where.parent, where.text, where.created_after, where.created_before, *rows.run_cursor(after), limit,
        )  # fmt: skip
        return [rows.run_row(row) for row in found]

    async def count_runs(self, ns: str) -> dict[str, int]:
        """Return how many runs have each status."""
        return dict(await self.parts.readers.rows("run_count", ns))

    async def run_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids of runs of all namespaces greater than `after`, in order."""
        found = await self.parts.readers.rows("run_ids", stored_id(after) or b"", limit)
        return [rows.id_text(row[0]) for row in found]

    async def delete_runs(
        self, ns: str, *, run_id: str | None = None, before: int = 0, limit: int = 1000
    ) -> int:
        """Delete ended runs with all they own: one by id, or those finished before a time; return how many."""
        run = stored_id(run_id) if run_id is not None else None
        if (run_id is None and before <= 0) or (run_id is not None and run is None):
            return 0

        def delete(tx: Tx) -> int:
            gone = sql.rows(tx.db, "run_ended", ns, run, before, limit)
            for statement in _OWNED:
                sql.changes(tx.db, statement, gone)
            tx.owners.clear()
            return len(gone)

        return await self.parts.writer.run(delete)


class Projections(Part):
    """The committed groups in order, and the view of steps made from them."""

    async def tail(self, cursors: Mapping[int, int], limit: int = 1000) -> list[TailRow]:
        """Return groups committed after each writer's cursor, per writer in order."""
        def read(db: sqlite3.Connection) -> list[Any]:
            found: list[Any] = []
            with sql.one_moment(db):
                for writer, newest in sql.rows(db, "tail_heads"):
                    after = cursors.get(writer, 0)
                    if newest > after and len(found) < limit:
                        found += sql.rows(db, "tail", writer, after, limit - len(found))
            return found

        found = await self.parts.readers.run(read)
        return [TailRow(writer, n, rows.group_runs(packed)) for writer, n, packed in found]

    async def tail_heads(self) -> dict[int, int]:
        """Return each writer's newest position."""
        return dict(await self.parts.readers.rows("tail_heads"))

    async def project_steps(self, name: str, rows: Sequence[StepRow], cursors: Mapping[int, int]) -> None:
        """Upsert step rows and the projection's cursors in one transaction; an older row replaces none."""
        flat: list[Any] = []
        for row in sorted(rows, key=_place):  # neighbours in the table are written together
            flat += (
                name, row.ns, _ids[row.run_id], row.step, row.node, row.kind, row.status, row.attempt,
                row.started_at, row.finished_at, row.error, row.as_of, int(row.reused), row.cache, int(row.stored), row.saved_ms,
                row.saved_usd_micros,
            )  # fmt: skip

        def project(tx: Tx) -> None:
            sql.BULK["step_put"].run(tx.db, flat)
            sql.changes(tx.db, "projection_move", [(name, writer, n) for writer, n in cursors.items()])

        await self.parts.writer.run(project)

    async def projection_cursors(self, name: str) -> dict[int, int]:
        """Return where a projection stands."""
        return dict(await self.parts.readers.rows("projection_cursors", name))

    async def reset_projection(self, name: str) -> None:
        """Drop a projection's rows and cursors, so that it is built anew."""

        def reset(tx: Tx) -> None:
            sql.change(tx.db, "view_drop", name)
            sql.change(tx.db, "usage_reset", name)
            sql.change(tx.db, "projection_drop", name)

        await self.parts.writer.run(reset)

    async def list_steps(self, where: StepFilter, *, after: str = "", limit: int = 100) -> list[StepRow]:
        """Return steps across runs, newest first."""
        run = stored_id(where.run_id) if where.run_id is not None else None
        if where.run_id is not None and run is None:
            return []
        found = await self.parts.readers.rows(
            "step_list", where.ns, run, where.node, where.kind, _list(where.statuses), where.after, where.before,
            *rows.step_cursor(after), limit,
        )  # fmt: skip
        return [rows.step(row) for row in found]
