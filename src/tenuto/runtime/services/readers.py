"""Read-only use cases: artifacts, steps across runs and workers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.views import instant
from tenuto.errors import ArtifactMissing
from tenuto.ports.store import StepFilter, StepRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.facts import manifest_of
from tenuto.runtime.services.hiding import hidden_in_run
from tenuto.runtime.services.requests import ListSteps
from tenuto.runtime.services.results import ArtifactView, Page, StepRowView, WorkerView

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROLES = (("input", "input"), ("output", "output"), ("out", "output"), ("items", "items"), ("payload", "signal"))


class Artifacts:
    """Stored values by digest."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def get(self, digest: str) -> bytes:
        """Return the stored bytes (JSON).

        Raises:
            ArtifactMissing: Nothing has this digest, or it was pruned.
        """
        if not _DIGEST.fullmatch(digest):
            raise ArtifactMissing(f"{digest!r} is not a digest; digests are 'sha256:' and 64 hex digits", digest=digest)
        found = await self._c.store.get_blobs([digest])
        if digest not in found:
            raise ArtifactMissing(f"nothing stored has the digest {digest}; it may have been pruned", digest=digest)
        return found[digest]

    async def list(self, run_id: str) -> list[ArtifactView]:
        """Return the stored values a run's journal refers to, in order."""
        await self._c.row(run_id)
        found: dict[str, ArtifactView] = {}
        for _, body in await self._c.bodies(run_id):
            for event in body.ev:
                for view in _references(event):
                    found.setdefault(view.digest, view)
        return list(found.values())


def _references(event: ev.Event) -> Iterator[ArtifactView]:
    for field, role in _ROLES:
        value = getattr(event, field, None)
        digest = digest_of(value) if value is not None else None
        if value is not None and digest is not None:
            size = unpack(value).get("size", 0)
            yield ArtifactView(digest=digest, size=size, step=getattr(event, "step", ""), role=role)
    if isinstance(event, ev.RunCreated) and event.fork is not None and event.fork.reuse:
        yield ArtifactView(digest=event.fork.reuse, size=0, role="reuse")


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
