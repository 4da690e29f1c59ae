"""A real server on loopback: streams that resume and end, sockets, stream tokens, a prompt stop, the note it leaves."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_engine import AT, TOKEN, ScriptedEngine  # type: ignore[import-not-found]
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tenuto.api.server import base_url, serve
from tenuto.domain.runs.public import PublicEvent
from tenuto.errors import InvalidSettings
from tenuto.settings import Settings

BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Running:
    """A server in this process."""

    def __init__(self, url: str, stop: asyncio.Event, task: asyncio.Task[None], out: io.StringIO) -> None:
        self.url, self.stop, self.task, self.out = url, stop, task, out
        self.ws = url.replace("http", "ws", 1)


async def _start(engine: Any, settings: Settings) -> Running:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[str] = loop.create_future()
    stop, out = asyncio.Event(), io.StringIO()
    task = asyncio.ensure_future(serve(engine, settings, stop=stop, ready=ready.set_result, out=out))
    await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED)
    return Running(ready.result(), stop, task, out)


@pytest.fixture
async def server(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[Running]:
    """A server on a free port over the scripted engine."""
    running = await _start(engine, Settings(port=0, token=TOKEN, data_dir=str(tmp_path)))
    yield running
    running.stop.set()
    await asyncio.wait_for(running.task, 10)


async def _events(lines: AsyncIterator[str], count: int) -> list[dict[str, str]]:
    """Read whole events, or all there are when the stream ends first."""
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    async for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value
        elif not line and "data" in event:
            found.append(event)
            event = {}
            if len(found) == count:
                break
    return found


def _last() -> PublicEvent:
    return PublicEvent(id="4.0", run="r1", type="run.completed", at=AT)


async def test_a_stream_gives_the_past_then_what_comes(server: Running, engine: Any) -> None:
    """Stored events first, then live ones, each with id, name and data; the end ends it."""
    url = f"{server.url}/api/v1/runs/r1/stream"
    async with httpx.AsyncClient(headers=BEARER) as client, client.stream("GET", url) as got:
        assert got.headers["content-type"].startswith("text/event-stream")
        lines = got.aiter_lines()
        first = await _events(lines, 3)
        assert [item["id"] for item in first] == ["1.0", "2.0", "3.0"]
        engine.history.more.put_nowait(_last())
        engine.history.more.put_nowait(None)
        rest = await _events(lines, 9)
        assert [(item["id"], item["event"]) for item in rest] == [("4.0", "run.completed")]
        assert json.loads(rest[0]["data"])["type"] == "run.completed"
    assert engine.history.closed


async def test_a_stream_resumes_after_the_last_event(server: Running, engine: Any) -> None:
    """`Last-Event-ID` and `after` give what follows; after the end of an ended run there is nothing, for good."""
    url = f"{server.url}/api/v1/runs/r1/stream"
    engine.history.more.put_nowait(None)
    async with httpx.AsyncClient(headers=BEARER) as client:
        async with client.stream("GET", url, headers={"Last-Event-ID": "1.0"}) as got:
            assert [item["id"] for item in await _events(got.aiter_lines(), 2)] == ["2.0", "3.0"]
        engine.runs.status = "completed"
        assert (await client.get(url, params={"after": "3.0"})).status_code == 204
        assert (await client.get(f"{server.url}/api/v1/runs/nope/stream")).status_code == 404


async def test_the_stream_of_all_runs_names_the_place_before_each_group(server: Running) -> None:
    """A group cut in the middle comes again, so nothing is lost."""
    async with httpx.AsyncClient(headers=BEARER) as client, client.stream("GET", f"{server.url}/api/v1/stream") as got:
        found = await _events(got.aiter_lines(), 3)
    assert [item["id"] for item in found] == ["1:4", "1:5", "1:6"]
    async with httpx.AsyncClient(headers=BEARER) as client:
        bad = await client.get(f"{server.url}/api/v1/stream", headers={"Last-Event-ID": "x"})
    assert bad.status_code == 422


async def test_a_quiet_stream_is_kept_alive(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment is sent while nothing happens."""
    monkeypatch.setattr("tenuto.api.routers.streams.KEEP_ALIVE_S", 0.01)
    running = await _start(engine, Settings(port=0, token=TOKEN, data_dir=str(tmp_path)))
    url = f"{running.url}/api/v1/runs/r1/stream"
    async with httpx.AsyncClient(headers=BEARER) as client, client.stream("GET", url) as got:
        async for line in got.aiter_lines():
            if line == ": keep-alive":
                break
    running.stop.set()
    await asyncio.wait_for(running.task, 10)


