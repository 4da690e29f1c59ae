"""Optimizers end to end: asked from the terminal, their suggestions decided, applied, measured, and the hostile ones stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenuto.errors import InvalidSettings
from tenuto.settings import load
from tests.integration.optimizers.loopback import api
from tests.integration.optimizers.serving import FEW, LONG_S, served
from tests.unit.optimizers.modules import GROW_OR_DIE, LOOP, module, replying, running

ENDLESS = running(f"{LOOP} (unreachable)")
GREEDY = running(f"{GROW_OR_DIE} (i64.const 0)")
RUBBISH = replying(b"this is no answer")
HOSTILE = {"endless": (ENDLESS, "fuel"), "greedy": (GREEDY, "memory"), "rubbish": (RUBBISH, "reply")}


def fetching(url: str, *, hold: bool = False) -> dict[str, Any]:
    """Return a workflow with two requests in a row, behind a wait for a signal if wanted."""
    nodes: list[dict[str, Any]] = [
        {"id": "user", "kind": "http", "config": {"url": f"{url}/user"}},
        {"id": "news", "kind": "http", "config": {"url": f"{url}/news"}},
        {"id": "last", "kind": "transform", "config": {"value": "input.a + input.b"},
         "input": {"a": "${nodes.user.output.body.n}", "b": "${nodes.news.output.body.n}"}},
    ]
    edges = [{"from": "user", "to": "news"}, {"from": "news", "to": "last"}]
    if hold:
        nodes.insert(0, {"id": "hold", "kind": "wait", "config": {"signal": "go"}})
        edges.insert(0, {"from": "hold", "to": "user"})
    return {"name": "fetching", "nodes": nodes, "edges": edges}


async def test_fused_requests_are_proposed_approved_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shown first, stored only then; the runs after it answer the same in fewer steps, and that is what is told."""
    async with api() as far, served(tmp_path, capsys.readouterr, builtin=("fuse_http",)) as server:
        base = (await server.client.post("/workflows", json=fetching(far.url))).json()["version"]
        before = await server.ran("fetching", FEW)
        code, text = await server.cli("workflow", "stats", "fetching")
        assert code == 0 and f"{FEW} completed" in text and "user" in text
        code, text = await server.cli("optimize", "fetching", "--dry-run")
        assert code == 0, text
        assert "- node news" in text and "expected to save" in text and f"{FEW} ended runs looked at" in text
        assert (await server.client.get("/proposals")).json()["items"] == []
        code, text = await server.cli("optimize", "fetching", "--output", "json")
        (made,) = json.loads(text)["suggestions"]
        assert (code, made["status"], made["rule"], made["base_digest"]) == (0, "proposed", "fuse_http", base)
        again = json.loads((await server.cli("optimize", "fetching", "--output", "json"))[1])["suggestions"]
        assert [(one["proposal"], one["note"]) for one in again] == [(made["proposal"], "it waits already")]
        code, text = await server.cli("patch", "approve", made["proposal"], "--as", "grace")
        assert code == 0, text
        code, text = await server.cli("optimize", "fetching", "--gains")
        assert code == 0 and f"not enough runs yet (0 of {FEW})" in text
        far.asked.clear()
        assert await server.ran("fetching", FEW) == before
        assert sorted(far.asked) == sorted(["GET /user", "GET /news"] * FEW)
        (gain,) = (await server.client.get("/workflows/fetching/gains")).json()["items"]
        assert (gain["status"], gain["in_force"], gain["before"]["runs"], gain["after"]["runs"]) == ("measured", True, FEW, FEW)
        assert (gain["before"]["steps"], gain["after"]["steps"], gain["measured"]["steps"]) == (3.0, 2.0, 1.0)
        assert (gain["measured"]["requests"], gain["expected"]["steps"]) == (0.0, 1.0)
        assert gain["measured"]["ms"] == gain["before"]["p50_ms"] - gain["after"]["p50_ms"]
        code, text = await server.cli("optimize", "fetching", "--gains")
        assert code == 0 and "measured" in text and "in 3 steps, and now takes" in text
        code, text = await server.cli("workflow", "history", "fetching")
        assert code == 0 and "measured" in text and "optimizer fuse_http" in text
        shown = (await server.client.get(f"/proposals/{made['proposal']}")).json()
        assert (shown["gain"]["measured"], shown["decided_by"]) == (gain["measured"], "grace")


