"""Optimizers that were added, and what runs of a version have shown."""

from __future__ import annotations

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.domain.runs.state import ACTIVE_STEP
from tenuto.ports.optimizers import NodeStatistics, Statistics
from tenuto.ports.plugins import LookRow, OptimizerRow
from tenuto.ports.store import RunRow, StepRow

_RAN = ("completed", "failed", "dead_letter")


class Plugins:
    """The side of the store that keeps plug-ins."""

    tables: Tables

    async def put_optimizer(self, row: OptimizerRow, module: bytes) -> OptimizerRow:
        """Keep a plug-in under its name and return what is there now."""
        key, kept = (row.ns, row.name), self.tables.optimizers
        if key not in kept or kept[key][0].digest != row.digest:
            made = msgspec.structs.replace(
                row, enabled=True, failures=0, error="", added_at=self.tables.clock(), quarantined_at=0
            )
            kept[key] = (made, module)
        return copied(kept[key][0])

    async def optimizers(self, ns: str) -> list[OptimizerRow]:
        """Return the plug-ins of a namespace by name."""
        return [copied(row) for key, (row, _) in sorted(self.tables.optimizers.items()) if key[0] == ns]

    async def optimizer_module(self, ns: str, name: str) -> bytes | None:
        """Return the bytes of a plug-in."""
        found = self.tables.optimizers.get((ns, name))
        return None if found is None else found[1]

    async def drop_optimizer(self, ns: str, name: str) -> bool:
        """Forget a plug-in; `False` when there is none of that name."""
        return self.tables.optimizers.pop((ns, name), None) is not None

    async def enable_optimizer(self, ns: str, name: str, enabled: bool) -> bool:
        """Let a plug-in be asked, its failures forgotten, or not; `False` when there is none of that name."""
        found = self.tables.optimizers.get((ns, name))
        if found is not None:
            row = found[0]
            row.enabled, row.failures, row.error, row.quarantined_at = enabled, 0, "", 0
        return found is not None

    async def note_optimizer(self, ns: str, name: str, digest: str, error: str, most: int) -> OptimizerRow | None:
        """Note what came of asking a plug-in; at `most` failures in a row it is quarantined."""
        found = self.tables.optimizers.get((ns, name))
        if found is None or found[0].digest != digest:
            return None
        row = found[0]
        row.failures, row.error = (row.failures + 1 if error else 0), error
        if error and row.failures >= most and not row.quarantined_at:
            row.quarantined_at = self.tables.clock()
        return copied(row)

    async def statistics(self, ns: str, workflow: str, version: str, limit: int) -> Statistics:
        """Return what the newest ended runs of a version have shown, at most `limit`."""
        known: dict[str, list[StepRow]] = {}
        for _, step in self.tables.steps.values():
            known.setdefault(step.run_id, []).append(step)
        ended = [run for run in self._ended(ns, workflow, version) if run.status == "failed" or _is_whole(known.get(run.id))]
        runs = sorted(ended, key=lambda run: (run.created_at, run.id), reverse=True)[:limit]
        ids = {run.id for run in runs}
        nodes: dict[str, list[StepRow]] = {}
        for step in [step for run in runs for step in known.get(run.id, ())]:
            nodes.setdefault(step.node, []).append(step)
        costs: dict[str, int] = {}
        for _, call in self.tables.usage.values():
            if call.run_id in ids and call.state != "unknown":
                costs[call.agent] = costs.get(call.agent, 0) + call.cost_usd_micros
        took = [run.finished_at - run.started_at for run in runs if run.status == "completed"]
        executed = sum(step.status in _RAN and not step.reused for steps in nodes.values() for step in steps)
        return Statistics(
            runs=len(took), failed=len(runs) - len(took), p50_ms=_rank(took, 50), p95_ms=_rank(took, 95),
            steps=executed / len(runs) if runs else 0.0,
            cost_usd_micros=sum(costs.values()) / len(runs) if runs else 0.0,
            nodes={name: _node(nodes[name], costs.get(name, 0)) for name in sorted(nodes)},
        )

    async def ended_since(self, ns: str, workflow: str, version: str, mark: int, limit: int) -> tuple[int, int]:
        """Return how many ended runs of a version were created after a moment, and the newest's moment."""
        found = sorted((run.created_at for run in self._ended(ns, workflow, version) if run.created_at > mark), reverse=True)
        return min(len(found), limit), max(found, default=mark)

    async def looks(self, ns: str) -> list[LookRow]:
        """Return how far the runs of workflows have been looked at, by workflow."""
        return [copied(row) for key, row in sorted(self.tables.looks.items()) if key[0] == ns]

    async def put_look(self, row: LookRow) -> None:
        """Say how far the runs of a workflow have been looked at."""
        self.tables.looks[row.ns, row.workflow] = copied(row)

    def _ended(self, ns: str, workflow: str, version: str) -> list[RunRow]:
        return [
            run for run in self.tables.runs.values()
            if (run.ns, run.workflow, run.digest, run.state) == (ns, workflow, version, "done")
            and run.status in ("completed", "failed") and run.replay_of is None
        ]  # fmt: skip


def _is_whole(steps: list[StepRow] | None) -> bool:
    """Return whether the table of steps has all of a run that completed: while it is behind, a step is under way in it."""
    return bool(steps) and not any(step.status in ACTIVE_STEP for step in steps)


def _node(steps: list[StepRow], cost: int) -> NodeStatistics:
    done = sum(step.status == "completed" for step in steps)
    took = [
        step.finished_at - step.started_at for step in steps
        if step.status == "completed" and step.attempt <= 1 and step.started_at and not step.reused
    ]  # fmt: skip
    return NodeStatistics(
        completed=done, failed=sum(step.status in ("failed", "dead_letter") for step in steps),
        skipped=sum(step.status == "skipped" for step in steps), retried=sum(max(step.attempt - 1, 0) for step in steps),
        reused=sum(step.reused for step in steps),
        p50_ms=_rank(took, 50), p95_ms=_rank(took, 95), cost_usd_micros=cost / done if done else 0.0,
    )


def _rank(values: list[int], percent: int) -> float | None:
    """Return the nearest rank of a percentile."""
    return float(sorted(values)[(len(values) * percent + 99) // 100 - 1]) if values else None
