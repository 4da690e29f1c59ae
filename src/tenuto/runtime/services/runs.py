"""Runs: start, read, steer, replay and compare them."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Unpack, cast

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.nearest import did_you_mean, nearest
from tenuto.domain.base.values import INLINE_LIMIT, pack, unpack
from tenuto.domain.graph.model import Budget, Definition
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.diff import RunDiff, diff_runs
from tenuto.domain.runs.explain import Explanation, explain, explain_halt
from tenuto.domain.runs.present import STEPS_SHOWN, error_view, in_map, run_view
from tenuto.domain.runs.public import FINAL, TABLE
from tenuto.domain.runs.state import ENDED, RunState
from tenuto.domain.runs.views import RunSummary, RunView, instant
from tenuto.errors import Conflict, Corrupt, Gone, Invalid, RunTerminal, StepMissing
from tenuto.ports.store import PRIORITIES, RunFilter, RunRow
from tenuto.runtime import usage
from tenuto.runtime.retention import sweep_workspaces, tidy
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.facts import facts_of
from tenuto.runtime.services.halted import halt_of, halted_view
from tenuto.runtime.services.hiding import hidden_in_run
from tenuto.runtime.services.replaying import replay
from tenuto.runtime.services.requests import ListRuns, Replay, StartOptions, StartRun
from tenuto.runtime.services.results import Accepted, DeletedView, Outcome, Page, Started
from tenuto.runtime.services.sending import repeated, send
from tenuto.runtime.services.shown import inputs_of, resolved
from tenuto.runtime.services.starting import blob_name, submit
from tenuto.runtime.services.workflows import Workflows
from tenuto.runtime.tools.workspace import Workspaces

SAFETY_S = 5.0
REDRIVABLE = ("dead_letter", "retrying")


class Runs:
    """Every use case of runs, for one namespace.

    Attributes:
        workspaces: Where runs have files on this machine; those on others are removed by the workers there.
    """

    def __init__(self, context: Context, workflows: Workflows, workspaces: Workspaces | None = None) -> None:
        """Use the store, committer and caches of an engine."""
        self._c = context
        self.workspaces = workspaces
        self._workflows = workflows

    async def start(
        self, workflow: str | Definition, input: Any = None, **options: Unpack[StartOptions]
    ) -> Started:
        """Start a run; when this returns, it is durable and will be worked on. See `submit` for what can be refused."""
        given = cast("dict[str, Any]", options)
        if isinstance(workflow, str):
            return await self.submit(StartRun(workflow=workflow, input=input, **given))
        return await self.submit(StartRun(definition=workflow, input=input, **given))

    async def submit(self, request: StartRun) -> Started:
        """Start a run as asked; when this returns, it is durable. A refused request creates nothing.

        Raises:
            WorkflowMissing: No such workflow, version or tag; names the nearest.
            InvalidGraph: The inline definition breaks rules.
            InvalidInput: The input does not fit the workflow's schema.
            KeyReused: The idempotency key was used with another body.
        """
        return await submit(self._c, self._workflows, request)

    async def execute(self, workflow: str | Definition, input: Any = None, **options: Unpack[StartOptions]) -> Outcome:
        """Start a run and wait for its end. A run that ends in this process is answered for without reading it again."""
        run_id = self._c.ids.new()
        given = cast("dict[str, Any]", options)
        request = StartRun(id=run_id, input=input, **given)
        if isinstance(workflow, str):
            request.workflow = workflow
        else:
            request.definition = workflow
        end = self._c.bus.end_of(run_id)
        try:
            started = await self.submit(request)
            if started.id == run_id:
                event = await end
                if event is not None:
                    return await self._outcome(run_id, event)
        finally:
            self._c.bus.forget_end(run_id)
        view = await self.result(started.id)
        return Outcome(id=view.id, status=view.status, output=view.output, error=view.error)

    async def _outcome(self, run_id: str, event: ev.Event) -> Outcome:
        if isinstance(event, ev.RunCompleted):
            return Outcome(id=run_id, status="completed", output=await resolved(self._c.store, unpack(event.output)))
        if isinstance(event, ev.RunFailed):
            return Outcome(id=run_id, status="failed", error=error_view(event.failure))
        if isinstance(event, ev.RunExceeded):
            error = ev.Failure(code="budget.limit", message=event.message, retryable=False)
            return Outcome(id=run_id, status="budget_exceeded", error=error_view(error))
        return Outcome(id=run_id, status="cancelled")

    async def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        """Return a run, current to its last record.

        Args:
            wait_s: Wait this long for the run to end before answering; it is returned as it is then.

        Raises:
            RunMissing: There is no such run.
        """
        if wait_s > 0:
            await self._until_end(run_id, wait_s)
        try:
            st, plan, row = await self._c.load(run_id)
        except (Corrupt, Gone):
            row = await self._c.row(run_id)
            halt = await halt_of(self._c, row)
            if halt is None:
                raise
            return halted_view(row, halt)
        keys = [key for key in st.steps if not in_map(plan, key)][:STEPS_SHOWN]
        view = run_view(st, plan, inputs=await inputs_of(self._c.store, st, plan, keys))
        halt = await halt_of(self._c, row)
        if halt is not None:
            view = halted_view(row, halt, view)
        view.worker = row.worker
        view.input = await resolved(self._c.store, view.input)
        view.output = await resolved(self._c.store, view.output)
        return view

    async def list(self, where: ListRuns | None = None, *, after: str = "", limit: int = 50) -> Page[RunSummary]:
        """Return runs, newest first."""
        rows = await self._c.store.list_runs(_filter(self._c.ns, where or ListRuns()), after=after, limit=limit + 1)
        items = [summary(row) for row in rows[:limit]]
        for item in items:
            if item.error:
                item.error = (await hidden_in_run(self._c, item.id))(item.error)
        return Page(items=items, next=rows[limit - 1].cursor if len(rows) > limit else None)

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "", key: str = "") -> Accepted:
        """Ask a run to end; its attempts are stopped and it takes no more work.

        Raises:
            RunTerminal: It has ended.
        """
        return await send(self._c, run_id, "cancel", msg.Cancel(by=by, reason=reason), key)

    async def pause(self, run_id: str, *, reason: str = "", by: str = "", key: str = "") -> Accepted:
        """Ask a run to start nothing new.

        Raises:
            RunTerminal: It has ended.
        """
        return await send(self._c, run_id, "pause", msg.Pause(by=by, reason=reason), key)

    async def resume(self, run_id: str, *, budget: Budget | None = None, by: str = "", key: str = "") -> Accepted:
        """Ask a paused run to go on, or a stopped one to be reopened, with raised caps if given.

        Raises:
            RunTerminal: It completed or was cancelled.
        """
        return await send(self._c, run_id, "resume", msg.Resume(by=by, budget=budget), key, reopens=True)

    async def signal(
        self, run_id: str, name: str, payload: Any = None, *, by: str = "", key: str = ""
    ) -> Accepted:
        """Deliver a signal; it waits in line until somebody wants it. The same `key` delivers once.

        Raises:
            RunTerminal: The run has ended.
            Invalid: The name is empty, or the payload has no JSON form.
        """
        if not name or len(name) > 200:
            raise Invalid("a signal's name has 1 to 200 characters", code="signal.name")
        try:
            raw, blob = pack(payload)
        except (TypeError, ValueError) as exc:
            raise Invalid(f"the payload of signal {name!r} cannot be kept: {exc}", code="signal.payload") from exc
        if blob is not None:
            await self._c.row(run_id)
            await self._c.store.put_blobs([(blob_name(raw), blob)], ns=self._c.ns)
        return await send(self._c, run_id, f"signal/{name}", msg.Signal(by=by, name=name, payload=raw), key)

    async def retry(
        self, run_id: str, step: str, *, fresh: bool = False, guidance: str = "",
        config: dict[str, Any] | None = None, reason: str = "", by: str = "", key: str = "",
    ) -> Accepted:
        """Ask for a failed step to be tried again; a stopped run is reopened.

        Raises:
            StepMissing: The run has no such step; names the nearest.
            Conflict: The step is not one that can be tried again.
            RunTerminal: The run completed or was cancelled.
        """
        st, plan, _ = await self._c.load(run_id)
        step = plan.key_of(step)
        message = msg.Redrive(by=by, step=step, fresh=fresh, guidance=guidance, config=config, reason=reason)
        if known := await repeated(self._c, run_id, f"retry/{step}", message, key):
            return known
        if st.status in ("completed", "cancelled"):
            raise RunTerminal(f"run {run_id} is {st.status}; replay it instead", run=run_id, status=st.status)
        found = st.steps.get(step)
        if found is None:
            hint = did_you_mean(step, st.steps)
            raise StepMissing(f"run {run_id} has no step {step!r}{hint}", step=step, nearest=nearest(step, st.steps))
        if found.status not in REDRIVABLE:
            allowed = " or ".join(REDRIVABLE)
            raise Conflict(
                f"step {step!r} is {found.status}; only one that is {allowed} can be tried again"
                f"{_instead(st, plan, step)}", code="step.state", step=step,
            )
        if config is not None and len(canonical_json(config)) > INLINE_LIMIT:
            raise Invalid(f"the overrides of config have more than {INLINE_LIMIT:,} bytes", code="step.config")
        return await send(self._c, run_id, f"retry/{step}", message, key, reopens=True)

    async def delete(self, run_id: str) -> DeletedView:
        """Delete an ended run with everything it owns; what it cost stays in the usage.

        Raises:
            Conflict: The run has not ended.
        """
        row = await self._c.row(run_id)
        if row.state != "done":
            raise Conflict(f"run {run_id} is {row.status}; cancel it first", code="run.active", run=run_id)
        await usage.keep(self._c.store, [run_id])
        deleted = await self._c.store.delete_runs(self._c.ns, run_id=run_id)
        if not deleted:
            raise Conflict(f"run {run_id} is still referred to or was just deleted", code="run.held", run=run_id)
        if self.workspaces is not None:
            await asyncio.to_thread(self.workspaces.drop, self.workspaces.of_run(self._c.ns, run_id))
        return DeletedView(deleted=deleted)

    async def prune(self, *, before: int, limit: int = 1000) -> DeletedView:
        """Delete runs that finished before a time (ms); once there are none, what they left behind is looked for."""
        if before <= 0:
            raise Invalid("'before' is a time after 1970", code="request.invalid")
        await usage.keep(self._c.store)
        deleted = await self._c.store.delete_runs(self._c.ns, before=before, limit=limit)
        if not deleted:
            await tidy(self._c.store, self._c.shelf, before, self._c.clock())
            if self.workspaces is not None:
                await sweep_workspaces(self._c.store, self.workspaces)
        return DeletedView(deleted=deleted)

    async def replay(self, run_id: str, request: Replay | None = None) -> Started:
        """Start a new run that takes over part of an old one.

        Raises:
            StepMissing: The old run has no such step or node.
            Invalid: The cut is out of range, or edits and cut contradict each other.
        """
        return await replay(self._c, self._workflows, run_id, request or Replay())

    async def diff(self, a: str, b: str) -> RunDiff:
        """Compare two runs, current to their last records."""
        left, plan_a, _ = await self._c.load(a)
        right, plan_b, _ = await self._c.load(b)
        return diff_runs(left, plan_a, right, plan_b)

    async def why(self, run_id: str) -> Explanation:
        """Explain what a run waits for, since when, and who can move it."""
        try:
            st, plan, row = await self._c.load(run_id)
        except Corrupt:
            halt = await halt_of(self._c, await self._c.row(run_id))
            if halt is None:
                raise
            return explain_halt(run_id, halt)
        return explain(st, plan, await facts_of(self._c, st, plan, row))

    async def result(self, run_id: str, *, timeout_s: float | None = None) -> RunView:
        """Wait until a run has ended or stopped and return it.

        Raises:
            TimeoutError: It did not end in time.
        """
        if not await self._until_end(run_id, timeout_s):
            raise TimeoutError(f"run {run_id} did not end within {timeout_s} s")
        return await self.get(run_id)

    async def _until_end(self, run_id: str, timeout_s: float | None) -> bool:
        """Wait for a run to end; return whether it did."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        async with self._c.feed.watch(run_id) as watch:
            while True:
                row = await self._c.row(run_id)
                if row.state == "done":
                    return True
                while True:
                    left = SAFETY_S if end is None else min(SAFETY_S, end - time.monotonic())
                    heard = left > 0 and await watch.wait(left)
                    if not heard:
                        break
                    notices = watch.take()
                    bodies = [notice.body for notice in notices]
                    if any(TABLE[type(e)].name in FINAL for body in bodies if body for e in body.ev):
                        return True
                    if not watch.caught_up() or None in bodies:
                        break
                if end is not None and time.monotonic() >= end:
                    return (await self._c.row(run_id)).state == "done"
                await asyncio.sleep(0)


