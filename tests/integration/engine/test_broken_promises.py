"""A store that raises where no store may raise costs a moment, never the process's other runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tenuto import App
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.domain.runs.events import LeaseTaken
from tenuto.domain.runs.wire import decode
from tenuto.errors import Unavailable
from tenuto.ports.store import Commit, Committed
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import running

OPTIONS = WorkerOptions(lease_ms=600, idle_s=0.05)


class Raising(MemoryStore):
    """Raises from some commits, having stored them or not."""

    fails_at: int = -1
    stores_first = False
    commits = 0

    async def commit(self, commits: Sequence[Commit]) -> list[Committed]:
        self.commits += 1
        if self.commits != self.fails_at:
            return await super().commit(commits)
        if self.stores_first:
            await super().commit(commits)
        raise RuntimeError("a mistake of the store")


def app() -> App:
    made = App("t")

    @made.step
    async def one(value: int) -> int:
        return value + 1

    @made.step
    async def two(a: int) -> int:
        return a + 1

    made.workflow("w").step(one, id="a").step(two, id="b", after="a")
    return made


@pytest.mark.parametrize("stores_first", [False, True])
async def test_a_run_goes_on_from_what_is_stored(stores_first: bool) -> None:
    store = Raising()
    async with running("memory:", app().catalog(), store=store, options=OPTIONS) as runtime:
        store.stores_first, store.fails_at = stores_first, store.commits + 2
        run = (await runtime.engine.runs.start("w", 1)).id
        async with asyncio.timeout(10):
            view = await runtime.engine.runs.result(run)
        assert (view.status, view.output) == ("completed", {"b": 3})
        records = await store.records(run)
        taken = [event for item in records for event in decode(item).ev if isinstance(event, LeaseTaken)]
        assert len(taken) == 1, "the journal tells that the run was taken anew"


@pytest.mark.parametrize("stores_first", [False, True])
async def test_whoever_creates_a_run_is_told_that_nobody_knows(stores_first: bool) -> None:
    store = Raising()
    async with running("memory:", app().catalog(), store=store, options=OPTIONS) as runtime:
        store.stores_first, store.fails_at = stores_first, store.commits + 1
        with pytest.raises(Unavailable, match="not known whether") as told:
            await runtime.engine.runs.start("w", 1)
        assert told.value.reason == "commit.unknown"
        async with asyncio.timeout(10):
            assert (await runtime.engine.runs.execute("w", 1)).status == "completed"
            rows = (await runtime.engine.runs.list()).items
            for row in rows:
                assert (await runtime.engine.runs.result(row.id)).status == "completed"
        assert len(rows) == (2 if stores_first else 1)
