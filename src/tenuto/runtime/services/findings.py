"""What agents found out: read from the outputs it stands in, and deleted without altering them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs.sensitive import marks_of
from tenuto.domain.runs.state import RunState
from tenuto.domain.runs.views import instant
from tenuto.errors import Corrupt, FindingMissing, Gone, RunMissing
from tenuto.ports.findings import DeletedFinding
from tenuto.ports.store import StepFilter, StepRow
from tenuto.runtime.agents.knowledge import findings_in, rule_of
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.hiding import hidden_in
from tenuto.runtime.services.requests import ListFindings
from tenuto.runtime.services.results import FindingView, Page

STEPS_AT_ONCE = 100
STEPS_SEARCHED = 1000
"""Most agent steps that are looked into for one part of a list."""


@dataclass(slots=True)
class _Reading:
    """Runs as far as one request has read them; a run that is gone or cannot be read has no findings."""

    searches: dict[str, bool] = field(default_factory=dict[str, bool])
    found: dict[str, list[FindingView]] = field(default_factory=dict[str, list[FindingView]])


class Findings:
    """Every use case of findings, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, where: ListFindings | None = None, *, after: str = "", limit: int = 100
    ) -> Page[FindingView]:
        """Return findings: those of one run in the order they were found, current; those of many, newest steps first.

        A list across runs goes by the projection of steps and may lag by its delay. A part of it may be shorter than
        asked for, or empty, and go on all the same: so much is looked into at a time.

        Raises:
            RunMissing: There is no such run.
            Corrupt: The run's journal is not what was written.
        """
        asked = where or ListFindings()
        if asked.run is None:
            return await self._across(asked, after, limit)
        found = [view for view in await self._of(asked.run) if _matches(view, asked)]
        start = int(after) if after.isdecimal() else 0
        end = start + limit
        return Page(items=found[start:end], next=str(end) if end < len(found) else None)

    async def delete(self, finding: str, *, by: str = "", reason: str = "") -> FindingView:
        """Let prompts from now on leave a finding out, in its run and in replays of it; return it as it now stands.

        What was asked before keeps what it was told, and so do outputs: journals are never altered.
        Deleting again changes nothing.

        Raises:
            FindingMissing: There is no such finding.
        """
        run, _, own = finding.partition(".")
        for _ in range(2):
            view = next((view for view in await self._known(run) if view.id == finding), None)
            if view is None:
                break
            if view.deleted_at is not None:
                return view
            row = DeletedFinding(run_id=run, id=own, by=by, reason=reason)
            if not await self._c.store.delete_finding(self._c.ns, row):
                break
        raise FindingMissing(f"there is no finding {finding!r}; 'tenuto findings list' shows which there are", finding=finding)

    async def _known(self, run: str) -> list[FindingView]:
        try:
            return await self._of(run)
        except RunMissing:
            return []

    async def _across(self, asked: ListFindings, after: str, limit: int) -> Page[FindingView]:
        """Go through agent steps, newest first; a cursor is how many findings of a step were seen, and what is before it."""
        reading, items, searched = _Reading(), list[FindingView](), 0
        skip, place = _place_from(after)
        while searched < STEPS_SEARCHED:
            rows = await self._c.store.list_steps(
                StepFilter(ns=self._c.ns, kind="agent", node=asked.node, statuses=("completed",)),
                after=place, limit=STEPS_AT_ONCE,
            )
            for row in rows:
                views = [view for view in await self._at(row, asked, reading) if _matches(view, asked)]
                room = limit - len(items)
                items += views[skip : skip + room]
                if len(views) - skip > room:
                    return Page(items=items, next=f"{skip + room}.{place}")
                skip, place = 0, row.cursor
            searched += len(rows)
            if len(rows) < STEPS_AT_ONCE:
                return Page(items=items)
        return Page(items=items, next=f"0.{place}")

    async def _at(self, row: StepRow, asked: ListFindings, reading: _Reading) -> list[FindingView]:
        """Return what a step was the first of its run to find."""
        run = row.run_id
        if run not in reading.searches:
            reading.searches[run] = await self._may_have(run, asked.workflow)
        if not reading.searches[run]:
            return []
        if run not in reading.found:
            try:
                reading.found[run] = await self._of(run)
            except (RunMissing, Corrupt, Gone):  # a list does not fail for one of its runs
                reading.found[run] = []
        return [view for view in reading.found[run] if view.step == row.step]

    async def _may_have(self, run: str, workflow: str | None) -> bool:
        """Return whether a run is worth reading: its workflow is the one asked for, and lets agents keep findings."""
        row = await self._c.store.get_run(run)
        if row is None or (workflow is not None and row.workflow != workflow):
            return False
        plan = await self._c.definitions.plan(self._c.ns, row.digest)
        rules = (rule_of(node.node.config) for node in plan.nodes.values() if node.node.kind == "agent")
        return any(rule is not None and rule.extract for rule in rules)

    async def _of(self, run: str) -> list[FindingView]:
        """Return a run's findings in the order they were found, each once, with what became of them."""
        st, plan, row = await self._c.load(run)
        outputs = await self._outputs(st, plan)
        if not outputs:
            return []
        marks = marks_of(plan)
        hide = (await hidden_in(self._c, st, marks)).text if marks else str
        deleted = {gone.id: gone for gone in await self._c.store.deleted_findings(self._c.ns, run)}
        found: dict[str, FindingView] = {}
        for key, at, output in outputs:
            for item in findings_in(output):
                gone = deleted.get(item["id"])
                found.setdefault(item["id"], FindingView(
                    id=f"{run}.{item['id']}", run=run, workflow=row.workflow, step=key, node=split_key(key)[0],
                    category=str(item.get("category", "")), text=hide(item["text"]), found_at=instant(at),
                    deleted_at=instant(gone.at) if gone is not None else None,
                    deleted_by=gone.by if gone is not None else "", reason=gone.reason if gone is not None else "",
                ))  # fmt: skip
        return list(found.values())

    async def _outputs(self, st: RunState, plan: Plan) -> list[tuple[str, int, Any]]:
        """Return `(key, when, output)` of the completed agent steps, the oldest first; those pruned are left out."""
        done = sorted(
            (step.finished_at, key) for key, step in st.steps.items()
            if step.status == "completed" and step.out is not None and plan.node_of(key).node.kind == "agent"
        )  # fmt: skip
        values = [(key, at, out) for at, key in done if (out := st.steps[key].out) is not None]
        digests = sorted({digest for _, _, out in values if (digest := digest_of(out)) is not None})
        stored = await self._c.store.get_blobs(digests) if digests else {}
        found: list[tuple[str, int, Any]] = []
        for key, at, out in values:
            digest = digest_of(out)
            if digest is None or digest in stored:
                found.append((key, at, unpack(out if digest is None else stored[digest])))
        return found


def _matches(view: FindingView, asked: ListFindings) -> bool:
    if asked.state != "all" and (view.deleted_at is not None) != (asked.state == "deleted"):
        return False
    same = all(
        wanted is None or wanted == have for wanted, have in (
            (asked.workflow, view.workflow), (asked.node, view.node), (asked.category, view.category)
        )
    )  # fmt: skip
    return same and asked.text.casefold() in view.text.casefold()


def _place_from(cursor: str) -> tuple[int, str]:
    """Return what a cursor means; an empty or foreign one means the beginning."""
    seen, _, place = cursor.partition(".")
    return (int(seen), place) if seen.isdecimal() else (0, "")
