"""What calls cost: one row a call, and sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import id_text, stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
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

_SUMS = UsageSum.__struct_fields__


class Usage(Part):
    """The usage side of the store."""

    async def put_usage(self, name: str, rows: Sequence[UsageRow]) -> None:
        """Upsert rows for a projection, atomically; of repeats of a row the one with the largest `as_of` stands."""
        flat: list[Any] = []
        for row in newest(rows):
            flat.append(name)
            flat += [stored_id(row.run_id) if column == "run_id" else getattr(row, column) for column in COLUMNS]
        await self.parts.writer.run(lambda tx: _put(tx, flat))

    async def list_usage(self, where: UsageFilter, *, after: str = "", limit: int = 100) -> list[UsageRow]:
        """Return single calls, newest first; `after` is the `cursor` of the last one seen."""
        asked = _values(where)
        if asked is None:
            return []
        found = await self.parts.readers.rows("usage_list", *asked, *_place(after), limit)
        return [_row(values) for values in found]

    async def sum_usage(self, where: UsageFilter, by: UsageKey | None = None, limit: int = 1000) -> list[UsageSum]:
        """Return sums over the calls, one a group, all of one moment."""
        asked = _values(where)
        found = await self.parts.readers.rows("usage_sum", *asked, by, limit) if asked is not None else []
        sums = [UsageSum(**dict(zip(_SUMS, values, strict=True))) for values in found]
        return sums if sums or by else [UsageSum()]

    async def prune_usage(self, before: int, limit: int = 10_000) -> int:
        """Forget calls paid for before a time, at most so many; return how many."""
        return await self.parts.writer.run(lambda tx: sql.change(tx.db, "usage_drop", before, limit))


def _put(tx: Tx, flat: list[Any]) -> None:
    sql.BULK["usage_put"].run(tx.db, flat)


def _values(where: UsageFilter) -> tuple[Any, ...] | None:
    """Return a filter's parameters; `None` when nothing can match."""
    run = stored_id(where.run_id) if where.run_id is not None else None
    if where.run_id is not None and run is None:
        return None
    return (
        where.ns, where.since, where.until, run, where.workflow, where.project, where.provider, where.model,
        where.agent, where.purpose, where.tool, where.kind, where.state,
    )  # fmt: skip


def _place(cursor: str) -> tuple[int | None, bytes | None, int | None, int | None]:
    place = place_from(cursor)
    run = stored_id(place[1]) if place is not None else None
    return (place[0], run, place[2], place[3]) if place is not None and run is not None else (None, None, None, None)


def _row(values: Sequence[Any]) -> UsageRow:
    named: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
    named["run_id"] = id_text(named["run_id"])
    row = UsageRow(**named)
    row.cursor = cursor_of(row)
    return row