async def test_a_socket_says_subscribed_then_gives_the_events(server: Running, engine: Any) -> None:
    """The same events, and a normal close at the end; the references' address works too."""
    for path in ("/api/v1/runs/r1/ws", "/ws/r1"):
        engine.history.more.put_nowait(_last())
        engine.history.more.put_nowait(None)
        async with connect(server.ws + path, additional_headers=BEARER) as socket:
            messages = [json.loads(message) async for message in socket]
        assert messages[0] == {"type": "subscribed", "run": "r1"}
        assert [item["id"] for item in messages[1:]] == ["1.0", "2.0", "3.0", "4.0"]
        assert socket.close_code == 1000


async def test_sockets_are_guarded_like_requests(server: Running) -> None:
    """No token, a foreign page, an unknown run: the handshake is answered with the status."""
    cases: list[tuple[str, dict[str, str], int]] = [
        ("/api/v1/runs/r1/ws", {}, 401),
        ("/api/v1/runs/r1/ws", BEARER | {"Origin": "https://evil.example"}, 403),
        ("/api/v1/runs/nope/ws", BEARER, 404),
    ]
    for path, headers, status in cases:
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.ws + path, additional_headers=headers)
        assert caught.value.response.status_code == status


async def test_a_stream_token_opens_its_own_streams(server: Running, engine: Any) -> None:
    """It works for both kinds without a header, for its run only, and for nothing else."""
    base = f"{server.url}/api/v1"
    async with httpx.AsyncClient() as client:
        made = await client.post(f"{base}/runs/r1/stream-token", headers=BEARER)
        token = made.json()["token"]
        assert made.json()["expires_in_s"] == 60
        everything = (await client.post(f"{base}/stream-token", headers=BEARER)).json()["token"]
        engine.history.more.put_nowait(None)
        assert (await client.get(f"{base}/runs/r1/stream", params={"token": token})).status_code == 200
        assert (await client.get(f"{base}/stream", params={"token": everything})).status_code == 200
        assert (await client.get(f"{base}/runs/r2/stream", params={"token": token})).status_code == 403
        assert (await client.get(f"{base}/stream", params={"token": token})).status_code == 403
        assert (await client.get(f"{base}/runs/r1/stream", params={"token": "forged"})).status_code == 401
        assert (await client.get(f"{base}/runs/r1", params={"token": token})).status_code == 401
    engine.history.more.put_nowait(None)
    async with connect(f"{server.ws}/api/v1/runs/r1/ws?token={token}") as socket:
        assert json.loads(await socket.recv())["type"] == "subscribed"


async def test_stopping_ends_streams_at_once(engine: Any, tmp_path: Path) -> None:
    """Open streams do not hold the server up; sockets are told that it restarts."""
    running = await _start(engine, Settings(port=0, token=TOKEN, data_dir=str(tmp_path)))
    note = tmp_path / "server.json"
    assert json.loads(note.read_text())["url"] == running.url
    url = f"{running.url}/api/v1/runs/r1/stream"
    async with httpx.AsyncClient(headers=BEARER) as client, client.stream("GET", url) as got:
        lines = got.aiter_lines()
        await _events(lines, 3)
        async with connect(f"{running.ws}/api/v1/runs/r1/ws", additional_headers=BEARER) as socket:
            await socket.recv()
            running.stop.set()
            assert await asyncio.wait_for(_events(lines, 9), 5) == []
            with pytest.raises(ConnectionClosed):
                while True:
                    await asyncio.wait_for(socket.recv(), 5)
            assert socket.close_code == 1012
    await asyncio.wait_for(running.task, 5)
    assert not note.exists()


async def test_the_ready_line_signs_a_browser_in(server: Running) -> None:
    """What is printed is a link that works, once."""
    printed = server.out.getvalue()
    code = printed.partition("#code=")[2].split()[0]
    assert f"{server.url}/#code=" in printed
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/api/v1/session", json={"code": code})
        assert answer.status_code == 200
        assert (await client.get("/api/v1/session")).json()["by"] == "browser"


async def test_a_taken_port_is_a_clear_refusal(server: Running, engine: Any, tmp_path: Path) -> None:
    """The second server says what to do, and leaves the note of the first alone."""
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(InvalidSettings) as caught:
        await serve(engine, Settings(port=port, token=TOKEN, data_dir=str(tmp_path)), stop=asyncio.Event())
    assert "--port" in caught.value.problems[0].hint
    assert (tmp_path / "server.json").exists()


def test_the_printed_address_is_one_a_browser_opens() -> None:
    """Wildcards and IPv6 become something that can be opened here."""
    assert base_url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert base_url("::1", 2) == "http://[::1]:2"
