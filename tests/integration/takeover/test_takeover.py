"""What becomes of runs whose worker is killed, stopped, or told to leave; real processes, shared stores."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tenuto
from tenuto.domain.runs.views import RunView
from tests.integration.takeover.stage import ADDRESS, Stage, Workers, open_stage
from tests.integration.takeover.worker_app import app


@asynccontextmanager
async def scene(url: str, folder: Path) -> AsyncGenerator[tuple[tenuto.Engine, Stage, Workers]]:
    async with open_stage() as stage:
        os.environ[ADDRESS] = stage.address
        workers = Workers(url, stage, folder)
        try:
            async with app.engine(url, worker=False) as engine:
                yield engine, stage, workers
        finally:
            workers.end()


async def ended(engine: tenuto.Engine, run: str, status: str = "completed") -> RunView:
    async with asyncio.timeout(40):
        while (view := await engine.runs.get(run, wait_s=20)).status != status:
            await asyncio.sleep(0.02)
    return view


async def told(engine: tenuto.Engine, run: str) -> list[Any]:
    trail = await engine.audit.trail(run)
    assert trail.verified, trail.problem
    return trail.entries


async def test_a_killed_workers_run_goes_on_without_repeating_what_was_done(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        workers.start()
        run = (await engine.runs.start("w", {})).id
        (await stage.next("pay")).let_go(7)
        inside = await stage.next("inside")
        workers.start()
        workers.signal(inside.pid, signal.SIGKILL)
        again = await stage.next("inside")
        assert again.pid != inside.pid
        again.let_go("done")
        view = await ended(engine, run)
        entries = await told(engine, run)
    assert view.output == {"work": {"paid": 7, "answer": "done", "attempt": 2}}
    assert stage.seen == ["pay", "inside", "inside"]
    types = [entry.type for entry in entries]
    assert [name for name in types if name in ("run.claimed", "run.lease_taken", "step.lost")] == [
        "run.claimed", "run.lease_taken", "run.claimed", "step.lost"
    ]
    # The try was in the journal, with its worker, before its code ran.
    started = next(entry for entry in entries if entry.type == "step.started" and entry.step == "work")
    assert f"-{inside.pid}-" in started.worker
    assert types.count("step.completed") == 2


async def test_a_stopped_worker_that_wakes_after_the_takeover_writes_nothing(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        first = workers.start()
        run = (await engine.runs.start("w", {})).id
        (await stage.next("pay")).let_go(7)
        inside = await stage.next("inside")
        workers.start()
        workers.signal(first, signal.SIGSTOP)
        again = await stage.next("inside")
        assert again.pid != first
        again.let_go("by the living")
        view = await ended(engine, run)
        head = (await told(engine, run))[-1].chain
        inside.let_go("by the zombie")
        workers.signal(first, signal.SIGCONT)
        await workers.said("dropping 1 runs")
        entries = await told(engine, run)
    assert view.output == {"work": {"paid": 7, "answer": "by the living", "attempt": 2}}
    assert entries[-1].chain == head
    assert not any(f"-{first}-" in entry.worker for entry in entries if entry.epoch > 1)


async def test_a_worker_told_to_leave_gives_its_run_back_at_once(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        first = workers.start()
        run = (await engine.runs.start("w", {})).id
        (await stage.next("pay")).let_go(7)
        await stage.next("inside")
        workers.start()
        workers.signal(first, signal.SIGTERM)
        (await stage.next("inside")).let_go("done")
        view = await ended(engine, run)
        types = [entry.type for entry in await told(engine, run)]
        assert await workers.exited(first) == 0
    assert view.output == {"work": {"paid": 7, "answer": "done", "attempt": 2}}
    assert stage.seen == ["pay", "inside", "inside"]
    assert "step.interrupted" in types
    assert "step.lost" not in types
    assert "run.lease_taken" not in types


async def test_a_step_that_always_kills_its_process_ends_as_a_dead_letter(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        workers.start()
        run = (await engine.runs.start("deadly", {})).id
        first = await stage.next("deadly")
        workers.start()
        first.let_go("die")
        for _ in range(2):  # in a process of its own now: the worker survives
            (await stage.next("deadly")).let_go("die")
        failed = await ended(engine, run, "failed")
        (letter,) = (await engine.dead_letters.list(run=run)).items
        await engine.dead_letters.redrive(letter.id)
        (await stage.next("deadly")).let_go("live")
        view = await ended(engine, run)
        types = [entry.type for entry in await told(engine, run)]
    assert letter.error["code"] == "attempt.worker_lost"
    assert failed.error is not None
    assert types.count("step.lost") == 3
    assert view.output == {"deadly": "alive"}
    assert sum(process.returncode == -signal.SIGKILL for process in workers.processes.values()) >= 1


async def test_the_steps_of_one_run_spread_over_the_workers(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        pids = {workers.start() for _ in range(3)}
        await workers.said("is ready")
        run = (await engine.runs.start("spread", {"n": list(range(12))})).id
        waiting = [await stage.next("apart")]
        while {visit.pid for visit in waiting} != pids:
            waiting.append(await stage.next("apart"))
        for visit in waiting:
            visit.let_go()
        for _ in range(12 - len(waiting)):
            (await stage.next("apart")).let_go()
        view = await ended(engine, run)
        entries = await told(engine, run)
    assert view.output == {"m": [n * n for n in range(12)]}
    assert len(stage.seen) == 12
    executors = {entry.worker for entry in entries if entry.type == "step.completed" and entry.step != "m"}
    assert len(executors) == 3
    assert all(any(f"-{pid}-" in worker for pid in pids) for worker in executors)


async def test_a_worker_told_to_leave_gives_back_what_it_executes_for_others(url: str, tmp_path: Path):
    async with scene(url, tmp_path) as (engine, stage, workers):
        first = workers.start()
        run = (await engine.runs.start("spread", {"n": [3]})).id
        await stage.next("apart")
        workers.start()
        workers.signal(first, signal.SIGTERM)
        (await stage.next("apart")).let_go()
        view = await ended(engine, run)
        types = [entry.type for entry in await told(engine, run)]
        assert await workers.exited(first) == 0
    assert view.output == {"m": [9]}
    assert "step.interrupted" in types
    assert "step.lost" not in types
