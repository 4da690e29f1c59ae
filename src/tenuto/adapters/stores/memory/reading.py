"""Definitions, lists, projections: what people see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied, is_id
from tenuto.ports.store import RunFilter, RunRow, StepFilter, StepRow, TailRow, WorkflowRow
from tenuto.ports.usage import BILLED


class Definitions:
    """Versions of workflows and their tags."""

    tables: Tables

    async def put_workflow(self, row: WorkflowRow) -> None:
        """Store a version if it is new; no tag moves."""
        self.tables.add_workflow(row)

    async def get_definition(self, ns: str, digest: str) -> bytes | None:
        """Return a version's canonical JSON."""
        return next((w.body for w in self.tables.workflows if (w.ns, w.digest) == (ns, digest)), None)

    async def list_workflows(self, ns: str, name: str | None = None) -> list[WorkflowRow]:
        """Return versions with their tags, newest first, retired ones included."""
        found = [w for w in reversed(self.tables.workflows) if w.ns == ns and name in (None, w.name)]
        found.sort(key=lambda w: w.created_at, reverse=True)
        tags = sorted(self.tables.tags.items())
        return [
            msgspec.structs.replace(
                w, tags=tuple(tag for (ns_, n, tag), digest in tags if (ns_, n, digest) == (w.ns, w.name, w.digest))
            )
            for w in found
        ]

    async def resolve_tag(self, ns: str, name: str, tag: str) -> str | None:
        """Return the digest a tag points at; a full digest of the workflow resolves to itself."""
        if (ns, name, tag) in self.tables.tags:
            return self.tables.tags[ns, name, tag]
        known = any((w.ns, w.name, w.digest) == (ns, name, tag) for w in self.tables.workflows)
        return tag if known else None

    async def retire_workflow(self, ns: str, name: str, digest: str | None) -> int:
        """Mark versions (all when `digest` is `None`) as not startable; return how many."""
        found = [
            w for w in self.tables.workflows
            if (w.ns, w.name) == (ns, name) and digest in (None, w.digest) and not w.retired
        ]  # fmt: skip
        for row in found:
            row.retired = True
        return len(found)


