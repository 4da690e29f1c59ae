"""What calls cost: one row a call, and sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.postgres.batch import columns
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.adapters.stores.postgres.rows import is_id
from tenuto.ports.usage import (
    COLUMNS,
    UsageFilter,
    UsageKey,
    UsageRow,
    UsageSum,
    cursor_of,
    newest,
    place_from,
)  # fmt: skip


class Usage(Part):
    """The usage side of the store."""

    async def put_usage(self, name: str, rows: Sequence[UsageRow]) -> None:
        """Upsert rows for a projection, atomically; of repeats of a row the one with the largest `as_of` stands."""
        values = [tuple(getattr(row, column) for column in COLUMNS) for row in newest(rows)]
        if values:
            await self.parts.pool.fetch("put_usage", name, *columns(values, len(COLUMNS)))

    async def list_usage(self, where: UsageFilter, *, after: str = "", limit: int = 100) -> list[UsageRow]:
        """Return single calls, newest first; `after` is the `cursor` of the last one seen."""
        if not _possible(where):
            return []
        place = place_from(after)
        if place is None or not is_id(place[1]):
            place = (None, None, None, None)
        return [_row(row) for row in await self.parts.pool.fetch("list_usage", *_values(where), *place, limit)]

    async def sum_usage(self, where: UsageFilter, by: UsageKey | None = None, limit: int = 1000) -> list[UsageSum]:
        """Return sums over the calls, one a group, all of one moment."""
        found = await self.parts.pool.fetch("sum_usage", *_values(where), by, limit) if _possible(where) else []
        sums = [UsageSum(**row) for row in found]
        return sums if sums or by else [UsageSum()]

    async def prune_usage(self, before: int, limit: int = 10_000) -> int:
        """Forget calls paid for before a time, at most so many; return how many."""
        return await self.parts.pool.value("prune_usage", before, limit)


def _possible(where: UsageFilter) -> bool:
    return where.run_id is None or is_id(where.run_id)


def _values(where: UsageFilter) -> tuple[Any, ...]:
    return (
        where.ns, where.since, where.until, where.run_id, where.workflow, where.project, where.provider, where.model,
        where.agent, where.purpose, where.tool, where.kind, where.state,
    )  # fmt: skip


def _row(found: Any) -> UsageRow:
    named: dict[str, Any] = dict(found)
    named["run_id"] = str(found["run_id"])
    row = UsageRow(**named)
    row.cursor = cursor_of(row)
    return row
