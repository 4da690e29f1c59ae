"""Patches of a run's graph over HTTP, over both streams and from the command line, on a real engine."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tenuto.adapters.clock import SystemClock
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.api.server import serve
from tenuto.cli.main import main
from tenuto.domain.overlays.terms import Terms
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.runtime.worker.worker import Worker
from tenuto.settings import Settings

HELD: dict[str, Any] = {
    "name": "held",
    "nodes": [
        {"id": "hold", "kind": "wait", "config": {"signal": "go"}},
        {"id": "last", "kind": "transform", "config": {"value": "1"}},
    ],
    "edges": [{"from": "hold", "to": "last"}],
}
TERMS = Terms(approval=("agents",))


def behind(src: str, name: str) -> list[dict[str, Any]]:
    return [
        {"op": "add", "path": "/nodes/-", "value": {"id": name, "kind": "transform", "config": {"value": "2"}}},
        {"op": "add", "path": "/edges/-", "value": {"from": src, "to": name}},
    ]


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a real server with a worker, where patches by people wait for approval if the workflow says so."""
    store, stop = MemoryStore(), asyncio.Event()
    await store.open()
    committer, bus, catalog, clock, definitions = Committer(store), Bus(), Catalog(), SystemClock(), Definitions(store)
    committer.start()
    worker = Worker(store, committer, definitions, catalog, clock, bus=bus, options=WorkerOptions(terms=TERMS))
    await worker.start()
    engine = Engine(store, committer, definitions, catalog, bus=bus, clock=clock.now, terms=TERMS)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = Settings(port=0, no_auth=True, data_dir=str(tmp_path))
    serving = asyncio.ensure_future(serve(engine, settings, stop=stop, ready=ready.set_result, out=io.StringIO()))
    yield await ready
    stop.set()
    await asyncio.wait_for(serving, 10)
    await worker.stop(0)
    await committer.close()
    await store.close()


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20) as made:
        yield made


async def held(client: httpx.AsyncClient, **more: Any) -> str:
    """Start a run that waits for its signal, and return its id once it does."""
    run = (await client.post("/runs", json={"definition": {**HELD, **more}})).json()["id"]
    await told(client, run, "step.waiting")
    return run


async def told(client: httpx.AsyncClient, run: str, what: str) -> None:
    """Return once a run's stream has told of something."""
    async with client.stream("GET", f"/runs/{run}/stream") as stream:
        async for line in stream.aiter_lines():
            if line == f"event: {what}":
                return
    raise AssertionError(f"the run never told of {what}")


async def digest(client: httpx.AsyncClient, run: str) -> str:
    return (await client.get(f"/runs/{run}/patches/graph")).json()["digest"]


async def propose(client: httpx.AsyncClient, run: str, ops: Any, **headers: str) -> httpx.Response:
    body = {"base_digest": await digest(client, run), "operations": ops, "reason": "more to do"}
    return await client.post(f"/runs/{run}/patches", json=body, headers=headers)


async def finished(client: httpx.AsyncClient, run: str) -> dict[str, Any]:
    await client.post(f"/runs/{run}/signals/go", json=None)
    return (await client.get(f"/runs/{run}", params={"wait": 20})).json()


async def test_a_patch_is_proposed_shown_taken_back_and_brought_back(client: httpx.AsyncClient) -> None:
    """202 with the patch and its address; the difference; undo and redo; the new node runs in the same run."""
    run = await held(client)
    seen = (await client.get(f"/runs/{run}/patches/graph")).json()
    assert (seen["begun"], seen["over"], seen["number"], seen["left"]["patches"]) == (["hold"], [], "1.0", 20)
    made = await propose(client, run, behind("hold", "extra"))
    assert made.status_code == 202, made.text
    patch = made.json()
    assert (patch["status"], patch["number"], patch["by"], patch["author"]) == ("applied", "1.1", "local", "person")
    shown = (await client.get(made.headers["location"].removeprefix("/api/v1"))).json()
    assert shown["difference"]["nodes_added"] == ["extra"]
    assert shown["difference"]["edges_added"][0]["to"] == "extra"
    assert shown["difference"]["nodes"]["extra"]["kind"] == "transform"
    assert [one["op"] for one in shown["operations"]] == ["add", "add"]
    undone = await client.post(f"/runs/{run}/patches/undo", headers={"Idempotency-Key": "u"})
    assert (undone.status_code, undone.json()["takes"]) == (202, patch["id"]), undone.text
    assert await digest(client, run) == seen["digest"]
    again = await client.post(f"/runs/{run}/patches/undo", headers={"Idempotency-Key": "u"})
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (undone.json()["id"], "true")
    nothing = await client.post(f"/runs/{run}/patches/undo")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "patch.undo")
    redone = await client.post(f"/runs/{run}/patches/redo", json={"reason": "after all"})
    assert (redone.status_code, redone.json()["reason"]) == (202, "after all")
    listed = (await client.get(f"/runs/{run}/patches", params={"status": "applied"})).json()
    assert [item["number"] for item in listed["items"]] == ["1.1", "", ""]
    assert set((await finished(client, run))["output"]) == {"extra", "last"}
    late = await propose(client, run, behind("last", "more"))
    assert (late.status_code, late.json()["code"]) == (409, "run.terminal")


