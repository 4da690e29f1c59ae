"""Optimizers that were added, and what runs of a version have shown."""

from __future__ import annotations

import sqlite3
from typing import Any

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.optimizers import NodeStatistics, Statistics
from tenuto.ports.plugins import LookRow, OptimizerRow

_COLUMNS = ("ns", "name", "digest", "size", "enabled", "failures", "error", "by", "added_at", "quarantined_at")


def _row(found: Any) -> OptimizerRow:
    row = OptimizerRow(**dict(zip(_COLUMNS, found, strict=True)))
    row.enabled = bool(row.enabled)
    return row


class Plugins(Part):
    """The side of the store that keeps plug-ins."""

    async def put_optimizer(self, row: OptimizerRow, module: bytes) -> OptimizerRow:
        """Keep a plug-in under its name and return what is there now."""

        def put(tx: Tx) -> OptimizerRow:
            sql.change(tx.db, "optimizer_put", row.ns, row.name, row.digest, row.size, row.by, module, tx.now)
            return _row(sql.first(tx.db, "optimizer_get", row.ns, row.name))

        return await self.parts.writer.run(put)

    async def optimizers(self, ns: str) -> list[OptimizerRow]:
        """Return the plug-ins of a namespace by name."""
        return [_row(item) for item in await self.parts.readers.rows("optimizer_list", ns)]

    async def optimizer_module(self, ns: str, name: str) -> bytes | None:
        """Return the bytes of a plug-in."""
        found = await self.parts.readers.first("optimizer_module", ns, name)
        return None if found is None else found[0]

    async def drop_optimizer(self, ns: str, name: str) -> bool:
        """Forget a plug-in; `False` when there is none of that name."""
        return bool(await self.parts.writer.run(lambda tx: sql.change(tx.db, "optimizer_drop", ns, name)))

    async def enable_optimizer(self, ns: str, name: str, enabled: bool) -> bool:
        """Let a plug-in be asked, its failures forgotten, or not; `False` when there is none of that name."""
        return bool(await self.parts.writer.run(lambda tx: sql.change(tx.db, "optimizer_enable", int(enabled), ns, name)))

    async def note_optimizer(self, ns: str, name: str, digest: str, error: str, most: int) -> OptimizerRow | None:
        """Note what came of asking a plug-in; at `most` failures in a row it is quarantined."""

        def note(tx: Tx) -> OptimizerRow | None:
            if not sql.change(tx.db, "optimizer_note", error, most, tx.now, ns, name, digest):
                return None
            return _row(sql.first(tx.db, "optimizer_get", ns, name))

        return await self.parts.writer.run(note)

    async def statistics(self, ns: str, workflow: str, version: str, limit: int) -> Statistics:
        """Return what the newest ended runs of a version have shown, at most `limit`."""

        def read(db: sqlite3.Connection) -> Statistics:
            seen = (ns, workflow, version, limit)
            with sql.one_moment(db):
                runs, failed, p50, p95 = sql.first(db, "observed_runs", *seen)
                costs = dict(sql.rows(db, "observed_costs", *seen))
                steps = sql.rows(db, "observed_steps", *seen)
            return made(runs, failed, p50, p95, steps, costs)

        return await self.parts.readers.run(read)

    async def ended_since(self, ns: str, workflow: str, version: str, mark: int, limit: int) -> tuple[int, int]:
        """Return how many ended runs of a version were created after a moment, and the newest's moment."""
        found = await self.parts.readers.first("ended_since", ns, workflow, version, mark, limit)
        return found[0], found[1]

    async def looks(self, ns: str) -> list[LookRow]:
        """Return how far the runs of workflows have been looked at, by workflow."""
        found = await self.parts.readers.rows("look_list", ns)
        return [LookRow(ns=ns, workflow=workflow, version=version, mark=mark) for workflow, version, mark in found]

    async def put_look(self, row: LookRow) -> None:
        """Say how far the runs of a workflow have been looked at."""
        await self.parts.writer.run(lambda tx: sql.change(tx.db, "look_put", row.ns, row.workflow, row.version, row.mark))


def made(runs: int, failed: int, p50: float | None, p95: float | None, steps: list[Any], costs: dict[str, int]) -> Statistics:
    """Return statistics of the rows that queries give."""
    nodes: dict[str, NodeStatistics] = {}
    executed = 0
    for node, done, broken, skipped, retried, reused, ran, fast, slow in steps:
        executed += ran
        nodes[node] = NodeStatistics(
            completed=done, failed=broken, skipped=skipped, retried=retried, reused=reused, p50_ms=fast, p95_ms=slow,
            cost_usd_micros=costs.get(node, 0) / done if done else 0.0,
        )
    ended = runs + failed
    return Statistics(
        runs=runs, failed=failed, p50_ms=p50, p95_ms=p95, steps=executed / ended if ended else 0.0,
        cost_usd_micros=sum(costs.values()) / ended if ended else 0.0, nodes=nodes,
    )
