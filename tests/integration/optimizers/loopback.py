"""An API on loopback that keeps connections open, remembers what it was asked, and can be told to fail or to hold back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import msgspec


class Api:
    """Answers `{"path", "method", "n", "body"}`.

    Attributes:
        asked: Every request as `METHOD path`, in the order of arrival.
        failing: How many times requests are answered with 503, by the first part of their path.
        held: Paths whose answers wait for `go`.
        connections: How many were made.
        most: Most requests under way at once.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.headers: dict[str, list[dict[str, str]]] = {}
        self.failing: Counter[str] = Counter()
        self.status: dict[str, int] = {}
        self.held: set[str] = set()
        self.go = asyncio.Event()
        self.reached = asyncio.Event()
        self.connections = 0
        self.under_way = 0
        self.most = 0
        self.together: asyncio.Barrier | None = None

    def count(self) -> Counter[str]:
        """Return how often each request was made."""
        return Counter(self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = lines[0].split(" ")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer = await self.answer(method, path, headers, body)
                head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\ncontent-type: application/json\r\n\r\n"
                writer.write(head.encode() + answer)
                await writer.drain()

    async def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Return status and body."""
        self.asked.append(f"{method} {path}")
        self.headers.setdefault(f"{method} {path}", []).append(headers)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if path in self.held:
                self.reached.set()
                await self.go.wait()
            if self.together is not None:
                await self.together.wait()
        finally:
            self.under_way -= 1
        name = "/" + path.split("/")[1].partition("?")[0]
        if self.failing[name] > 0:
            self.failing[name] -= 1
            return 503, b'{"error": "busy"}'
        said: dict[str, Any] = {"path": path, "method": method, "n": len(path), "body": body.decode()}
        return self.status.get(path, 200), msgspec.json.encode(said)


@asynccontextmanager
async def api() -> AsyncIterator[Api]:
    """Serve on loopback."""
    made, tasks, writers = Api(), set[asyncio.Task[None]](), list[asyncio.StreamWriter]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.ensure_future(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
