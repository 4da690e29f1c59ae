"""What the runs of versions took, and what changes by optimizers saved."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.runs.views import instant
from tenuto.ports.lineage import TagMove
from tenuto.ports.optimizers import Statistics
from tenuto.ports.proposals import ProposalFilter, ProposalRow
from tenuto.runtime.optimizer.gains import compare, requests_a_run
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.gain_views import (
    GainView,
    MeasuredView,
    NodeStatisticsView,
    SavingView,
    StatisticsView,
)
from tenuto.runtime.services.numbers import comes_of
from tenuto.runtime.services.proposed import expected_of, saving
from tenuto.runtime.services.sizes import with_sizes
from tenuto.runtime.services.workflows import Workflows

MOST = 200
"""Applied changes of a workflow that are compared at once, the newest."""


class Gains:
    """Every use case of what runs took, for one namespace."""

    def __init__(self, context: Context, workflows: Workflows) -> None:
        """Use the collaborators of an engine."""
        self._c = context
        self._workflows = workflows

    async def statistics(self, name: str, version: str = "latest") -> StatisticsView:
        """Return what the newest ended runs of a version have shown.

        Raises:
            WorkflowMissing: There is no such version; names the nearest.
        """
        digest = await self._workflows.digest_of(name, version)
        plan = await self._c.definitions.plan(self._c.ns, digest)
        found = await self._of(name, digest)
        kinds = {node.id: node.kind for level in levels_of(plan.definition) for node in level.nodes}
        nodes = [
            NodeStatisticsView(
                node=node, kind=kinds.get(node, ""), completed=one.completed, failed=one.failed, skipped=one.skipped,
                retried=one.retried, reused=one.reused, p50_ms=one.p50_ms, p95_ms=one.p95_ms,
                cost_usd_micros=one.cost_usd_micros,
            )
            for node in (*kinds, *(found.nodes.keys() - kinds.keys())) if (one := found.nodes.get(node)) is not None
        ]  # fmt: skip
        return StatisticsView(
            workflow=name, version=digest, number=(await self._workflows.version(name, digest)).number,
            window=self._c.panel.options.window, runs=found.runs, failed=found.failed, p50_ms=found.p50_ms,
            p95_ms=found.p95_ms, steps=found.steps, requests=requests_a_run(plan.definition, found),
            cost_usd_micros=found.cost_usd_micros, nodes=nodes,
        )

    async def known_of(self, name: str, digest: str) -> tuple[str, Statistics]:
        """Return what is known of a version that may have no runs yet: by its own, or those it came of by patches.

        Returns:
            The version whose runs they are, and what they have shown.
        """
        parents: dict[str, str] | None = None
        version, seen = digest, set[str]()
        while version and version not in seen:
            seen.add(version)
            found = await self._of(name, version)
            if found.runs or found.failed:
                return version, await with_sizes(self._c, name, version, found)
            if parents is None:
                moves = await self._c.store.tag_moves(self._c.ns, name)
                parents = {move.digest: move.former for move in moves if move.kind == "patch"}
            version = parents.get(version, "")
        return digest, Statistics()

    async def all(self, name: str, tag: str | None = None) -> list[GainView]:
        """Return what each applied change of an optimizer was expected to save, and what it does, the newest first.

        Raises:
            WorkflowMissing: There is no such workflow.
        """
        await self._workflows.require(name)
        where = ProposalFilter(ns=self._c.ns, workflow=name, tag=tag, author="optimizer", states=("applied",))
        rows = await self._c.store.list_proposals(where, limit=MOST)
        moves = await self._c.store.tag_moves(self._c.ns, name) if rows else []
        seen: dict[str, tuple[MeasuredView, Statistics]] = {}
        return [await self._gain(row, moves, seen) for row in rows]

    async def of(self, row: ProposalRow) -> GainView | None:
        """Return what an applied change of an optimizer does; `None` for any other."""
        if row.author != "optimizer" or row.state != "applied":
            return None
        return await self._gain(row, await self._c.store.tag_moves(self._c.ns, row.workflow), {})

    async def _gain(
        self, row: ProposalRow, moves: Sequence[TagMove], seen: dict[str, tuple[MeasuredView, Statistics]]
    ) -> GainView:
        """Compare two versions; what one has shown is looked up once, for it is the former one of the next."""
        for version in (row.base, row.digest):
            if version not in seen:
                seen[version] = await self._measured(row, version)
        before, after = seen[row.base], seen[row.digest]
        found = compare(
            before[1], after[1], (before[0].requests, after[0].requests), self._c.panel.options.min_runs
        )
        measured = SavingView(
            ms=found.ms, steps=found.steps, requests=found.requests, cost_usd_micros=found.cost_usd_micros
        )
        title, expected = expected_of(row)
        now = await self._c.store.resolve_tag(self._c.ns, row.workflow, row.tag) or ""
        in_force = comes_of(now, row.digest, moves)
        back = f"tenuto workflow undo {row.workflow} --tag {row.tag}"
        if now != row.digest:
            back = f"tenuto workflow tag {row.workflow} {row.tag} {row.base}"
        return GainView(
            proposal=row.id, workflow=row.workflow, tag=row.tag, optimizer=row.optimizer, rule=row.rule, title=title,
            status=found.status, note=found.note, expected=saving(expected),
            measured=measured if found.status == "measured" else None, before=before[0], after=after[0], in_force=in_force,
            worse=found.worse, undo=back if found.worse and in_force else "", applied_at=instant(row.decided_at),
        )

    async def _measured(self, row: ProposalRow, version: str) -> tuple[MeasuredView, Statistics]:
        found = await self._of(row.workflow, version)
        plan = await self._c.definitions.plan(self._c.ns, version)
        view = MeasuredView(
            version=version, runs=found.runs, failed=found.failed, p50_ms=found.p50_ms, steps=found.steps,
            requests=requests_a_run(plan.definition, found), cost_usd_micros=found.cost_usd_micros,
        )
        return view, found

    async def _of(self, name: str, version: str) -> Statistics:
        return await self._c.store.statistics(self._c.ns, name, version, self._c.panel.options.window)
