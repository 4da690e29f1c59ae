"""How versions of a workflow come of each other: patches for the runs to come, undo, redo, numbers."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto import App
from tenuto.errors import Conflict, InvalidPatch, WorkflowMissing
from tenuto.runtime.services.engine import Engine

LONG_S = 20


def build() -> App:
    app = App("t")

    @app.step
    async def work(value: Any) -> str:
        return "done"

    app.workflow("w").step("work", id="first").step("work", id="last", after="first")
    return app


def behind(name: str) -> list[dict[str, Any]]:
    return [
        {"op": "add", "path": "/nodes/-", "value": {"id": name, "kind": "function", "config": {"handler": "work"}}},
        {"op": "add", "path": "/edges/-", "value": {"from": "first", "to": name}},
    ]


async def ran(engine: Engine, **more: Any) -> set[str]:
    run = await engine.runs.start("w", None, **more)
    view = await engine.runs.result(run.id, timeout_s=LONG_S)
    assert view.status == "completed", view.error
    return set(view.output)


async def test_a_patch_is_in_the_runs_to_come_and_in_no_other(url: str) -> None:
    """Three patches of 1.0 read 1.3, each with its author; a run that exists stays with its version."""
    async with build().engine(url) as engine:
        old = await engine.runs.start("w", None)
        for n, name in enumerate(("x", "y", "z"), 1):
            version = await engine.versions.patch("w", behind(name), by=f"author {n}", reason=f"reason {n}")
            assert version.number == f"1.{n}"
        assert await ran(engine) == {"last", "x", "y", "z"}
        assert set((await engine.runs.result(old.id, timeout_s=LONG_S)).output) == {"last"}
        moves = [move for move in await engine.versions.moves("w", "latest") if move.kind == "patch"]
        assert [(move.by, move.reason) for move in moves] == [(f"author {n}", f"reason {n}") for n in (1, 2, 3)]
        assert all(move.operations for move in moves)
        numbers = [item.number for item in (await engine.workflows.list("w")).items]
        assert numbers == ["1.3", "1.2", "1.1", "1.0"]


async def test_undo_and_redo_move_the_tag_and_lose_no_version(url: str) -> None:
    """Undo returns to the former version, as often as there were moves; redo comes back until something else is done."""
    async with build().engine(url) as engine:
        first = await engine.versions.patch("w", behind("x"))
        second = await engine.versions.patch("w", behind("y"))
        assert (await engine.versions.undo("w", by="ada")).version == first.version
        assert (await engine.versions.undo("w")).number == "1.0"
        with pytest.raises(Conflict):
            await engine.versions.undo("w")
        assert await ran(engine) == {"last"}
        assert (await engine.versions.redo("w")).version == first.version
        assert (await engine.versions.redo("w")).version == second.version
        with pytest.raises(Conflict):
            await engine.versions.redo("w")
        await engine.versions.undo("w")
        await engine.workflows.tag("w", "latest", second.version)
        with pytest.raises(Conflict):
            await engine.versions.redo("w")
        assert [move.kind for move in await engine.versions.moves("w", "latest")][-3:] == ["redo", "undo", "tag"]


async def test_a_program_that_starts_again_does_not_undo_its_patches(url: str) -> None:
    """Publishing the version that was patched changes nothing; publishing another one begins the next number."""
    if url == "memory:":
        pytest.skip("memory ends with its engine")
    async with build().engine(url) as engine:
        await engine.versions.patch("w", behind("x"))
    async with build().engine(url) as engine:
        assert await ran(engine) == {"last", "x"}
        node = {"id": "only", "kind": "function", "config": {"handler": "work"}}
        published = await engine.workflows.publish({"name": "w", "nodes": [node]})
        assert published.number == "2.0"
        assert await ran(engine) == {"only"}


async def test_what_cannot_be_patched_changes_nothing(url: str) -> None:
    """Every problem is told; a tag that has moved on is not moved; unknown names are told."""
    async with build().engine(url) as engine:
        with pytest.raises(InvalidPatch) as caught:
            await engine.versions.patch("w", [{"op": "remove", "path": "/nodes/first"}])
        assert {problem.code for problem in caught.value.problems} >= {"graph.unknown_node"}
        (base,) = (await engine.workflows.list("w")).items
        await engine.versions.patch("w", behind("x"))
        with pytest.raises(Conflict):
            await engine.versions.patch("w", behind("y"), base=base.version)
        assert len((await engine.workflows.list("w")).items) == 2
        with pytest.raises(WorkflowMissing):
            await engine.versions.patch("v", behind("y"))
        with pytest.raises(WorkflowMissing):
            await engine.versions.moves("v")


async def test_a_patch_that_a_person_has_to_approve_is_not_applied_by_whoever_sends_it() -> None:
    """The rules hold for the runs to come as for one that runs: it is proposed, and somebody else approves it."""
    app = build()
    app.workflow("ruled").step("work", id="first").patches(approval=["person"])
    async with app.engine("memory:") as engine:
        before = (await engine.workflows.get("ruled")).version
        with pytest.raises(Conflict, match="patches by a person are approved by a person; propose it") as refused:
            await engine.versions.patch("ruled", behind("x"), by="ann")
        assert refused.value.reason == "patch.approval"
        assert (await engine.workflows.get("ruled")).version == before
