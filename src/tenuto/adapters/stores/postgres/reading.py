"""Definitions, lists, projections: what people see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.batch import columns
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.store import RunFilter, RunRow, StepFilter, StepRow, TailRow, WorkflowRow


class Definitions(Part):
    """Versions of workflows and their tags."""

    async def put_workflow(self, row: WorkflowRow) -> None:
        """Store a version if it is new; no tag moves."""
        await self.parts.pool.fetch("put_workflow", row.ns, row.name, row.digest, row.body, row.created_at)

    async def get_definition(self, ns: str, digest: str) -> bytes | None:
        """Return a version's canonical JSON."""
        return await self.parts.pool.value("get_definition", ns, digest)

    async def list_workflows(self, ns: str, name: str | None = None) -> list[WorkflowRow]:
        """Return versions with their tags, newest first, retired ones included."""
        return [rows.workflow(row) for row in await self.parts.pool.fetch("list_workflows", ns, name)]

    async def resolve_tag(self, ns: str, name: str, tag: str) -> str | None:
        """Return the digest a tag points at; a full digest of the workflow resolves to itself."""
        return await self.parts.pool.value("resolve_tag", ns, name, tag)

    async def retire_workflow(self, ns: str, name: str, digest: str | None) -> int:
        """Mark versions (all when `digest` is `None`) as not startable; return how many."""
        return await self.parts.pool.value("retire_workflow", ns, name, digest)


class Reading(Part):
    """Lists of runs and the retention of them."""

    async def get_run(self, run_id: str) -> RunRow | None:
        """Return a run's row."""
        row = await self.parts.pool.first("get_run", run_id) if rows.is_id(run_id) else None
        return None if row is None else rows.run_row(row)

    async def list_runs(self, where: RunFilter, *, after: str = "", limit: int = 50) -> list[RunRow]:
        """Return runs, newest first; `after` is the `cursor` of the last one seen."""
        labels = msgspec.json.encode(dict(where.labels)).decode() if where.labels else None
        version = None if where.digest is None else rows.packed_digest(where.digest)
        found = await self.parts.pool.fetch(
            "list_runs", where.ns, list(where.statuses) or None, where.workflow, version, labels,
            where.replay_of, where.parent, where.text, where.created_after, where.created_before,
            *rows.run_cursor(after), limit,
        )  # fmt: skip
        return [rows.run_row(row) for row in found]

    async def count_runs(self, ns: str) -> dict[str, int]:
        """Return how many runs have each status."""
        return {row["status"]: row["count"] for row in await self.parts.pool.fetch("count_runs", ns)}

    async def run_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids of runs of all namespaces greater than `after`, in order."""
        found = await self.parts.pool.fetch("run_ids", after if rows.is_id(after) else None, limit)
        return [str(row["id"]) for row in found]

    async def delete_runs(
        self, ns: str, *, run_id: str | None = None, before: int = 0, limit: int = 1000
    ) -> int:
        """Delete ended runs with all they own: one by id, or those finished before a time; return how many."""
        if (run_id is None and before <= 0) or (run_id is not None and not rows.is_id(run_id)):
            return 0
        return await self.parts.pool.value("delete_runs", ns, run_id, before, limit)

    async def stats(self) -> dict[str, Any]:
        """Return sizes and counts for `doctor`."""
        return {"backend": "postgres", **await self.parts.pool.first("stats")}


class Projections(Part):
    """The committed groups in order, and the view of steps made from them."""

    async def tail(self, cursors: Mapping[int, int], limit: int = 1000) -> list[TailRow]:
        """Return groups committed after each writer's cursor, per writer in order."""
        found = await self.parts.pool.fetch("tail", list(cursors), list(cursors.values()), limit)
        return [TailRow(row["writer"], row["n"], rows.group_runs(row["runs"])) for row in found]

    async def tail_heads(self) -> dict[int, int]:
        """Return each writer's newest position."""
        return {row["id"]: row["n"] for row in await self.parts.pool.fetch("tail_heads")}

    async def project_steps(self, name: str, rows: Sequence[StepRow], cursors: Mapping[int, int]) -> None:
        """Upsert step rows and the projection's cursors in one statement; an older row replaces none."""
        newest = {(row.run_id, row.step): row for row in sorted(rows, key=lambda row: row.as_of)}
        values = [
            (
                r.ns,
                r.run_id,
                r.step,
                r.node,
                r.kind,
                r.status,
                r.attempt,
                r.started_at,
                r.finished_at,
                r.error,
                r.as_of,
                r.reused,
                r.cache,
                r.stored,
                r.saved_ms,
                r.saved_usd_micros,
            )
            for _, r in sorted(newest.items())
        ]
        await self.parts.pool.fetch(
            "project_steps", name, *columns(values, 16), list(cursors), list(cursors.values())
        )

    async def projection_cursors(self, name: str) -> dict[int, int]:
        """Return where a projection stands."""
        return {row["writer"]: row["n"] for row in await self.parts.pool.fetch("projection_cursors", name)}

    async def reset_projection(self, name: str) -> None:
        """Drop a projection's rows and cursors, so that it is built anew."""
        await self.parts.pool.fetch("reset_projection", name)

    async def list_steps(self, where: StepFilter, *, after: str = "", limit: int = 100) -> list[StepRow]:
        """Return steps across runs, newest first."""
        if where.run_id is not None and not rows.is_id(where.run_id):
            return []
        found = await self.parts.pool.fetch(
            "list_steps", where.ns, where.run_id, where.node, where.kind, list(where.statuses) or None, where.after,
            where.before, *rows.step_cursor(after), limit,
        )  # fmt: skip
        return [rows.step(row) for row in found]