async def test_hostile_plugins_are_stopped_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each at its bound, with its name and why; the others go on; three times in a row, and it is asked no more."""
    async with api() as far, served(tmp_path, capsys.readouterr, builtin=("fuse_http",)) as server:
        await server.client.post("/workflows", json=fetching(far.url))
        for name, (content, _) in HOSTILE.items():
            file = tmp_path / f"{name}.wasm"
            file.write_bytes(content)
            code, text = await server.cli("optimizer", "add", str(file))
            assert code == 0 and "enabled" in text, text
        code, text = await server.cli("optimize", "fetching", "--dry-run")
        assert code == 1, text
        for name, (_, why) in HOSTILE.items():
            assert f"optimizer {name}: stopped ({why})" in text, text
        assert "- node news" in text, "those that are well go on"
        found = (await server.client.post("/workflows/fetching/optimize", json={"dry_run": True})).json()
        assert found["faults"] == len(HOSTILE)
        assert {one["name"]: one["why"] for one in found["optimizers"] if one["status"] == "stopped"} == {
            name: why for name, (_, why) in HOSTILE.items()
        }
        await server.cli("optimize", "fetching", "--dry-run", "--optimizer", "endless")
        listed = {one["name"]: one for one in (await server.client.get("/optimizers")).json()["items"]}
        assert {name: (one["status"], one["failures"]) for name, one in listed.items()} == {
            "fuse_http": ("enabled", 0), "endless": ("quarantined", 3), "greedy": ("enabled", 2), "rubbish": ("enabled", 2),
        }
        code, text = await server.cli("optimizer", "show", "endless")
        assert code == 0 and "optimizer enable endless" in text and "fuel" in text
        code, text = await server.cli("optimize", "fetching", "--optimizer", "endless")
        assert code == 0 and "optimizer endless: quarantined" in text and "3 times in a row" in text
        code, text = await server.cli("optimizer", "enable", "endless")
        assert code == 0 and "enabled" in text
        for name in HOSTILE:
            assert (await server.cli("optimizer", "remove", name))[0] == 0
        code, text = await server.cli("optimize", "fetching", "--dry-run")
        assert code == 0, text


async def test_what_cannot_be_an_optimizer_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with the reason, before anybody asks it; names are checked too."""
    wanting = module(more='(import "env" "read" (func))')
    async with served(tmp_path, capsys.readouterr, max_bytes=10_000) as server:
        for name, content, status, code in (
            ("text", b"hello", 422, "optimizer.refused"), ("wants", wanting, 422, "optimizer.refused"),
            ("large", b"\0asm" * 5000, 413, "optimizer.too_large"), ("Bad.Name", RUBBISH, 422, "optimizer.name"),
            ("fuse_http", RUBBISH, 409, "optimizer.builtin"),
        ):  # fmt: skip
            refused = await server.client.put(f"/optimizers/{name}", content=content)
            assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
        file = tmp_path / "wants.wasm"
        file.write_bytes(wanting)
        code, text = await server.cli("optimizer", "add", str(file))
        assert code == 2 and "imports 'env.read'" in text
        assert (await server.client.delete("/optimizers/fuse_http")).json()["code"] == "optimizer.builtin"
        assert [one["kind"] for one in (await server.client.get("/optimizers")).json()["items"]] == ["builtin"] * 4
        missing = await server.client.get("/optimizers/fuse_htp")
        assert (missing.status_code, "fuse_http" in missing.text) == (404, True)
        code, text = await server.cli("optimize", "--optimizer", "x")
        assert code == 1 and "Name a workflow" in text
    async with served(tmp_path, capsys.readouterr, enabled=False) as server:
        off = await server.client.put("/optimizers/x", content=RUBBISH)
        assert (off.status_code, off.json()["code"]) == (503, "optimizer.off")


