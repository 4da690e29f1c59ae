"""Lists, tails and projections of a memory database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tenuto.adapters.stores.memory.database import Database
from tenuto.ports.store import RunFilter, RunRow, StepFilter, StepRow, TailRow


class Reading:
    """The part of a memory store that answers questions."""

    _db: Database

    async def get_run(self, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        row = self._db.runs.get(run_id)
        return None if row is None else _shown(row)

    async def list_runs(self, where: RunFilter, *, after: str = "", limit: int = 50) -> list[RunRow]:
        """See `Store.list_runs`."""
        found = [_shown(row) for row in self._db.runs.values() if _fits(row, where)]
        found.sort(key=lambda row: row.cursor, reverse=True)
        return [row for row in found if not after or row.cursor < after][:limit]

    async def count_runs(self, ns: str) -> dict[str, int]:
        """See `Store.count_runs`."""
        counts: dict[str, int] = {}
        for row in self._db.runs.values():
            if row.ns == ns:
                counts[row.status] = counts.get(row.status, 0) + 1
        return counts

    async def delete_runs(self, ns: str, *, run_id: str | None = None, before: int = 0, limit: int = 1000) -> int:
        """See `Store.delete_runs`."""
        db = self._db
        gone = [
            row.id for row in db.runs.values()
            if row.ns == ns and row.state == "done"
            and (row.id == run_id if run_id is not None else 0 < row.finished_at < before)
        ][:limit]
        for run in gone:
            for table in (db.runs, db.journal, db.inbox, db.inbox_keys, db.snapshots):
                table.pop(run, None)
            for name, ticket in list(db.tickets.items()):
                if ticket.run_id == run:
                    del db.tickets[name]
            for task in [task.id for task in db.tasks.values() if task.run_id == run]:
                del db.tasks[task]
            for steps in db.steps.values():
                for key in [key for key in steps if key[0] == run]:
                    del steps[key]
        return len(gone)

    async def tail(self, cursors: Mapping[int, int], limit: int = 1000) -> list[TailRow]:
        """See `Store.tail`."""
        start = cursors.get(1, 0)
        return self._db.groups[start : start + limit]

    async def project_steps(self, name: str, rows: Sequence[StepRow], cursors: Mapping[int, int]) -> None:
        """See `Store.project_steps`."""
        table = self._db.steps.setdefault(name, {})
        for row in rows:
            if row.run_id in self._db.runs:
                table[row.run_id, row.step] = msgspec.structs.replace(row)
        self._db.cursors.setdefault(name, {}).update(cursors)

    async def list_steps(self, where: StepFilter, *, after: str = "", limit: int = 100) -> list[StepRow]:
        """See `Store.list_steps`."""
        found: list[StepRow] = []
        for table in self._db.steps.values():
            for row in table.values():
                if _step_fits(row, where):
                    cursor = f"{row.started_at:016d}/{row.run_id}/{row.step}"
                    found.append(msgspec.structs.replace(row, cursor=cursor))
        found.sort(key=lambda row: row.cursor, reverse=True)
        return [row for row in found if not after or row.cursor < after][:limit]


def _shown(row: RunRow) -> RunRow:
    return msgspec.structs.replace(row, cursor=f"{row.created_at:016d}/{row.id}", labels=dict(row.labels))


def _fits(row: RunRow, where: RunFilter) -> bool:
    return (
        row.ns == where.ns
        and (not where.statuses or row.status in where.statuses)
        and where.workflow in (None, row.workflow)
        and where.digest in (None, row.digest)
        and where.replay_of in (None, row.replay_of)
        and where.parent in (None, row.parent)
        and all(row.labels.get(name) == value for name, value in where.labels.items())
        and (not where.text or where.text.lower() in row.goal.lower() or where.text in row.id)
        and (not where.created_after or row.created_at > where.created_after)
        and (not where.created_before or row.created_at < where.created_before)
    )


def _step_fits(row: StepRow, where: StepFilter) -> bool:
    return (
        row.ns == where.ns
        and where.run_id in (None, row.run_id)
        and where.node in (None, row.node)
        and where.kind in (None, row.kind)
        and (not where.statuses or row.status in where.statuses)
        and (not where.after or row.started_at > where.after)
        and (not where.before or row.started_at < where.before)
    )