def _instead(st: RunState, plan: Plan, step: str) -> str:
    """Say what brings a step back that cannot be sent round again by itself."""
    if in_map(plan, step):
        owner = split_key(step)[1].rpartition("~")[2].rpartition(".")[0]
        return f"; it belongs to an item of map {owner!r}: once the map is a dead letter, redrive that"
    if st.steps[step].status == "cancelled" and st.status == "budget_exceeded":
        return "; resume the run with a raised cap, which begins it again"
    return ""


def summary(row: RunRow) -> RunSummary:
    """Return a row as lists show it."""
    return RunSummary(
        id=row.id, workflow=row.workflow, version=row.digest, status=row.status, goal=row.goal,
        priority=PRIORITIES[row.priority], labels=dict(row.labels), error=row.error, replay_of=row.replay_of,
        parent=row.parent, business_key=row.business_key, created_at=instant(row.created_at),
        started_at=instant(row.started_at), finished_at=instant(row.finished_at),
    )


STATUSES = ("queued", "running", "waiting", "paused", *sorted(ENDED))


def _filter(ns: str, where: ListRuns) -> RunFilter:
    for status in where.status:
        if status not in STATUSES:
            hint = did_you_mean(status, STATUSES)
            raise Invalid(f"{status!r} is not a status{hint}; allowed: {', '.join(STATUSES)}", code="run.status")
    return RunFilter(
        ns=ns, statuses=where.status, workflow=where.workflow, digest=where.version, labels=where.labels,
        replay_of=where.replay_of, parent=where.parent, text=where.text, created_after=where.created_after,
        created_before=where.created_before,
    )
