"""Read-only use cases: steps across runs, and workers."""

from __future__ import annotations

from tenuto.domain.runs.views import instant
from tenuto.ports.store import StepFilter, StepRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.facts import manifest_of
from tenuto.runtime.services.hiding import hidden_in_run
from tenuto.runtime.services.requests import ListSteps
from tenuto.runtime.services.results import Page, StepRowView, WorkerView


class Steps:
    """Steps across runs, from the projection."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, where: ListSteps | None = None, *, after: str = "", limit: int = 100
    ) -> Page[StepRowView]:
        """Return steps of any run, newest first; may lag by the projection's delay."""
        asked = where or ListSteps()
        rows = await self._c.store.list_steps(
            StepFilter(
                ns=self._c.ns, run_id=asked.run, node=asked.node, kind=asked.kind, statuses=asked.status,
                after=asked.after, before=asked.before,
            ),
            after=after, limit=limit + 1,
        )
        more = len(rows) > limit
        items = [_step(row) for row in rows[:limit]]
        hidden = {item.run: await hidden_in_run(self._c, item.run) for item in items if item.error}
        for item in items:
            if item.error:
                item.error = hidden[item.run](item.error)
        return Page(items=items, next=rows[limit - 1].cursor if more else None)


def _step(row: StepRow) -> StepRowView:
    return StepRowView(
        id=row.step, run=row.run_id, node=row.node, kind=row.kind, status=row.status, attempt=row.attempt,
        error=row.error, started_at=instant(row.started_at), finished_at=instant(row.finished_at),
        cache=row.cache, saved_ms=row.saved_ms,
    )


class Workers:
    """Who works, and until when their leases run."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(self) -> list[WorkerView]:
        """Return all workers, live ones first."""
        now = await self._c.store.now()
        views = [
            WorkerView(
                id=row.id, host=row.host, pid=row.pid, alive=row.lease_until > now,
                lease_until=instant(row.lease_until), started_at=instant(row.started_at), manifest=manifest_of(row),
            )
            for row in await self._c.store.workers()
        ]
        return sorted(views, key=lambda view: (not view.alive, view.id))
