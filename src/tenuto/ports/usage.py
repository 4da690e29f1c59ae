"""What a store offers to those who ask where the money went: one row a call, made from the journals.

The rows are a projection, as those of steps are, but outlive their runs: what was paid stays paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

UsageState = Literal["settled", "failed", "unknown"]
UsageKey = Literal["day", "model", "provider", "workflow", "project", "agent", "purpose", "tool", "kind", "run"]
DAY_MS = 86_400_000
BILLED = 2**31 - 1
"""`as_of` of a row whose cost somebody read off a bill when its run took no more records: no journal can make it."""


class UsageRow(msgspec.Struct, kw_only=True):
    """One call as it was paid for.

    Attributes:
        call: The call inside its step.
        seq: The record that first told what the call cost, and `n` its event in there; with the run they make the row
            unique.
        as_of: The record the row was last made from; an older one never replaces a newer.
        at: The time of record `seq`, milliseconds.
        agent: The node that made the call.
        project: The run's label `project`; empty without one.
        kind: `model`, `tool`, or `call` where a step's own call cost something.
        state: `settled`, also where of a lost call only its cost is known; `failed`, which may have cost something all the
            same; `unknown`, then the amounts are the upper bound that was reserved.
        tokens: As charged; the four kinds of tokens are parts of it as its provider told them, and overlap
            (cached are input, reasoning are output).
    """

    ns: str
    run_id: str
    step: str
    call: str
    seq: int
    n: int
    as_of: int
    at: int
    agent: str
    workflow: str
    project: str = ""
    kind: str = "model"
    state: UsageState = "settled"
    provider: str = ""
    model: str = ""
    purpose: str = ""
    tool: str = ""
    tokens: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    cursor: str = ""


COLUMNS = tuple(name for name in UsageRow.__struct_fields__ if name != "cursor")


def place_of(row: UsageRow) -> tuple[int, str, int, int]:
    """Return where a row stands in lists."""
    return row.at, row.run_id, row.seq, row.n


def cursor_of(row: UsageRow) -> str:
    """Return a row's cursor."""
    return ".".join(map(str, place_of(row)))


def place_from(cursor: str) -> tuple[int, str, int, int] | None:
    """Return the place a cursor means; an empty or foreign one means the beginning."""
    at, _, rest = cursor.partition(".")
    run_id, _, rest = rest.partition(".")
    seq, _, n = rest.partition(".")
    whole = at.isdecimal() and seq.isdecimal() and n.isdecimal()
    return (int(at), run_id, int(seq), int(n)) if whole else None


def newest(rows: Sequence[UsageRow]) -> list[UsageRow]:
    """Return one row a place, the one made from the newest record, in order of run and place."""
    found: dict[tuple[str, int, int], UsageRow] = {}
    for row in rows:
        key = (row.run_id, row.seq, row.n)
        known = found.get(key)
        if known is None or row.as_of >= known.as_of:
            found[key] = row
    return [found[key] for key in sorted(found)]


class UsageFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which calls count; unset fields do not filter.

    Attributes:
        since: The first millisecond that counts.
        until: The first that does not count any more; 0 = no end.
    """

    ns: str = "default"
    since: int = 0
    until: int = 0
    run_id: str | None = None
    workflow: str | None = None
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    agent: str | None = None
    purpose: str | None = None
    tool: str | None = None
    kind: str | None = None
    state: UsageState | None = None


class UsageSum(msgspec.Struct, kw_only=True):
    """What the calls of one group cost together.

    Attributes:
        key: What the calls have in common; a day is `YYYY-MM-DD` in UTC.
        calls: All of them, those that failed and those of unknown outcome included.
        cost_usd_micros: Known costs only, and so are the tokens; what is unknown stands apart.
        unknown_cost_usd_micros: Upper bound of what calls of unknown outcome cost.
    """

    key: str = ""
    runs: int = 0
    calls: int = 0
    failed: int = 0
    unknown: int = 0
    tokens: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    unknown_tokens: int = 0
    unknown_cost_usd_micros: int = 0


class UsageTable(Protocol):
    """The part of a store that usage is kept in."""

    async def put_usage(self, name: str, rows: Sequence[UsageRow]) -> None:
        """Upsert rows for a projection, atomically; of repeats of a row the one with the largest `as_of` stands.

        Writing rows again, in any order and by several at once, changes nothing. `reset_projection` drops the rows of
        runs that still exist: those can be made anew; the others cannot, and neither can those as of `BILLED`.
        """
        ...

    async def list_usage(self, where: UsageFilter, *, after: str = "", limit: int = 100) -> list[UsageRow]:
        """Return single calls, newest first; `after` is the `cursor` of the last one seen."""
        ...

    async def sum_usage(self, where: UsageFilter, by: UsageKey | None = None, limit: int = 1000) -> list[UsageSum]:
        """Return sums over the calls, one a group, all of one moment.

        Days come newest first, other groups by known cost, then tokens, then key. Without `by` there is one sum, also
        over no calls at all.
        """
        ...

    async def prune_usage(self, before: int, limit: int = 10_000) -> int:
        """Forget calls paid for before a time, at most so many; return how many."""
        ...