async def test_a_refused_patch_names_every_reason_and_is_kept(client: httpx.AsyncClient) -> None:
    """422 with the id of the patch; a body that is none is refused before it becomes a patch."""
    run = await held(client)
    ops = [{"op": "remove", "path": "/nodes/hold"}, {"op": "remove", "path": "/edges/hold->last"}]
    refused = await propose(client, run, ops)
    assert (refused.status_code, refused.json()["code"]) == (422, "patch.invalid"), refused.text
    assert "patch.frozen" in {item["code"] for item in refused.json()["errors"]}
    kept = (await client.get(f"/runs/{run}/patches/{refused.json()['patch']}")).json()
    assert kept["status"] == "invalid"
    assert [item["code"] for item in kept["findings"]] == [item["code"] for item in refused.json()["errors"]]
    unread = await client.post(f"/runs/{run}/patches", json={"base_digest": "x", "operations": [], "why": "?"})
    assert (unread.status_code, unread.json()["code"]) == (422, "request.invalid")
    foreign = {"base_digest": "sha256:" + "0" * 64, "operations": behind("hold", "x")}
    stale = await client.post(f"/runs/{run}/patches", json=foreign)
    assert [item["code"] for item in stale.json()["errors"]] == ["patch.stale"]
    shown = (await client.get(f"/runs/{run}/patches/{stale.json()['patch']}")).json()
    assert shown["difference"] is None
    listed = (await client.get(f"/runs/{run}/patches", params={"status": "invalid,rejected"})).json()["items"]
    assert len(listed) == 2
    wrong = await client.get(f"/runs/{run}/patches", params={"status": "aplied"})
    assert "applied" in wrong.text
    for path in (f"/runs/{run}/patches/pt-none", "/runs/none/patches", "/runs/none/patches/graph"):
        assert (await client.get(path)).status_code == 404, path


