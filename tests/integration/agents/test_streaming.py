"""A model's answer as it comes: over HTTP from the provider, over SSE to whoever watches, and never in the journal."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tenuto import App, Retry
from tenuto.api.server import serve
from tenuto.ports.providers import Provider, Providers
from tenuto.settings import Settings
from tenuto.testing.servers import Answer, OpenAiServer
from tenuto.testing.servers.http import Exchange
from tenuto.wiring import running

TOKEN = "a-token-for-tests-only-0123456789"
TEXT = "The answer is 42."


class Slow(OpenAiServer):
    """Sends so many events of a stream, and the rest when told to."""

    def __init__(self, *script: Answer, first: int) -> None:
        super().__init__(script)
        self.gate = asyncio.Event()
        self._first = first

    async def exchange(self, exchange: Exchange) -> None:
        send, sent = exchange.send, 0

        async def slowly(event: bytes) -> None:
            nonlocal sent
            if sent == self._first:
                await self.gate.wait()
            sent += 1
            await send(event)

        exchange.send = slowly  # type: ignore[method-assign]
        await super().exchange(exchange)


class Watched:
    """A run whose agent begins when somebody watches, and what the watcher has seen."""

    def __init__(self, run: str, client: httpx.AsyncClient, lines: AsyncIterator[str]) -> None:
        self.run, self.client, self.seen = run, client, list[dict[str, str]]()
        self._lines = lines

    async def until(self, name: str) -> list[dict[str, str]]:
        """Read on until an event of this name, and return all that were read so far."""
        event: dict[str, str] = {}
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line and not line.startswith(":"):
                    field, _, value = line.partition(": ")
                    event[field] = value
                elif event:
                    self.seen.append(event)
                    if event["event"] == name:
                        return self.seen
                    event = {}
        raise AssertionError(f"the stream ended without {name}: {self.seen}")

    def names(self) -> list[str]:
        return [event["event"] for event in self.seen]

    def data(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(event["data"])["data"] for event in self.seen if event["event"] == name]

    def text(self) -> str:
        return "".join(data["text"] for data in self.data("call.delta"))

    async def journal(self) -> str:
        return (await self.client.get(f"/runs/{self.run}/events", params={"limit": 500})).text


@asynccontextmanager
async def watched(server: OpenAiServer, folder: Path) -> AsyncIterator[Watched]:
    app, gate = App("t"), asyncio.Event()

    @app.step
    async def begin() -> str:
        await gate.wait()
        return "go"

    quick = Retry(backoff_s=0.001, jitter=0)
    app.workflow("w").step(begin, id="begin").agent("a", model="mine:m", prompt="Say it.", retry=quick, after="begin")
    mine = Provider(name="mine", base_urls=(server.base_url,), local=True)
    async with running("memory:", app.catalog(), providers=Providers(providers={"mine": mine})) as runtime:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stop, settings = asyncio.Event(), Settings(port=0, token=TOKEN, data_dir=str(folder))
        serving = asyncio.ensure_future(serve(runtime.engine, settings, stop=stop, ready=ready.set_result, out=io.StringIO()))
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        try:
            base = f"{await ready}/api/v1"
            async with httpx.AsyncClient(base_url=base, headers=bearer, timeout=20) as client:
                run = (await runtime.engine.runs.start("w")).id
                async with client.stream("GET", f"/runs/{run}/stream") as got:
                    found = Watched(run, client, got.aiter_lines())
                    await found.until("step.started")
                    gate.set()
                    yield found
        finally:
            stop.set()
            await serving


async def test_pieces_reach_who_watches_while_the_journal_waits_for_the_whole(tmp_path: Path) -> None:
    async with Slow(Answer(text=TEXT), first=3) as server, watched(server, tmp_path) as watcher:
        await watcher.until("call.delta")
        assert TEXT.startswith(watcher.text())
        assert "call.completed" not in await watcher.journal()
        server.gate.set()
        await watcher.until("run.completed")
        journal = await watcher.journal()
    assert server.asked[0].stream
    assert watcher.text() == TEXT
    pieces = [event for event in watcher.seen if event["event"] == "call.delta"]
    assert all("id" not in event for event in pieces)
    assert all(data["provisional"] and data["call"] == "r1/model" for data in watcher.data("call.delta"))
    names = watcher.names()
    assert names.index("call.started") < names.index("call.delta")
    assert len(names) - names[::-1].index("call.delta") <= names.index("call.completed")
    assert TEXT in journal
    assert "call.delta" not in journal


async def test_pieces_of_an_answer_that_broke_off_are_withdrawn_before_it_is_asked_again(tmp_path: Path) -> None:
    script = [Answer(text="WRONG and lost", cut_after=2), Answer(text=TEXT)]
    async with OpenAiServer(script) as server, watched(server, tmp_path) as watcher:
        await watcher.until("call.withdrawn")
        first = watcher.text()
        await watcher.until("run.completed")
        journal = await watcher.journal()
    assert first
    assert "WRONG and lost".startswith(first)
    assert watcher.data("call.withdrawn") == [{"attempt": 1, "provisional": True, "call": "r1/model"}]
    assert watcher.text() == first + TEXT
    assert watcher.names().index("call.withdrawn") < watcher.names().index("call.unknown")
    assert [asked.key for asked in server.asked] == [server.asked[0].key] * 2
    assert "WRONG" not in journal


async def test_pieces_of_an_attempt_that_is_stopped_are_withdrawn(tmp_path: Path) -> None:
    async with Slow(Answer(text=TEXT), first=3) as server, watched(server, tmp_path) as watcher:
        await watcher.until("call.delta")
        assert (await watcher.client.post(f"/runs/{watcher.run}/cancel", json={})).status_code == 202
        await watcher.until("run.cancelled")
    assert watcher.names().index("call.delta") < watcher.names().index("call.withdrawn")


async def test_nobody_watches_and_nothing_is_streamed() -> None:
    app = App("t")
    app.workflow("w").agent("a", model="mine:m", prompt="Say it.")
    async with OpenAiServer([Answer(text=TEXT)]) as server:
        mine = Provider(name="mine", base_urls=(server.base_url,), local=True)
        async with running("memory:", app.catalog(), providers=Providers(providers={"mine": mine})) as runtime:
            done = await runtime.engine.runs.execute("w")
    assert done.output["a"]["content"] == TEXT
    assert not server.asked[0].stream
