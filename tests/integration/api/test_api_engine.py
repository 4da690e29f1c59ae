"""The API over a real engine and store, with a worker in the same process: what callers see end to end."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from websockets.asyncio.client import connect

from tenuto.adapters.clock import SystemClock
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.api.server import serve
from tenuto.domain.runs.public import PublicEvent
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.worker.worker import Worker
from tenuto.settings import Settings

DOUBLE: dict[str, Any] = {
    "name": "double",
    "input_schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
    "nodes": [{"id": "twice", "kind": "transform", "config": {"value": "{'n': input.n * 2}"}}],
    "edges": [],
}


APPROVAL: dict[str, Any] = {
    "name": "ask",
    "nodes": [
        {"id": "ask", "kind": "approval", "config": {"message": "Shall we?"}},
        {"id": "done", "kind": "transform", "config": {"value": "{'by': nodes.ask.output.by}"}},
    ],
    "edges": [{"from": "ask", "to": "done"}],
}


@pytest.fixture(params=["memory", "sqlite"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine with one worker, over each store that needs no server."""
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "t.db")
    await store.open()
    committer, bus, catalog, clock = Committer(store), Bus(), Catalog(), SystemClock()
    definitions = Definitions(store)
    committer.start()
    worker = Worker(store, committer, definitions, catalog, clock, bus=bus)
    await worker.start()
    yield Engine(store, committer, definitions, catalog, bus=bus, clock=clock.now)
    await worker.stop(0)
    await committer.close()
    await store.close()


@pytest.fixture
async def client(engine: Engine, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application over the engine."""
    app = create_app(engine, Settings(data_dir=str(tmp_path)), auth=Auth("", required=False))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/v1", timeout=60) as made:
        yield made


async def test_a_run_is_published_started_awaited_and_replayed(client: httpx.AsyncClient) -> None:
    """From a definition to a result, and once more from the start."""
    published = await client.post("/workflows", json=DOUBLE)
    assert published.status_code == 201, published.text
    started = await client.post("/runs", json={"workflow": "double", "input": {"n": 21}})
    assert (started.status_code, started.json()["status"]) == (202, "queued"), started.text
    run = (await client.get(started.headers["location"].removeprefix("/api/v1"), params={"wait": 20})).json()
    assert run["status"] == "completed", run
    assert run["output"] == {"twice": {"n": 42}}
    again = await client.post(f"/runs/{run['id']}/replay", json={"fromStep": 0, "edits": {"input": {"n": 1}}})
    assert again.status_code == 202, again.text
    replayed = (await client.get(f"/runs/{again.json()['id']}", params={"wait": 20})).json()
    assert (replayed["output"], replayed["replay_of"]) == ({"twice": {"n": 2}}, run["id"])


async def test_bad_requests_create_nothing(client: httpx.AsyncClient) -> None:
    """Unknown workflow, invalid definition, invalid input: refused with every problem, and no run exists."""
    await client.post("/workflows", json=DOUBLE)
    unknown = await client.post("/runs", json={"workflow": "duoble", "input": {"n": 1}})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "workflow.unknown")
    assert "double" in unknown.text
    bad = {"name": "x", "nodes": [{"id": "a", "kind": "nope"}], "edges": [{"from": "a", "to": "b"}]}
    invalid = await client.post("/runs", json={"definition": bad})
    assert (invalid.status_code, invalid.json()["code"]) == (422, "graph.invalid")
    assert len(invalid.json()["errors"]) >= 2
    misfit = await client.post("/runs", json={"workflow": "double", "input": {"n": "one"}})
    assert (misfit.status_code, misfit.json()["code"]) == (422, "input.invalid")
    assert (await client.get("/runs")).json() == {"items": [], "next_cursor": None}


async def test_an_idempotency_key_makes_one_run(client: httpx.AsyncClient) -> None:
    """The same body answers with the same run, also many at once; another body is refused."""
    await client.post("/workflows", json=DOUBLE)
    body, headers = {"workflow": "double", "input": {"n": 1}}, {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(client.post("/runs", json=body, headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    other = await client.post("/runs", json={"workflow": "double", "input": {"n": 2}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.mismatch")


async def test_what_does_not_exist_is_named(client: httpx.AsyncClient) -> None:
    """Every address of a run, ticket or artifact that is not there answers 404 with its own code."""
    for path, code in {
        "/runs/nope": "run.unknown",
        "/runs/nope/events": "run.unknown",
        "/runs/nope/state": "run.unknown",
        "/runs/nope/stream": "run.unknown",
        "/runs/nope/why": "run.unknown",
        "/runs/nope/audit": "run.unknown",
        "/tickets/nope": "ticket.unknown",
        "/artifacts/nope": "artifact.unknown",
        "/workflows/nope": "workflow.unknown",
    }.items():
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, code), path


async def _waiting_for_approval(client: httpx.AsyncClient, engine: Engine) -> tuple[str, str]:
    """Start a run that asks; return its id and its ticket's."""
    started = await client.post("/runs", json={"definition": APPROVAL})
    run_id = started.json()["id"]
    async with aclosing(cast("AsyncGenerator[PublicEvent]", engine.history.stream(run_id))) as events:
        async for event in events:
            if event.type == "ticket.opened":
                return run_id, event.data["ticket"]
    raise AssertionError("the run never asked")


async def test_a_person_decides_once(client: httpx.AsyncClient, engine: Engine) -> None:
    """An approval waits, is listed, decided, repeated without effect, and refused a second answer."""
    run_id, ticket = await _waiting_for_approval(client, engine)
    why = (await client.get(f"/runs/{run_id}/why")).json()
    assert why["waits"][0]["kind"] == "approval"
    listed = (await client.get("/approvals", params={"state": "open"})).json()
    assert [item["id"] for item in listed["items"]] == [ticket]
    body = {"decision": "approve", "reason": "fine"}
    first = await client.post(f"/approvals/{ticket}/decision", json=body)
    assert first.status_code == 200, first.text
    again = await client.post(f"/tickets/{ticket}/decision", json=body)
    assert again.json()["decision"] == "approve"
    other = await client.post(f"/tickets/{ticket}/decision", json={"decision": "reject", "reason": "no"})
    assert (other.status_code, other.json()["code"]) == (409, "ticket.decided")
    run = (await client.get(f"/runs/{run_id}", params={"wait": 20})).json()
    assert (run["status"], run["output"]) == ("completed", {"done": {"by": "local"}})


async def test_a_cancelled_run_takes_no_more(client: httpx.AsyncClient, engine: Engine) -> None:
    """Cancel answers 202, the run ends as cancelled, later commands are refused, then it can be deleted."""
    run_id, _ = await _waiting_for_approval(client, engine)
    taken = await client.post(f"/runs/{run_id}/cancel", json={"reason": "enough"}, headers={"Idempotency-Key": "c"})
    assert (taken.status_code, taken.json()["id"]) == (202, run_id)
    run = (await client.get(f"/runs/{run_id}", params={"wait": 20})).json()
    assert run["status"] == "cancelled"
    late = await client.post(f"/runs/{run_id}/signals/go", json=1)
    assert (late.status_code, late.json()["code"]) == (409, "run.terminal")
    assert (await client.delete(f"/runs/{run_id}")).json() == {"deleted": 1}
    assert (await client.get(f"/runs/{run_id}")).status_code == 404


async def test_every_read_of_a_run_answers(client: httpx.AsyncClient) -> None:
    """All views of one finished run can be read, and what is shown is what the document says."""
    await client.post("/workflows", json=DOUBLE)
    started = (await client.post("/runs", json={"workflow": "double", "input": {"n": 1}})).json()
    await client.get(f"/runs/{started['id']}", params={"wait": 20})
    base = f"/runs/{started['id']}"
    for path in (
        base, f"{base}/events", f"{base}/steps", f"{base}/state", f"{base}/graph", f"{base}/why", f"{base}/audit",
        f"{base}/usage", f"{base}/artifacts", f"{base}/diff?with={started['id']}", "/workflows", "/workflows/double",
        "/runs?status=completed", "/steps", "/tickets", "/approvals", "/dead-letters", "/usage", "/usage?group_by=day",
        "/usage/calls", "/usage/daily", "/usage/projects", "/workers",
        "/services", "/audit/verify", "/audit/export",
    ):  # fmt: skip
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.text)
    trail = (await client.get(f"{base}/audit")).json()
    assert trail["verified"] is True
    types = [event["type"] for event in (await client.get(f"{base}/events")).json()["items"]]
    assert (types[0], types[-1]) == ("run.created", "run.completed")