async def test_one_key_makes_one_patch_also_after_the_run(client: httpx.AsyncClient) -> None:
    """A repeat is answered like the first time, whatever has become of run and graph; another body is refused."""
    run = await held(client)
    body = {"base_digest": await digest(client, run), "operations": behind("hold", "extra")}
    made = [await client.post(f"/runs/{run}/patches", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in made] == [202, 202], made[1].text
    assert made[0].json()["id"] == made[1].json()["id"]
    assert "idempotent-replayed" not in made[0].headers
    await finished(client, run)
    late = await client.post(f"/runs/{run}/patches", json=body, headers={"Idempotency-Key": "k"})
    assert (late.status_code, late.headers["idempotent-replayed"]) == (202, "true")
    other = await client.post(f"/runs/{run}/patches", json={**body, "reason": "?"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.mismatch")


ASKING = {"patches": {"approval": ["all"]}}


async def test_both_streams_tell_of_patches_with_the_ids_that_change(url: str, client: httpx.AsyncClient) -> None:
    """Proposed, applied and rejected, each with what is added, removed and changed, over SSE and WebSocket alike."""
    run = await held(client, **ASKING)
    async with connect(f"{url.replace('http', 'ws', 1)}/api/v1/runs/{run}/ws") as socket:
        await socket.recv()
        first = (await propose(client, run, behind("hold", "extra"))).json()
        assert (first["status"], bool(first["asks"])) == ("open", True)
        early = await client.post(f"/runs/{run}/patches/{first['id']}/decision", json={"decision": "reject"})
        assert (early.status_code, early.json()["code"]) == (422, "patch.reason")
        no = {"decision": "reject", "reason": "not now"}
        rejected = await client.post(f"/runs/{run}/patches/{first['id']}/decision", json=no)
        assert (rejected.status_code, rejected.json()["status"]) == (202, "rejected"), rejected.text
        swap = [
            *behind("hold", "other"), {"op": "remove", "path": "/edges/hold->last"},
            {"op": "add", "path": "/edges/-", "value": {"from": "other", "to": "last"}},
            {"op": "replace", "path": "/nodes/last/config/value", "value": "3"},
        ]  # fmt: skip
        second = (await propose(client, run, swap)).json()["id"]
        own = await client.post(f"/runs/{run}/patches/{second}/decision", json={"decision": "approve"})
        assert (own.status_code, own.json()["code"]) == (403, "ticket.denied")
        for decision, status in (("approve", 202), ("approve", 202)):
            yes = {"decision": decision, "by": "grace"}
            answer = await client.post(f"/runs/{run}/patches/{second}/decision", json=yes)
            assert (answer.status_code, answer.json()["status"]) == (status, "applied"), answer.text
        against = await client.post(f"/runs/{run}/patches/{second}/decision", json=no)
        assert (against.status_code, against.json()["code"]) == (409, "patch.decided")
        view = await finished(client, run)
        heard = [json.loads(message) async for message in socket]
    assert view["output"] == {"last": 3}
    lines = (await client.get(f"/runs/{run}/stream")).text.splitlines()
    own = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [one for one in own if one["type"].startswith("patch.")] == [one for one in heard if one["type"].startswith("patch.")]
    seen = [(one["type"], one["data"]["patch"], one["data"]["changed"]) for one in heard if one["type"].startswith("patch.")]
    extra = {"nodes_added": ["extra"], "edges_added": ["hold->extra"]}
    swapped = {
        "nodes_added": ["other"], "nodes_changed": ["last"], "edges_added": ["hold->other", "other->last"],
        "edges_removed": ["hold->last"],
    }  # fmt: skip
    assert seen == [
        ("patch.proposed", first["id"], extra), ("patch.rejected", first["id"], extra),
        ("patch.proposed", second, swapped), ("patch.applied", second, swapped),
    ]  # fmt: skip


async def test_the_command_line_goes_the_whole_way(
    url: str, client: httpx.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Propose from a file on the newest graph, list, show, approve the ticket, take back, bring back, refuse."""

    async def cli(*argv: str, code: int = 0) -> str:
        capsys.readouterr()
        found = await asyncio.to_thread(main, [*argv, "--api-url", url])
        said = capsys.readouterr()
        assert found == code, said
        return said.out + said.err

    run = await held(client, **ASKING)
    listed, asked = tmp_path / "ops.yaml", tmp_path / "patch.json"
    listed.write_text("- {op: add, path: /nodes/-, value: {id: extra, kind: transform, config: {value: '2'}}}\n"
                      "- {op: add, path: /edges/-, value: {from: hold, to: extra}}\n")
    asked.write_text(json.dumps({"operations": [{"op": "replace", "path": "/nodes/hold/config/signal", "value": "x"}]}))
    assert "tenuto patch propose" in await cli("patch", "graph", run)
    made = json.loads(await cli("patch", "propose", run, str(listed), "--reason", "more", "--output", "json"))
    assert (made["status"], made["reason"]) == ("open", "more")
    refused = await cli("patch", "propose", run, str(asked), code=2)
    assert "patch.invalid" in refused
    assert "has begun" in refused
    both = await cli("patch", "list", run)
    assert "+extra +hold->extra" in both
    assert "invalid" in both
    shown = await cli("patch", "show", run, made["id"])
    for part in ("more", "+ node extra (transform)", '+     config: {"value": "2"}', "+ edge hold -> extra", "local (person)"):
        assert part in shown, shown
    assert "'local' proposed it" in await cli("approve", made["ticket"], "approve", code=2)
    decided = await cli("approve", made["ticket"], "approve", "--as", "grace")
    assert "+ node extra (transform)" in decided
    await told(client, run, "patch.applied")
    for back, sign in (("undo", "-extra"), ("redo", "+extra")):
        answer = await cli("patch", back, run)
        assert "applied" in answer
        assert sign in answer
    other = tmp_path / "other.json"
    other.write_text(json.dumps(behind("hold", "other")))
    second = json.loads(await cli("patch", "propose", run, str(other), "--output", "compact"))
    assert "needs a reason" in await cli("patch", "reject", run, second["id"], code=1)
    assert "rejected" in await cli("patch", "reject", run, second["id"], "--reason", "enough")
    assert "409" in await cli("patch", "approve", run, second["id"], code=2)
    assert "patch.unknown" in await cli("patch", "show", run, "pt-none", code=2)


OFFERED = {"name": "offered", "patches": {"approval": ["all"]}, **{key: HELD[key] for key in ("nodes", "edges")}}


async def test_a_proposal_for_the_runs_to_come_over_http(client: httpx.AsyncClient) -> None:
    """201 with its address; shown with the difference; decided once, on what was shown; filtered by status."""
    await client.post("/workflows", json=OFFERED)
    body = {"operations": behind("hold", "extra"), "title": "more", "author": "agent"}
    made = await client.post("/workflows/offered/proposals", json=body)
    assert (made.status_code, made.json()["status"], made.json()["author"]) == (201, "proposed", "agent"), made.text
    place = made.headers["location"].removeprefix("/api/v1")
    again = await client.post("/workflows/offered/proposals", json=body)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (made.json()["id"], "true")
    shown = (await client.get(place)).json()
    assert (shown["difference"]["nodes_added"], shown["gain"]) == (["extra"], None)
    own = await client.post(f"{place}/approve")
    assert (own.status_code, own.json()["code"]) == (403, "proposal.own")
    elsewhere = await client.post(f"{place}/approve", json={"by": "grace", "digest": "sha256:0"})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (409, "proposal.shown")
    done = await client.post(f"{place}/approve", json={"by": "grace", "digest": shown["digest"]})
    assert (done.status_code, done.json()["status"], done.json()["decided_by"]) == (200, "applied", "grace"), done.text
    late = await client.post(f"{place}/reject", json={"by": "grace", "reason": "no"})
    assert (late.status_code, late.json()["code"]) == (409, "proposal.decided")
    assert (await client.get("/workflows/offered")).json()["version"] == shown["digest"]
    assert [one["id"] for one in (await client.get("/proposals", params={"status": "applied"})).json()["items"]] == [shown["id"]]
    assert (await client.get("/workflows/offered/proposals", params={"status": "stale"})).json()["items"] == []
    bad = await client.post("/workflows/offered/proposals", json={"operations": [{"op": "remove", "path": "/nodes/none"}]})
    assert (bad.status_code, bad.json()["code"]) == (422, "patch.invalid")
    for path in ("/proposals/pp-none", "/workflows/none/proposals"):
        assert (await client.get(path)).status_code == 404
    assert (await client.post(f"{place}/aprove")).status_code == 422


async def test_a_proposal_is_made_found_and_decided_on_the_command_line(
    url: str, client: httpx.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words for patches are those for proposals, and an open patch needs no run to be named."""

    async def cli(*argv: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, [*argv, "--api-url", url])
        seen = capsys.readouterr()
        return code, seen.out + seen.err

    await client.post("/workflows", json=OFFERED)
    file = tmp_path / "ops.json"
    file.write_text(json.dumps(behind("hold", "extra")))
    code, text = await cli("workflow", "propose", "offered", str(file), "--title", "one more", "--output", "json")
    name = json.loads(text)["id"]
    code, text = await cli("patch", "list", "--workflow", "offered")
    assert code == 0 and name in text and "one more" in text and "proposed" in text
    code, text = await cli("patch", "show", name)
    assert code == 0 and "+ node extra (transform)" in text and f"patch approve|reject {name}" in text
    code, text = await cli("patch", "reject", name)
    assert code == 1 and "needs a reason" in text
    code, text = await cli("patch", "approve", name, "--as", "grace")
    assert code == 0 and "runs started from now on go by it" in text
    run = await held(client, **ASKING)
    patch = (await propose(client, run, behind("hold", "other"))).json()["id"]
    code, text = await cli("patch", "reject", patch, "--reason", "no")
    assert code == 0 and "rejected" in text
    code, text = await cli("patch", "show", patch)
    assert code == 1 and f"RUN {patch}" in text
