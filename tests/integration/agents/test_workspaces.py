"""Files of runs go with their runs: deleted, pruned or past their time, on whichever machine they are, and no others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tenuto import App, Engine
from tenuto.runtime import retention
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.wiring import Runtime, running

LATER = 2**50


def app() -> App:
    made = App("t")
    made.workflow("w").tool("write_file", id="put", args={"path": "a/b.txt", "content": "x"})
    return made


def kit(root: Path, scope: str = "run") -> Kit:
    return Kit(workspaces=Workspaces(root=root, scope=scope))


async def wrote(engine: Engine, **request: Any) -> str:
    """Return a run that has written a file and ended."""
    run = (await engine.runs.submit(StartRun(workflow="w", input={}, **request))).id
    assert (await engine.runs.result(run, timeout_s=15)).status == "completed"
    return run


def kept(root: Path) -> set[str]:
    """Return the workspaces that can be found, whatever is left of others."""
    space = root / "default"
    return {item.name for item in space.iterdir()} if space.exists() else set()


async def until_kept(runtime: Runtime, root: Path, names: set[str]) -> None:
    async with asyncio.timeout(15):
        while kept(root) != names:
            await runtime.store.wait_hint(0.02)


async def test_files_go_with_a_deleted_run_and_with_pruned_ones(tmp_path: Path):
    """At once where they are on the machine that deletes; what a run has not asked for stays."""
    async with app().engine(f"sqlite:///{tmp_path}/t.db", kit=kit(tmp_path / "ws")) as engine:
        first, second, third = [await wrote(engine) for _ in range(3)]
        await engine.runs.delete(first)
        assert kept(tmp_path / "ws") == {f"run-{second}", f"run-{third}"}
        while (await engine.runs.prune(before=LATER)).deleted:
            pass
        assert kept(tmp_path / "ws") == set()


async def test_files_on_another_machine_go_by_its_own_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str):
    """Whoever deletes a run reaches only its own disk; the worker that has the files finds the run gone."""
    monkeypatch.setattr(retention, "WORKSPACES_EVERY_S", 0.02)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    async with running(postgres_url, app().catalog(), kit=kit(here)) as runtime:
        gone, stays = await wrote(runtime.engine), await wrote(runtime.engine)
        async with app().engine(postgres_url, worker=False, kit=kit(elsewhere)) as far:
            await far.runs.delete(gone)
        await until_kept(runtime, here, {f"run-{stays}"})


async def test_retention_takes_the_files_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without anybody's word, after the records."""
    monkeypatch.setattr(retention, "WORKSPACES_EVERY_S", 0.02)
    url = f"sqlite:///{tmp_path}/t.db"
    async with running(url, app().catalog(), kit=kit(tmp_path / "ws")) as runtime:
        run = await wrote(runtime.engine)
        assert kept(tmp_path / "ws") == {f"run-{run}"}
        await retention.prune(runtime.store, "default", LATER)
        await until_kept(runtime, tmp_path / "ws", set())


async def test_a_crash_between_record_and_files_and_one_in_the_midst_of_them_leave_nothing(tmp_path: Path):
    """The next sweep removes files whose run is gone, and what a broken-off removal had put aside."""
    root = tmp_path / "ws"
    async with running(f"sqlite:///{tmp_path}/t.db", app().catalog(), kit=kit(root)) as runtime:
        run, half = await wrote(runtime.engine), await wrote(runtime.engine)
        for one in (run, half):
            assert await runtime.store.delete_runs("default", run_id=one) == 1
        os.rename(root / "default" / f"run-{half}", root / "default" / "gone-x")
        (root / "default" / "gone-x" / ".tenuto" / "owner").unlink()
        workspaces = runtime.engine.runs.workspaces
        assert workspaces is not None
        await retention.sweep_workspaces(runtime.store, workspaces)
        assert kept(root) == set()


async def test_files_of_other_stores_runs_and_of_projects_stay(tmp_path: Path):
    """Two stores may share a directory: neither takes the other's runs for gone, nor anything it did not make."""
    root = tmp_path / "ws"
    async with app().engine(f"sqlite:///{tmp_path}/one.db", kit=kit(root)) as engine:
        mine = await wrote(engine)
    stranger = Workspaces(root=root).of(CallInfo(key="k", run="0192d2c8-0000-7000-8000-000000000000"))
    stranger.write("a", b"", "k")
    async with running(f"sqlite:///{tmp_path}/two.db", app().catalog(), kit=kit(root, "project")) as runtime:
        shared = await wrote(runtime.engine, labels={"project": "p"})
        await runtime.engine.runs.delete(shared)
        workspaces = runtime.engine.runs.workspaces
        assert workspaces is not None
        await retention.sweep_workspaces(runtime.store, workspaces)
    assert kept(root) == {f"run-{mine}", stranger.root.name, "project-p"}


async def test_removing_files_follows_no_link(tmp_path: Path):
    """A link in a workspace is removed, and what it points to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    async with app().engine("memory:", kit=kit(tmp_path / "ws")) as engine:
        run = await wrote(engine)
        (tmp_path / "ws" / "default" / f"run-{run}" / "link").symlink_to(outside)
        await engine.runs.delete(run)
    assert kept(tmp_path / "ws") == set()
    assert (outside / "file").read_text() == "x"
