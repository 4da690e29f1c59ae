"""File tools on an engine: named by a node, kept by the run, once over a repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.domain.graph.steps import served_by
from tenuto.errors import InvalidGraph
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.workspace import Workspaces


async def ran(app: App, tmp_path: Path, given: Any = None) -> Any:
    async with app.engine("memory:", kit=Kit(workspaces=Workspaces(root=tmp_path))) as engine:
        started = await engine.runs.start("w", given or {})
        return await engine.runs.result(started.id, timeout_s=20)


async def test_steps_of_a_run_share_its_files(tmp_path: Path):
    app = App("t")
    flow = app.workflow("w")
    flow.tool("write_file", id="put", args={"path": "a/b.txt", "content": "${input.text}"})
    flow.tool("read_file", id="get", args={"path": "a/b.txt"})
    flow.tool("list_files", id="ls", args={"recursive": True})
    flow.edge("put", "get").edge("get", "ls")
    view = await ran(app, tmp_path, {"text": "héllo"})
    assert view.status == "completed", view
    assert view.output["ls"]["entries"] == [
        {"path": "a", "kind": "directory"}, {"path": "a/b.txt", "kind": "file", "bytes": 6},
    ]  # fmt: skip
    assert (tmp_path / "default" / f"run-{view.id}" / "a" / "b.txt").read_text() == "héllo"


async def test_a_refused_path_fails_the_step_with_the_reason(tmp_path: Path):
    app = App("t")
    app.workflow("w").tool("read_file", id="get", args={"path": "../../secret"})
    view = await ran(app, tmp_path)
    assert (view.status, view.error.code) == ("failed", "workspace.path")
    assert "climbs with '..'" in view.error.message


async def test_an_apps_own_tool_hides_the_built_in_one(tmp_path: Path):
    app = App("t")

    @app.tool(effect="pure")
    def read_file(path: str) -> str:
        return f"mine: {path}"

    app.workflow("w").tool("read_file", id="get", args={"path": "x"})
    assert (await ran(app, tmp_path)).output == {"get": "mine: x"}


def test_an_unknown_tool_is_still_refused_with_the_nearest_name():
    app = App("t")
    app.workflow("w").tool("read_flie", id="get", args={"path": "x"})
    with pytest.raises(InvalidGraph, match="read_file"):
        app.catalog()


def test_a_step_list_is_not_served_by_a_built_in_tool_behind_its_back():
    @(app := App("t")).tool(effect="pure")
    def write_file(path: str) -> str:
        return path

    known = app.catalog().known()
    assert served_by("read_file", known) is None
    assert served_by("write_file", known) == {"tool": "write_file"}