class Reading:
    """Lists of runs and the retention of them."""

    tables: Tables

    async def get_run(self, run_id: str) -> RunRow | None:
        """Return a run's row."""
        run = self.tables.runs.get(run_id)
        return None if run is None else _shown(run)

    async def list_runs(self, where: RunFilter, *, after: str = "", limit: int = 50) -> list[RunRow]:
        """Return runs, newest first; `after` is the `cursor` of the last one seen."""
        last = _run_cursor(after)
        found = [
            run for run in self.tables.runs.values()
            if _matches(run, where) and (last is None or (run.created_at, run.id) < last)
        ]  # fmt: skip
        found.sort(key=lambda run: (run.created_at, run.id), reverse=True)
        return [_shown(run) for run in found[:limit]]

    async def count_runs(self, ns: str) -> dict[str, int]:
        """Return how many runs have each status."""
        counts: dict[str, int] = {}
        for run in self.tables.runs.values():
            if run.ns == ns:
                counts[run.status] = counts.get(run.status, 0) + 1
        return counts

    async def run_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids of runs of all namespaces greater than `after`, in order."""
        return sorted(run_id for run_id in self.tables.runs if run_id > after)[:limit]

    async def delete_runs(
        self, ns: str, *, run_id: str | None = None, before: int = 0, limit: int = 1000
    ) -> int:
        """Delete ended runs with all they own: one by id, or those finished before a time; return how many."""
        if run_id is None and before <= 0:
            return 0
        replayed = {run.replay_of for run in self.tables.runs.values()}
        gone = [
            run for run in self.tables.runs.values()
            if run.ns == ns and run.state == "done" and run_id in (None, run.id) and run.id not in replayed
            and (before == 0 or (run.finished_at < before and run.created_at < before))
        ]  # fmt: skip
        gone.sort(key=lambda run: (run.created_at, run.id))
        for run in gone[:limit]:
            self._forget(run.id)
        return len(gone[:limit])

    def _forget(self, run_id: str) -> None:
        tables = self.tables
        for table in (tables.runs, tables.due, tables.records, tables.snapshots, tables.inbox):
            table.pop(run_id, None)
        tables.tickets = {key: row for key, row in tables.tickets.items() if row.run_id != run_id}
        tables.unheard &= tables.tickets.keys()
        tables.notifications = {key: row for key, row in tables.notifications.items() if row.run_id != run_id}
        tables.held = {key: until for key, until in tables.held.items() if key in tables.notifications}
        tables.tasks = {key: row for key, row in tables.tasks.items() if row.run_id != run_id}
        tables.keys = {key: made for key, made in tables.keys.items() if made[0] != run_id}
        tables.steps = {key: row for key, row in tables.steps.items() if key[0] != run_id}
        tables.deleted_findings = {key: row for key, row in tables.deleted_findings.items() if key[0] != run_id}

    async def stats(self) -> dict[str, Any]:
        """Return counts for `doctor`."""
        tables = self.tables
        records = sum(map(len, tables.records.values()))
        return {
            "backend": "memory", "version": "1", "synchronous": "none", "runs": len(tables.runs),
            "records_estimated": records, "inbox": sum(map(len, tables.inbox.values())),
            "outbox": len(tables.outbox), "tasks": len(tables.tasks), "workers": len(tables.workers),
            "open_tickets": sum(row.state == "open" for row in tables.tickets.values()),
            "failed_notifications": sum(row.state == "failed" for row in tables.notifications.values()),
            "bytes": sum(len(r.body) for journal in tables.records.values() for r in journal),
        }  # fmt: skip


class Projections:
    """The committed groups in order, and the view of steps made from them."""

    tables: Tables

    async def tail(self, cursors: Mapping[int, int], limit: int = 1000) -> list[TailRow]:
        """Return groups committed after each writer's cursor, per writer in order."""
        found = [
            TailRow(writer, n, places)
            for writer, groups in sorted(self.tables.groups.items())
            for n, places in enumerate(groups, self.tables.pruned.get(writer, 0) + 1)
            if n > cursors.get(writer, 0)
        ]
        return found[:limit]

    async def tail_heads(self) -> dict[int, int]:
        """Return each writer's newest position."""
        return {writer: self.tables.newest(writer) for writer in self.tables.groups}

    async def project_steps(self, name: str, rows: Sequence[StepRow], cursors: Mapping[int, int]) -> None:
        """Upsert step rows of runs that exist and the projection's cursors; an older row replaces none."""
        for row in rows:
            if row.run_id not in self.tables.runs:
                continue
            known = self.tables.steps.get((row.run_id, row.step))
            if known is not None and known[1].as_of > row.as_of:
                continue
            cursor = f"{row.started_at}.{row.run_id}.{row.step}"
            self.tables.steps[row.run_id, row.step] = (name, msgspec.structs.replace(row, cursor=cursor))
        mine = self.tables.cursors.setdefault(name, {})
        for writer, n in cursors.items():
            mine[writer] = max(n, mine.get(writer, 0))

    async def projection_cursors(self, name: str) -> dict[int, int]:
        """Return where a projection stands."""
        return dict(self.tables.cursors.get(name, {}))

    async def reset_projection(self, name: str) -> None:
        """Drop a projection's rows and cursors, so that it is built anew."""
        self.tables.cursors.pop(name, None)
        self.tables.steps = {key: row for key, row in self.tables.steps.items() if row[0] != name}
        self.tables.usage = {
            key: (by, row) for key, (by, row) in self.tables.usage.items()
            if by != name or key[0] not in self.tables.runs or row.as_of == BILLED
        }

    async def list_steps(self, where: StepFilter, *, after: str = "", limit: int = 100) -> list[StepRow]:
        """Return steps across runs, newest first."""
        last = _step_cursor(after)
        found = [
            row for _, row in self.tables.steps.values()
            if row.ns == where.ns and where.run_id in (None, row.run_id) and where.node in (None, row.node)
            and where.kind in (None, row.kind) and (not where.statuses or row.status in where.statuses)
            and (not where.after or row.started_at > where.after)
            and (not where.before or 0 < row.started_at < where.before)
            and (last is None or _place(row) < last)
        ]  # fmt: skip
        found.sort(key=_place, reverse=True)
        return [copied(row) for row in found[:limit]]


def _shown(run: RunRow) -> RunRow:
    return msgspec.structs.replace(run, labels=dict(run.labels), cursor=f"{run.created_at}.{run.id}")


def _matches(run: RunRow, where: RunFilter) -> bool:
    return (
        run.ns == where.ns
        and (not where.statuses or run.status in where.statuses)
        and where.workflow in (None, run.workflow)
        and where.digest in (None, run.digest)
        and all(run.labels.get(key) == value for key, value in where.labels.items())
        and where.replay_of in (None, run.replay_of)
        and where.parent in (None, run.parent)
        and (where.text.casefold() in run.goal.casefold() or where.text.casefold() in run.id)
        and (not where.created_after or run.created_at > where.created_after)
        and (not where.created_before or run.created_at < where.created_before)
    )


def _run_cursor(cursor: str) -> tuple[int, str] | None:
    created_at, _, run_id = cursor.partition(".")
    return (int(created_at), run_id) if created_at.isdecimal() and is_id(run_id) else None


def _step_cursor(cursor: str) -> tuple[int, str, str] | None:
    started_at, _, rest = cursor.partition(".")
    run_id, _, step = rest.partition(".")
    return (int(started_at), run_id, step) if started_at.isdecimal() and is_id(run_id) else None


def _place(row: StepRow) -> tuple[int, str, str]:
    return (row.started_at, row.run_id, row.step)
