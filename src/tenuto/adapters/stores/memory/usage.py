"""What calls cost: one row a call, and sums over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, is_id
from tenuto.ports.usage import (
    UsageFilter,
    UsageKey,
    UsageRow,
    UsageSum,
    cursor_of,
    newest,
    place_from,
    place_of,
)  # fmt: skip

_PARTS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_SAME = ("run_id", "workflow", "project", "provider", "model", "agent", "purpose", "tool", "kind", "state")


class Usage:
    """The usage side of the store."""

    tables: Tables

    async def put_usage(self, name: str, rows: Sequence[UsageRow]) -> None:
        """Upsert rows for a projection, atomically; of repeats of a row the one with the largest `as_of` stands."""
        for row in newest(rows):
            key = (row.run_id, row.seq, row.n)
            known = self.tables.usage.get(key)
            if known is None or row.as_of >= known[1].as_of:
                self.tables.usage[key] = (name, msgspec.structs.replace(row, cursor=cursor_of(row)))

    async def list_usage(self, where: UsageFilter, *, after: str = "", limit: int = 100) -> list[UsageRow]:
        """Return single calls, newest first; `after` is the `cursor` of the last one seen."""
        last = place_from(after)
        last = last if last is not None and is_id(last[1]) else None
        found = [row for row in self._matching(where) if last is None or place_of(row) < last]
        found.sort(key=place_of, reverse=True)
        return [msgspec.structs.replace(row) for row in found[:limit]]

    async def sum_usage(self, where: UsageFilter, by: UsageKey | None = None, limit: int = 1000) -> list[UsageSum]:
        """Return sums over the calls, one a group, all of one moment."""
        groups: dict[str, list[UsageRow]] = {} if by else {"": []}
        key_of = _key(by)
        for row in self._matching(where):
            groups.setdefault(key_of(row), []).append(row)
        sums = sorted((_sum(key, rows) for key, rows in groups.items()), key=lambda group: group.key)
        if by == "day":
            sums.reverse()
        else:
            sums.sort(key=lambda group: (-group.cost_usd_micros, -group.tokens))
        return sums[:limit]

    async def prune_usage(self, before: int, limit: int = 10_000) -> int:
        """Forget calls paid for before a time, at most so many; return how many."""
        old = [key for key, (_, row) in self.tables.usage.items() if row.at < before][:limit]
        for key in old:
            del self.tables.usage[key]
        return len(old)

    def _matching(self, where: UsageFilter) -> list[UsageRow]:
        wanted = [(name, value) for name in _SAME if (value := getattr(where, name)) is not None]
        return [
            row for _, row in self.tables.usage.values()
            if row.ns == where.ns and row.at >= where.since and (not where.until or row.at < where.until)
            and all(getattr(row, name) == value for name, value in wanted)
        ]  # fmt: skip


def _key(by: UsageKey | None) -> Callable[[UsageRow], str]:
    if by is None:
        return lambda row: ""
    if by == "day":
        return lambda row: datetime.fromtimestamp(row.at // 1000, UTC).strftime("%Y-%m-%d")
    name = "run_id" if by == "run" else by
    return lambda row: getattr(row, name)


def _sum(key: str, rows: Sequence[UsageRow]) -> UsageSum:
    known = [row for row in rows if row.state != "unknown"]
    lost = [row for row in rows if row.state == "unknown"]
    total = UsageSum(
        key=key, runs=len({row.run_id for row in rows}), calls=len(rows), unknown=len(lost),
        failed=sum(row.state == "failed" for row in rows), tokens=sum(row.tokens for row in known),
        cost_usd_micros=sum(row.cost_usd_micros for row in known), unknown_tokens=sum(row.tokens for row in lost),
        unknown_cost_usd_micros=sum(row.cost_usd_micros for row in lost),
    )
    for name in _PARTS:
        setattr(total, name, sum(getattr(row, name) for row in rows))
    return total
