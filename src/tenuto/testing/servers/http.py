"""As much of HTTP/1.1 as a provider's API needs, on one loopback port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Self, cast

_LONGEST_HEAD = 65_536
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Exchange:
    """One request and the way to answer it."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes, out: asyncio.StreamWriter) -> None:
        """Hold what was read; header names are in lower case."""
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self._out = out

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        self._head(status, {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})})
        self._out.write(body)
        await self._out.drain()

    async def stream(self) -> None:
        """Begin a stream of events."""
        self._head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        await self._out.drain()

    async def send(self, event: bytes) -> None:
        """Send one piece of the stream at once."""
        self._out.write(b"%x\r\n%b\r\n" % (len(event), event))
        await self._out.drain()

    async def end(self) -> None:
        """End the stream as it should end."""
        self._out.write(b"0\r\n\r\n")
        await self._out.drain()

    def cut(self) -> None:
        """Break the connection; what was sent before still arrives."""
        self._out.close()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", *(f"{name}: {value}" for name, value in headers.items())]
        self._out.write(("\r\n".join(lines) + "\r\n\r\n").encode())


class HttpServer:
    """Listens on a loopback port while its block lasts; subclasses say what an exchange does."""

    def __init__(self, port: int = 0) -> None:
        """Prepare; nothing listens yet. Port 0 takes a free one."""
        self.port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def exchange(self, exchange: Exchange) -> None:
        """Answer one request."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Start to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_LONGEST_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, and break what is open."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = cast("socket.socket", writer.get_extra_info("socket"))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._open.add(writer)
        self._tasks.add(task)
        try:
            while (exchange := await _read(reader, writer)) is not None and not writer.is_closing():
                await self.exchange(exchange)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    if writer.is_closing():
        return None
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(method, path.partition("?")[0], headers, body, writer)
