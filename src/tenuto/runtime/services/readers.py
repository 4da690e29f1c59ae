"""Read-only use cases: artifacts, steps across runs, workers and usage."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.present import amounts, budget_view
from tenuto.domain.runs.state import RunState, public_status
from tenuto.domain.runs.views import instant
from tenuto.errors import ArtifactMissing, RunMissing
from tenuto.ports.store import RunFilter, StepFilter, StepRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.facts import manifest_of
from tenuto.runtime.services.requests import ListRuns, ListSteps
from tenuto.runtime.services.results import (
    ArtifactView,
    Page,
    RunUsage,
    StepRowView,
    UsageView,
    WorkerView,
)

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
        return Page(items=[_step(row) for row in rows[:limit]], next=rows[limit - 1].cursor if more else None)


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


class Usage:
    """What runs used."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def run(self, run_id: str) -> RunUsage:
        """Return one run's ledger, current."""
        st, _, _ = await self._c.load(run_id)
        return _usage(st)

    async def totals(self, where: ListRuns | None = None, *, limit: int = 1000) -> UsageView:
        """Return totals over the newest runs that match; each is read from its journal, so nothing lags."""
        asked = where or ListRuns()
        rows = await self._c.store.list_runs(
            RunFilter(
                ns=self._c.ns, statuses=asked.status, workflow=asked.workflow, digest=asked.version,
                labels=asked.labels, replay_of=asked.replay_of, parent=asked.parent, text=asked.text,
                created_after=asked.created_after, created_before=asked.created_before,
            ),
            limit=limit + 1,
        )
        view = UsageView(runs=0, spent=dict.fromkeys(("tokens", "tool_calls", "cost_usd_micros"), 0))
        view.complete = len(rows) <= limit
        for row in rows[:limit]:
            try:
                st, _, _ = await self._c.load(row.id)
            except RunMissing:
                continue
            _add(view, st)
        return view


def _usage(st: RunState) -> RunUsage:
    calls: dict[str, int] = {}
    for step in st.steps.values():
        for call in step.calls.values():
            calls[call.kind] = calls.get(call.kind, 0) + 1
    return RunUsage(run=st.id, workflow=st.workflow, status=public_status(st), budget=budget_view(st), calls=calls)


def _add(view: UsageView, st: RunState) -> None:
    one = _usage(st)
    view.runs += 1
    view.items.append(one)
    view.by_status[one.status] = view.by_status.get(one.status, 0) + 1
    of_workflow = view.by_workflow.setdefault(st.workflow, dict.fromkeys(view.spent, 0))
    for name, value in amounts(st.ledger.spent).items():
        view.spent[name] += value
        of_workflow[name] += value
