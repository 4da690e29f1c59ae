"""A thousand steps that are the same, on three workers: one computes, and the others do not depend on its life."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tenuto
from tenuto.domain.runs.views import RunView
from tests.integration.cache.worker_app import app
from tests.integration.takeover.stage import ADDRESS, Stage, Workers, open_stage

RUNS = 1000


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a fresh store of each kind that processes can share."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/t.db"


@asynccontextmanager
async def scene(url: str, folder: Path) -> AsyncGenerator[tuple[tenuto.Engine, Stage, Workers]]:
    async with open_stage() as stage:
        os.environ[ADDRESS] = stage.address
        workers = Workers(url, stage, folder, "tests.integration.cache.worker_app:app")
        try:
            async with app.engine(url, worker=False) as engine:
                for _ in range(3):
                    workers.start()
                yield engine, stage, workers
        finally:
            workers.end()


async def begun(engine: tenuto.Engine) -> list[str]:
    """Start the runs, and return their ids once workers have begun all of them."""
    started = await asyncio.gather(*(engine.runs.start("same", {"n": 1}) for _ in range(RUNS)))
    async with asyncio.timeout(15):
        # Nothing tells another process that a run has been claimed.
        while (await engine.store.count_runs("default")).get("running", 0) < RUNS:
            await asyncio.sleep(0.05)
    return [one.id for one in started]


async def ended(engine: tenuto.Engine, run: str) -> RunView:
    async with asyncio.timeout(20):
        while (view := await engine.runs.get(run, wait_s=20)).status != "completed":
            await asyncio.sleep(0.02)
    return view


async def test_of_a_thousand_on_three_workers_one_computes(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, _):
        runs = await begun(engine)
        (await stage.next("work")).let_go("once")
        views = await asyncio.gather(*(ended(engine, run) for run in runs))
    assert stage.seen == ["work"]
    assert all(view.output == {"work": {"n": 1, "answer": "once"}} for view in views)


async def test_when_the_one_that_computes_is_killed_another_one_does(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        runs = await begun(engine)
        first = await stage.next("work")
        workers.signal(first.pid, signal.SIGKILL)
        second = await stage.next("work")
        assert second.pid != first.pid
        second.let_go("again")
        views = await asyncio.gather(*(ended(engine, run) for run in runs))
    assert stage.seen == ["work", "work"]
    assert all(view.output == {"work": {"n": 1, "answer": "again"}} for view in views)