async def test_a_suggestion_that_cannot_be_applied_is_the_fault_of_its_optimizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told with every reason and counted; nothing is proposed."""
    bad = {"rule": "r", "title": "drop all", "reason": "", "operations": [{"op": "remove", "path": "/nodes/none"}]}
    content = replying(json.dumps({"suggestions": [bad]}).encode())
    async with served(tmp_path, capsys.readouterr) as server:
        await server.client.post("/workflows", json=fetching("http://127.0.0.1:9"))
        assert (await server.client.put("/optimizers/bad", content=content)).status_code == 200
        code, text = await server.cli("optimize", "fetching", "--optimizer", "bad")
        assert code == 1 and "optimizer bad: faulty" in text and "none" in text, text
        assert (await server.client.get("/optimizers/bad")).json()["failures"] == 1
        assert (await server.client.get("/proposals")).json()["items"] == []


async def test_a_run_that_goes_on_executes_what_was_fused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The suggestion is a patch of the run like any other; approved, the same run makes both requests in one step."""
    async with api() as far, served(tmp_path, capsys.readouterr) as server:
        definition = fetching(far.url, hold=True)
        run = (await server.client.post("/runs", json={"definition": definition})).json()["id"]
        async with server.client.stream("GET", f"/runs/{run}/stream") as stream:
            async for line in stream.aiter_lines():
                if line == "event: step.waiting":
                    break
        code, text = await server.cli("optimize", "--run", run, "--dry-run")
        assert code == 0 and "- node news" in text
        assert (await server.client.get(f"/runs/{run}/patches")).json()["items"] == []
        code, text = await server.cli("optimize", "--run", run, "--output", "json")
        (made,) = json.loads(text)["suggestions"]
        assert (made["status"], made["asks"]) == ("open", "patches by an optimizer are approved by a person")
        (patch,) = (await server.client.get(f"/runs/{run}/patches")).json()["items"]
        assert (patch["author"], patch["by"], patch["evidence"]["rule"]) == ("optimizer", "optimizer fuse_http", "fuse_http")
        code, text = await server.cli("patch", "approve", made["proposal"], "--as", "grace")
        assert code == 0 and "applied" in text, text
        await server.client.post(f"/runs/{run}/signals/go", json=None)
        view = (await server.client.get(f"/runs/{run}", params={"wait": LONG_S})).json()
        assert view["status"] == "completed", view["error"]
        assert {step["node"] for step in view["steps"]}.isdisjoint({"news"}) and sorted(far.asked) == ["GET /news", "GET /user"]
        over = await server.client.post(f"/runs/{run}/optimize")
        assert (over.status_code, over.json()["code"]) == (409, "run.terminal")


async def test_proposals_arise_by_themselves_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After enough ended runs, with no command; not again until there are as many more, also after a restart."""
    async with api() as far:
        async with served(tmp_path, capsys.readouterr, builtin=("fuse_http",)) as server:
            await server.client.post("/workflows", json=fetching(far.url))
            await server.ran("fetching", FEW - 1)
            assert await server.engine.optimizers.look() == 0
            await server.ran("fetching")
            assert await server.engine.optimizers.look() == 1
            (made,) = (await server.client.get("/workflows/fetching/proposals")).json()["items"]
            assert (made["status"], made["by"]) == ("proposed", "optimizer fuse_http")
            await server.client.post(f"/proposals/{made['id']}/reject", json={"reason": "not now", "by": "grace"})
        async with served(tmp_path, capsys.readouterr, builtin=("fuse_http",)) as server:
            assert await server.engine.optimizers.look() == 0
            (look,) = await server.engine.store.looks("default")
            await server.ran("fetching", FEW)
            assert await server.engine.optimizers.look() == 0
            (later,) = await server.engine.store.looks("default")
            assert later.mark > look.mark
            assert len((await server.client.get("/proposals")).json()["items"]) == 1
            assert not [task for task in server.runtime.tasks if task.get_name() == "optimizers"], "it is off unless set"


async def test_what_nobody_has_to_approve_is_applied_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pairs of requests that cannot go together: the second is suggested anew on what the first led to."""
    async with api() as far, served(tmp_path, capsys.readouterr, approval=("agents",), builtin=("fuse_http",)) as server:
        names = ("a", "b", "c", "d")
        nodes = [{"id": name, "kind": "http", "config": {"url": f"{far.url}/{name}"}} for name in names]
        nodes.insert(2, {"id": "between", "kind": "transform", "config": {"value": "1"}, "input": {}})
        edges = [{"from": one["id"], "to": two["id"]} for one, two in zip(nodes, nodes[1:], strict=False)]
        published = await server.client.post("/workflows", json={"name": "pairs", "nodes": nodes, "edges": edges})
        assert published.status_code == 201, published.text
        code, text = await server.cli("optimize", "pairs", "--output", "json")
        assert [one["status"] for one in json.loads(text)["suggestions"]] == ["applied", "applied"], text
        assert code == 0 and (await server.engine.workflows.list("pairs")).items[0].number == "1.2"
        await server.ran("pairs")
        assert sorted(far.asked) == [f"GET /{name}" for name in names]


