"""Asking optimizers about workflows and about runs that go on, and letting what they suggest be decided."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import msgspec

from tenuto.domain.base.canonical import digest as digest_of
from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs.frozen import frozen
from tenuto.domain.runs.patches import Verdict, examine
from tenuto.domain.runs.state import TERMINAL, RunState
from tenuto.errors import Conflict, Invalid, InvalidPatch, RunTerminal, TenutoError
from tenuto.ports.plugins import LookRow
from tenuto.ports.store import RunFilter
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.gains import Gains
from tenuto.runtime.services.optimizer_views import OptimizedView
from tenuto.runtime.services.patches import Patches
from tenuto.runtime.services.proposals import Proposals
from tenuto.runtime.services.requests import Optimize, ProposePatch
from tenuto.runtime.services.results import ProblemView
from tenuto.runtime.services.suggesting import Found, Graph, suggestions
from tenuto.runtime.services.verdicts import judged
from tenuto.runtime.services.workflows import Workflows
from tenuto.runtime.subflows import absent_workflows

log = logging.getLogger("tenuto.optimizers")

ROUNDS = 8
"""Times optimizers are asked anew about what was applied at once, within one request."""
LIVE_AT_ONCE = 20
"""Runs that go on, of one version, to which a look by itself proposes patches."""
_GOING_ON = ("queued", "running", "waiting", "paused")
LATEST = "latest"


class Optimizers:
    """Every use case of asking optimizers, for one namespace."""

    def __init__(self, context: Context, workflows: Workflows, proposals: Proposals, patches: Patches, gains: Gains) -> None:
        """Use the collaborators of an engine."""
        self._c = context
        self._workflows = workflows
        self._proposals = proposals
        self._patches = patches
        self._gains = gains

    async def optimize(self, name: str, asked: Optimize | None = None) -> OptimizedView:
        """Ask optimizers about a workflow; what they suggest is proposed, unless it is only to be shown.

        Each suggestion is whole in itself, made for the version as it is. So what nobody has to approve is applied one at
        a time, and optimizers are asked anew about the version it led to; the others are proposed for the last of these.

        Raises:
            WorkflowMissing: There is no such version.
            OptimizerMissing: There is none of a name.
            OptimizersOff: They are switched off, or nothing here can run them.
            Invalid: A digest is named, which no proposal can move.
        """
        asked = asked or Optimize()
        digest = await self._workflows.digest_of(name, asked.tag)
        if digest == asked.tag and not asked.dry_run:
            raise Invalid(
                f"{digest} is a version and no tag; name the tag that proposals are to move, or only look (dry_run)",
                code="optimizer.tag",
            )
        answer = OptimizedView(workflow=name, version=digest, tag=asked.tag, dry_run=asked.dry_run)
        seen = {digest}
        for left in reversed(range(ROUNDS)):
            plan = await self._c.definitions.plan(self._c.ns, digest)
            version, statistics = await self._gains.known_of(name, digest)
            if not answer.observed:
                answer.observed, answer.runs = version, statistics.runs + statistics.failed
            judge = partial(self._judged, plan)
            found = await suggestions(
                self._c, Graph(plan=plan, statistics=statistics, judge=judge), asked.optimizers, answer, seen
            )
            applied = None if asked.dry_run or not left else await self._first_applied(name, asked, plan, found)
            if applied is None:
                for item in found:
                    await self._proposed(name, asked, plan, item)
                    answer.suggestions.append(item.view)
                break
            # What was only shown may be suggested again for the next version, where it leads elsewhere.
            answer.suggestions += [item.view for item in found if item.view.status != "shown"]
            digest = applied.view.digest
            seen = {one.digest for one in answer.suggestions if one.digest} | {answer.version}
        return answer

    async def optimize_run(self, run_id: str, asked: Optimize | None = None) -> OptimizedView:
        """Ask optimizers about a run that goes on; what they suggest takes the way of every patch of a run.

        Raises:
            RunMissing: There is no such run.
            RunTerminal: It has ended.
            OptimizerMissing: There is none of a name.
            OptimizersOff: They are switched off, or nothing here can run them.
        """
        asked = asked or Optimize()
        st, plan, row = await self._c.load(run_id)
        answer = OptimizedView(workflow=row.workflow, version=plan.digest, run=run_id, dry_run=asked.dry_run)
        seen = {plan.digest}
        for left in reversed(range(ROUNDS)):
            if st.status in TERMINAL:
                raise RunTerminal(f"run {run_id} is {st.status} and its graph is final", run=run_id, status=st.status)
            if not answer.observed:
                answer.observed, statistics = await self._gains.known_of(row.workflow, plan.digest)
                if not statistics.runs + statistics.failed:  # the graph of this run alone: what its version has shown
                    answer.observed, statistics = await self._gains.known_of(row.workflow, st.version)
                answer.runs = statistics.runs + statistics.failed
            else:
                statistics = (await self._gains.known_of(row.workflow, answer.observed))[1]
            fixed = frozen(st, plan)
            graph = Graph(
                plan=plan, statistics=statistics, judge=partial(self._judged_live, st, plan), counts=False,
                fixed=tuple(sorted(fixed.begun | fixed.routed | fixed.reached)),
            )
            found = await suggestions(self._c, graph, asked.optimizers, answer, seen)
            applied = False
            for item in found:
                if not asked.dry_run and not applied:
                    applied = await self._patched(run_id, plan, item)
                elif not asked.dry_run and item.view.status == "shown":
                    item.view.status, item.view.note = "stale", "something else was applied first"
            answer.suggestions += [item.view for item in found if not (applied and left and item.view.status == "stale")]
            if not applied:
                break
            st, plan, row = await self._c.load(run_id)
            seen = {one.digest for one in answer.suggestions if one.digest} | {answer.version}
            if st.status in TERMINAL:
                break
        return answer

    async def look(self) -> int:
        """Ask about every workflow whose latest version has enough new ended runs; return how many proposals were made.

        Where each was looked at last is in the store, so that it is asked once, whoever asks.
        """
        options, made = self._c.panel.options, 0
        looks = {row.workflow: row for row in await self._c.store.looks(self._c.ns)}
        for version in await self._c.store.list_workflows(self._c.ns):
            if LATEST not in version.tags or version.retired:
                continue
            name, digest, last = version.name, version.digest, looks.get(version.name)
            mark = last.mark if last is not None and last.version == digest else 0
            n, newest = await self._c.store.ended_since(self._c.ns, name, digest, mark, options.min_runs)
            if n < options.min_runs:
                continue
            try:
                made += await self._looked(name, digest)
            except TenutoError as error:
                log.warning("optimizers cannot be asked about workflow %s: %s", name, error.message)
            await self._c.store.put_look(LookRow(ns=self._c.ns, workflow=name, version=digest, mark=newest))
        return made

    async def _looked(self, name: str, digest: str) -> int:
        answer = await self.optimize(name)
        for one in answer.optimizers:
            if one.status in ("stopped", "faulty"):
                log.warning("optimizer %s failed at workflow %s: %s", one.name, name, one.message)
        if answer.suggestions and self._c.panel.options.live == "propose":
            where = RunFilter(ns=self._c.ns, workflow=name, digest=digest, statuses=_GOING_ON)
            for run in await self._c.store.list_runs(where, limit=LIVE_AT_ONCE):
                try:
                    await self.optimize_run(run.id)
                except TenutoError as error:
                    log.info("optimizers cannot be asked about run %s: %s", run.id, error.message)
        return sum(one.status in ("proposed", "applied") for one in answer.suggestions)

    # --- inside -----------------------------------------------------------------------------------------------

    async def _judged(self, plan: Plan, operations: list[Any]) -> Verdict:
        return await judged(self._c, plan, operations, "optimizer")

    async def _judged_live(self, st: RunState, plan: Plan, operations: list[Any]) -> Verdict:
        absent = await absent_workflows(self._c.store, self._c.ns, plan.definition, operations)
        around = self._c.surroundings()
        return examine(st, plan, operations, base=plan.digest, author="optimizer", around=around, absent=absent)

    async def _first_applied(self, name: str, asked: Optimize, plan: Plan, found: list[Found]) -> Found | None:
        """Apply the first suggestion that nobody has to approve and that was not decided before."""
        for item in found:
            if item.is_free:
                await self._proposed(name, asked, plan, item)
                if item.view.status == "applied":
                    return item
        return None

    async def _proposed(self, name: str, asked: Optimize, plan: Plan, item: Found) -> None:
        """Propose a suggestion that was not proposed yet, and show what became of it."""
        view, one = item.view, item.suggestion
        if asked.dry_run or view.status != "shown":
            return
        try:
            made = await self._proposals.keep(name, ProposePatch(
                operations=one.operations, tag=asked.tag, author="optimizer", by=f"optimizer {item.optimizer}",
                optimizer=item.optimizer, rule=one.rule, title=one.title, reason=one.reason, gain=one.gain,
                evidence=dict(one.evidence),
            ), plan, item.verdict)  # fmt: skip
        except (Conflict, InvalidPatch) as error:  # the tag was moved meanwhile, or too many wait
            view.status, view.note = "stale", error.message
            return
        view.proposal, view.status = made.id, made.status
        if made.replayed and made.status != "proposed":
            view.status = "known"
            view.note = f"it was {made.status} before" + (f": {made.decision_reason}" if made.decision_reason else "")
        elif made.replayed:
            view.note = "it waits already"

    async def _patched(self, run_id: str, plan: Plan, item: Found) -> bool:
        """Propose a suggestion to a run; return whether the run goes by another graph now."""
        view, one = item.view, item.suggestion
        if item.verdict.plan is None:
            return False
        evidence = {**one.evidence, "optimizer": item.optimizer, "rule": one.rule, "gain": view.expected}
        key = f"optimizer/{digest_of([plan.digest, view.digest])}"
        try:
            made = await self._patches.propose(
                run_id, one.operations, base=plan.digest, reason=one.reason or one.title, by=f"optimizer {item.optimizer}",
                author="optimizer", idempotency_key=key, evidence=msgspec.to_builtins(evidence),
            )
        except InvalidPatch as error:
            view.status = "invalid"
            view.findings = [ProblemView(place=p.place, message=p.message, hint=p.hint, code=p.code) for p in error.problems]
            return False
        view.proposal, view.status = made.id, made.status
        if made.replayed:
            view.note = "it was proposed before"
        return made.status == "applied" and not made.replayed
