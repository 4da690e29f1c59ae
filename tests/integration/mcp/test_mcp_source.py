"""An MCP server as a source of tools: listed, called, cut off, away, back, changed; over HTTP and stdio."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenuto.adapters.mcp import McpSource
from tenuto.adapters.mcp.transports import Place
from tenuto.ports.tools import ToolCut, ToolFailed, ToolOverran, ToolRefused, ToolUnavailable
from tests.integration.mcp.server import Ledger, serving

PLAIN = Path(__file__).with_name("plain_server.py")


class Watched:
    """A source with a way to wait for what becomes of it."""

    def __init__(self, source: McpSource) -> None:
        self.source = source
        self.looked = asyncio.Event()

    async def until(self, condition: str) -> None:
        while self.source.health.condition != condition:
            self.looked.clear()
            await self.looked.wait()

    async def until_offered(self, name: str) -> None:
        while name not in [tool.name for tool in self.source.offered or ()]:
            self.looked.clear()
            await self.looked.wait()


@asynccontextmanager
async def reaching(*, max_bytes: int = 100_000, check_s: float = 60, **place: Any) -> AsyncIterator[Watched]:
    place.setdefault("connect_s", 60)
    source = McpSource(
        "ours", Place(**place), check_s=check_s, max_bytes=max_bytes, now=lambda: int(time.time() * 1000),
        first_delay_s=0.02,
    )
    watched = Watched(source)
    source.start(watched.looked.set)
    try:
        await source.settled()
        yield watched
    finally:
        await source.close()


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/mcp"


async def test_tools_are_listed_and_called_and_the_key_goes_along():
    ledger = Ledger()
    async with serving(ledger) as port, reaching(url=url(port)) as ours:
        offered = {tool.name: tool for tool in ours.source.offered or ()}
        assert {"add", "pay", "keyed"} <= set(offered)
        assert offered["add"].reads_only
        assert not offered["pay"].reads_only
        assert offered["add"].schema["required"] == ["a", "b"]
        assert ours.source.health.condition == "online"
        assert await ours.source.call("add", {"a": 1, "b": 2}, key="k1") == 3
        assert await ours.source.call("pay", {"cents": 5}, key="k2") == {"paid": 5, "key": "k2"}
        assert ledger.lines == ["add 1 2", "pay 5 k2"]


async def test_failures_are_told_apart():
    async with serving(Ledger()) as port, reaching(url=url(port), max_bytes=1000) as ours:
        with pytest.raises(ToolFailed, match="no money"):
            await ours.source.call("fail", {"why": "no money"}, key="k")
        with pytest.raises((ToolRefused, ToolFailed), match="nonesuch"):
            await ours.source.call("nonesuch", {}, key="k")
        with pytest.raises(ToolOverran, match="max_bytes"):
            await ours.source.call("big", {"size": 2000}, key="k")
        assert await ours.source.call("big", {"size": 3}, key="k") == "xxx"


async def test_a_call_that_hangs_is_given_up_and_told_to_stop():
    ledger = Ledger()
    async with serving(ledger) as port, reaching(url=url(port), timeout_s=0.5) as ours:
        with pytest.raises(ToolCut, match="no answer within") as caught:
            await ours.source.call("hang", {}, key="k")
        assert caught.value.details["unknown"] is True
        await ledger.wait_for("hang was stopped")
        assert await ours.source.call("add", {"a": 1, "b": 1}, key="k") == 2


async def test_a_server_that_is_away_is_found_when_it_comes_and_its_tools_are_refused_meanwhile():
    async with serving(Ledger()) as port:
        kept = port
    async with reaching(url=url(kept)) as ours:
        assert ours.source.health.condition == "offline"
        assert "cannot connect" in ours.source.health.reason
        with pytest.raises(ToolUnavailable, match=r"was not called.*offline") as caught:
            await ours.source.call("add", {"a": 1, "b": 1}, key="k")
        assert caught.value.retryable
        async with serving(Ledger(), kept):
            await ours.until("online")
            assert await ours.source.call("add", {"a": 2, "b": 2}, key="k") == 4


async def test_a_restarted_server_serves_on_and_a_cut_call_is_not_known():
    ledger = Ledger()
    async with serving(ledger) as port:
        kept = port
    first = serving(ledger, kept)
    await first.__aenter__()
    async with reaching(url=url(kept)) as ours:
        hanging = asyncio.create_task(ours.source.call("hang", {}, key="k"))
        await ledger.wait_for("hang")
        await first.__aexit__(None, None, None)
        with pytest.raises(ToolCut, match="not known"):
            await hanging
        async with serving(ledger, kept):
            await ours.source.refresh()
            await ours.until("online")
            assert await ours.source.call("add", {"a": 2, "b": 3}, key="k") == 5


async def test_a_changed_listing_is_heard_of():
    async with serving(Ledger()) as port, reaching(url=url(port)) as ours:
        before = ours.source.offered
        await ours.source.call("grow", {"name": "newcomer"}, key="k")
        await ours.source.refresh()
        await ours.until_offered("newcomer")
        assert ours.source.offered is not before
        again = ours.source.offered
        await ours.source.refresh()
        assert ours.source.offered is again


async def test_a_redirect_to_another_host_is_not_followed():
    asked: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("elsewhere")
        writer.close()

    async def here(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("here")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.2:%d/mcp\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            % other.sockets[0].getsockname()[1]
        )
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(elsewhere, "127.0.0.2", 0)
    server = await asyncio.start_server(here, "127.0.0.1", 0)
    async with other, server, reaching(url=url(server.sockets[0].getsockname()[1])) as ours:
        assert ours.source.health.condition == "offline"
        assert "not followed" in ours.source.health.reason
        assert set(asked) == {"here"}


async def test_a_token_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    heads: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 401 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    place = {"url": url(server.sockets[0].getsockname()[1]), "bearer_env": "OURS_TOKEN"}
    async with server:
        async with reaching(**place) as ours:
            assert "OURS_TOKEN is not set" in ours.source.health.reason
            assert heads == []
        monkeypatch.setenv("OURS_TOKEN", "canary-4711")
        async with reaching(**place) as ours:
            assert "authorization: bearer canary-4711" in heads[0].lower()
            assert "the token is refused" in ours.source.health.reason
            assert "canary-4711" not in ours.source.health.reason


async def test_a_program_that_cannot_start_or_dies_says_why():
    async with reaching(command=("/no/such/program",)) as ours:
        assert ours.source.health.reason == "there is no program '/no/such/program'"
    async with reaching(command=(sys.executable, "-c", "import sys; sys.exit('no licence')")) as ours:
        assert ours.source.health.condition == "offline"
        assert "no licence" in ours.source.health.reason


async def test_a_process_that_dies_in_a_call_is_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OURS_TOKEN", "of ours")
    monkeypatch.setenv("TENUTO_TEST_CANARY", "seen")
    ledger = tmp_path / "ledger"
    command = (sys.executable, str(PLAIN), str(ledger))
    async with reaching(command=command, env_from={"OURS_TOKEN": "OURS_TOKEN"}) as ours:
        assert await ours.source.call("secret", {}, key="k") == "of ours unseen"
        with pytest.raises(ToolCut, match="not known"):
            await ours.source.call("die", {}, key="k")
        await ours.until("offline")
        await ours.until("online")
        assert await ours.source.call("add", {"a": 1, "b": 2}, key="k") == 3
    assert [line.split()[0] for line in ledger.read_text().splitlines()] == ["start", "secret", "die", "start", "add"]