async def test_a_live_run_is_seen_on_every_stream(engine: Engine, tmp_path: Path) -> None:
    """Over a real server: its own stream, its socket and the stream of all runs tell the same story."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = Settings(port=0, no_auth=True, data_dir=str(tmp_path))
    serving = asyncio.ensure_future(serve(engine, settings, stop=stop, ready=ready.set_result, out=io.StringIO()))
    url = await ready
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20) as client, client.stream("GET", "/stream") as every:
        everything = every.aiter_lines()
        await anext(everything)
        run_id, ticket = await _waiting_for_approval(client, engine)
        async with connect(f"{url.replace('http', 'ws', 1)}/api/v1/runs/{run_id}/ws") as socket:
            assert json.loads(await socket.recv())["type"] == "subscribed"
            await client.post(f"/tickets/{ticket}/decision", json={"decision": "approve"})
            told = [json.loads(message) async for message in socket]
        text = (await client.get(f"/runs/{run_id}/stream")).text
        own = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert own == told
        assert own[-1]["type"] == "run.completed"
        half = len(own) // 2
        rest = (await client.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": own[half - 1]["id"]})).text
        assert [json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: ")] == own[half:]
        assert (await client.get(f"/runs/{run_id}/stream", params={"after": own[-1]["id"]})).status_code == 204
        seen: list[Any] = []
        async for line in everything:
            if line.startswith("data: "):
                seen.append(json.loads(line[6:]))
                if seen[-1]["type"] == "run.completed":
                    break
        assert seen == own
    stop.set()
    await asyncio.wait_for(serving, 10)
