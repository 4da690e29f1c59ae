"""Optimizers that were added, and what runs of a version have shown."""

from __future__ import annotations

from typing import Any

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.optimizers import NodeStatistics, Statistics
from tenuto.ports.plugins import LookRow, OptimizerRow


class Plugins(Part):
    """The side of the store that keeps plug-ins."""

    async def put_optimizer(self, row: OptimizerRow, module: bytes) -> OptimizerRow:
        """Keep a plug-in under its name and return what is there now."""
        await self.parts.pool.fetch("optimizer_put", row.ns, row.name, row.digest, row.size, row.by, module)
        return OptimizerRow(**dict(await self.parts.pool.first("optimizer_get", row.ns, row.name)))

    async def optimizers(self, ns: str) -> list[OptimizerRow]:
        """Return the plug-ins of a namespace by name."""
        return [OptimizerRow(**dict(item)) for item in await self.parts.pool.fetch("optimizer_list", ns)]

    async def optimizer_module(self, ns: str, name: str) -> bytes | None:
        """Return the bytes of a plug-in."""
        return await self.parts.pool.value("optimizer_module", ns, name)

    async def drop_optimizer(self, ns: str, name: str) -> bool:
        """Forget a plug-in; `False` when there is none of that name."""
        return bool(await self.parts.pool.value("optimizer_drop", ns, name))

    async def enable_optimizer(self, ns: str, name: str, enabled: bool) -> bool:
        """Let a plug-in be asked, its failures forgotten, or not; `False` when there is none of that name."""
        return bool(await self.parts.pool.value("optimizer_enable", enabled, ns, name))

    async def note_optimizer(self, ns: str, name: str, digest: str, error: str, most: int) -> OptimizerRow | None:
        """Note what came of asking a plug-in; at `most` failures in a row it is quarantined."""
        found = await self.parts.pool.first("optimizer_note", error, most, ns, name, digest)
        return None if found is None else OptimizerRow(**dict(found))

    async def statistics(self, ns: str, workflow: str, version: str, limit: int) -> Statistics:
        """Return what the newest ended runs of a version have shown, at most `limit`."""
        seen = (ns, workflow, rows.packed_digest(version), limit)
        runs = await self.parts.pool.first("observed_runs", *seen)
        costs = {row["agent"]: int(row["cost"]) for row in await self.parts.pool.fetch("observed_costs", *seen)}
        steps = await self.parts.pool.fetch("observed_steps", *seen)
        return _made(runs, steps, costs)

    async def ended_since(self, ns: str, workflow: str, version: str, mark: int, limit: int) -> tuple[int, int]:
        """Return how many ended runs of a version were created after a moment, and the newest's moment."""
        found = await self.parts.pool.first("ended_since", ns, workflow, rows.packed_digest(version), mark, limit)
        return found["n"], found["newest"]

    async def looks(self, ns: str) -> list[LookRow]:
        """Return how far the runs of workflows have been looked at, by workflow."""
        return [LookRow(**dict(row)) for row in await self.parts.pool.fetch("look_list", ns)]

    async def put_look(self, row: LookRow) -> None:
        """Say how far the runs of a workflow have been looked at."""
        await self.parts.pool.fetch("look_put", row.ns, row.workflow, row.version, row.mark)


def _made(run: Any, steps: list[Any], costs: dict[str, int]) -> Statistics:
    ended = run["runs"] + run["failed"]
    nodes = {
        row["node"]: NodeStatistics(
            completed=row["completed"], failed=row["failed"], skipped=row["skipped"], retried=row["retried"],
            reused=row["reused"], p50_ms=row["p50"], p95_ms=row["p95"],
            cost_usd_micros=costs.get(row["node"], 0) / row["completed"] if row["completed"] else 0.0,
        )
        for row in steps
    }
    return Statistics(
        runs=run["runs"], failed=run["failed"], p50_ms=run["p50"], p95_ms=run["p95"],
        steps=sum(row["executed"] for row in steps) / ended if ended else 0.0,
        cost_usd_micros=sum(costs.values()) / ended if ended else 0.0, nodes=nodes,
    )