async def test_optimizers_are_told_sizes_and_what_the_operator_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers that together weigh more than the operator lets one step have are left in steps of their own."""
    more: dict[str, Any] = {"builtin": ("fuse_http",)}
    async with api() as far:
        async with served(tmp_path, capsys.readouterr, **more, given=("fuse_http.max_bytes=50",)) as server:
            await server.client.post("/workflows", json=fetching(far.url))
            await server.ran("fetching")
            code, text = await server.cli("optimize", "fetching", "--dry-run")
            assert code == 0 and "1 ended run looked at" in text and "Nothing to improve was found" in text
        async with served(tmp_path, capsys.readouterr, **more, given=("fuse_http.max_bytes=5000",)) as server:
            code, text = await server.cli("optimize", "fetching", "--dry-run")
            assert code == 0 and "- node news" in text
    with pytest.raises(InvalidSettings, match=r"OPTIMIZER\.NAME=VALUE"):
        load({}, {"TENUTO_OPTIMIZERS": '{"given": ["fuse_http"]}'})


def rerouting(path: str) -> bytes:
    """Return an optimizer that lets the first request go elsewhere, whatever it is told."""
    operations = [{"op": "replace", "path": "/nodes/user/config/url", "value": path}]
    made = {"rule": "reroute", "title": "ask elsewhere", "reason": "it is said to be faster", "operations": operations, "gain": {"ms": 5}}
    return replying(json.dumps({"suggestions": [made]}).encode())


async def test_what_made_things_worse_is_marked_with_the_way_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An added optimizer, applied by policy; its runs fail, so the gain says what got worse and how to undo it."""
    async with api() as far, served(tmp_path, capsys.readouterr, approval=()) as server:
        far.status["/gone"] = 404
        await server.client.post("/workflows", json=fetching(far.url))
        await server.ran("fetching", FEW)
        assert (await server.client.put("/optimizers/elsewhere", content=rerouting(f"{far.url}/gone"))).status_code == 200
        code, text = await server.cli("optimize", "fetching", "--optimizer", "elsewhere")
        assert code == 0 and "ask elsewhere" in text and "applied" in text, text
        for _ in range(FEW):
            run = (await server.client.post("/runs", json={"workflow": "fetching"})).json()["id"]
            assert (await server.client.get(f"/runs/{run}", params={"wait": LONG_S})).json()["status"] == "failed"
        assert server.runtime.projector is not None
        await server.runtime.projector.drain()
        code, text = await server.cli("optimize", "fetching", "--gains")
        assert "it made things worse: 100% of the runs fail instead of 0%" in text
        (undo,) = [line.split("undo it:  tenuto ")[1] for line in text.splitlines() if "undo it:" in line]
        assert (await server.cli(*undo.split()))[0] == 0
        (gain,) = (await server.client.get("/workflows/fetching/gains")).json()["items"]
        assert (gain["in_force"], gain["undo"], bool(gain["worse"])) == (False, "", True)
        await server.ran("fetching")
        code, text = await server.cli("optimize", "fetching", "--optimizer", "elsewhere")
        assert code == 0 and "it was applied before" in text, "what a person took back is not proposed again"


async def test_by_itself_it_proposes_to_runs_that_go_on_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Switched on, a server looks with no command; a run that waits gets the patch, and asks a person as its rules say."""
    async with api() as far:
        more: dict[str, Any] = {"builtin": ("fuse_http",), "auto": "propose", "live": "propose", "every_s": 1}
        async with served(tmp_path, capsys.readouterr, **more) as server:
            assert [task for task in server.runtime.tasks if task.get_name() == "optimizers"]
            await server.client.post("/workflows", json=fetching(far.url, hold=True))
            runs = [(await server.client.post("/runs", json={"workflow": "fetching"})).json()["id"] for _ in range(FEW + 1)]
            waits = runs.pop()
            for run in runs:
                await server.client.post(f"/runs/{run}/signals/go", json=None)
                done = (await server.client.get(f"/runs/{run}", params={"wait": LONG_S})).json()
                assert done["status"] == "completed", done["error"]
            async with server.client.stream("GET", f"/runs/{waits}/stream") as stream:
                async for line in stream.aiter_lines():
                    if line == "event: patch.proposed":
                        break
            (proposal,) = (await server.client.get("/workflows/fetching/proposals")).json()["items"]
            (patch,) = (await server.client.get(f"/runs/{waits}/patches")).json()["items"]
            assert (proposal["status"], patch["status"], patch["author"]) == ("proposed", "open", "optimizer")
