"""What every use case works with; made once per engine and namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol
from uuid import UUID

from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.terms import Surroundings, Terms, unchecked
from tenuto.domain.runs.events import Body
from tenuto.domain.runs.history import digest_of_history, restore
from tenuto.domain.runs.state import RunState
from tenuto.domain.runs.wire import Record, decode
from tenuto.errors import RunMissing
from tenuto.ports.cache import CacheEntries
from tenuto.ports.store import Committed, RunFilter, RunRow, Store
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.bus import Bus
from tenuto.runtime.creation import Creation
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.optimizer.panel import Panel
from tenuto.runtime.services.feed import Feed
from tenuto.runtime.services.ids import RunIds
from tenuto.runtime.tools.catalog import Catalog

READ_AT_ONCE = 2000
RECENT = 200
PREFIX = 8
ONE_SLIP = 0.95  # of 36 characters: one that is wrong, missing or too many


class Creator(Protocol):
    """Who makes new runs durable, many at a time."""

    def create(self, creation: Creation) -> asyncio.Future[Committed]:
        """Queue the creation of a run; the future resolves once it is durable or refused."""
        ...


@dataclass(slots=True)
class Context:
    """The collaborators of one engine, bound to a namespace.

    Attributes:
        catalog: `None` accepts any name in a definition.
        terms: On what terms graphs may be patched.
        groups: Names of the people in each group.
        panel: The optimizers that can be asked.
        cache: Where results of steps are kept; `None` is the store.
        clock: Milliseconds since 1970 by the store's clock, as well as this process knows it.
    """

    store: Store
    committer: Creator
    definitions: Definitions
    catalog: Catalog | None
    bus: Bus
    clock: Callable[[], int]
    feed: Feed
    shelf: Shelf
    ns: str = "default"
    terms: Terms = field(default_factory=Terms)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    panel: Panel = field(default_factory=Panel)
    cache: CacheEntries | None = None
    ids: RunIds = field(init=False)

    def __post_init__(self) -> None:
        """Make ids by the same clock."""
        self.ids = RunIds(self.clock)

    async def row(self, run_id: str) -> RunRow:
        """Return a run's row.

        Raises:
            RunMissing: There is no such run in this namespace.
        """
        row = await self.store.get_run(run_id) if is_run_id(run_id) else None
        if row is None or row.ns != self.ns:
            raise await self._no_run(run_id)
        return row

    async def _no_run(self, run_id: str) -> RunMissing:
        recent = await self.store.list_runs(RunFilter(ns=self.ns), limit=RECENT)
        meant = meant_run(run_id, [row.id for row in recent])
        hint = f"; did you mean {meant!r}?" if meant else ""
        return RunMissing(f"there is no run {run_id!r}{hint}", run=run_id, nearest=meant)

    async def load(self, run_id: str) -> tuple[RunState, Plan, RunRow]:
        """Return a run's state, current to its last record, verified; its plan and its row.

        Raises:
            RunMissing: There is no such run in this namespace.
            Corrupt: The stored journal is not what was written.
            Shredded: Nobody can read it any more.
        """
        row = await self.row(run_id)
        found = await self.store.load([run_id])
        if not found:
            raise RunMissing(f"there is no run {run_id!r}", run=run_id)
        history = found[0].sound()
        st, plan = await self.restored(run_id, history.snapshot, history.records)
        return st, plan, row

    async def restored(
        self, run_id: str, snapshot: bytes | None, records: list[Record], *, until: int = 0
    ) -> tuple[RunState, Plan]:
        """Return the state after some records (or after record `until`) and the plan the run goes by there.

        Raises:
            Corrupt: The stored journal is not what was written.
        """
        first = await self.definitions.plan(self.ns, digest_of_history(snapshot, records))
        return restore(run_id, snapshot, records, lambda _: first, until=until)

    def surroundings(self) -> Surroundings:
        """Return what a patch is looked at with before its run sees it."""
        if self.catalog is None:
            return Surroundings(self.terms, unchecked().known, unchecked().complete)
        return Surroundings(self.terms, self.catalog.known(), self.catalog.complete)

    async def bodies(self, run_id: str, after: int = 0) -> list[tuple[int, Body]]:
        """Return `(seq, body)` of all records after a position."""
        found: list[tuple[int, Body]] = []
        while True:
            part = await self.store.records(run_id, after, READ_AT_ONCE)
            found.extend((item.seq, decode(item)) for item in part)
            if len(part) < READ_AT_ONCE:
                return found
            after = part[-1].seq


def meant_run(text: str, ids: Sequence[str]) -> str | None:
    """Return the id that a slip of the pen, or the beginning of an id, stands for.

    Ids of runs made together are alike, so anything less certain would name a stranger.
    """
    begun = [run for run in ids if run.startswith(text.lower())] if len(text) >= PREFIX else []
    if len(begun) == 1:
        return begun[0]
    return next(iter(get_close_matches(text.lower(), ids, n=1, cutoff=ONE_SLIP)), None)


def is_run_id(text: str) -> bool:
    """Return whether a text can be a run's id; others are unknown without asking the store."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
