"""A TCP proxy that cuts connections at the worst moment: before a statement arrives, or before its answer does."""

from __future__ import annotations

import asyncio
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Cut = Literal["nothing", "statement", "answer"]


class Proxy:
    """Stands between a store and its server.

    Attributes:
        url: The database's URL by way of the proxy.
        cut: Set once the armed cut has happened.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None and parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._parts = parts
        self.url = ""
        self.cut = asyncio.Event()
        self._armed: tuple[Cut, bytes] = ("nothing", b"")
        self._closed = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        login = self._parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.mend()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, what: Cut, marker: bytes, *, stay_closed: bool = False) -> None:
        """Cut the connection that next carries `marker` to the server.

        Args:
            what: `statement`: the bytes are thrown away; `answer`: the server's answer to them is.
            marker: Bytes to wait for, such as the body of a record.
            stay_closed: Let nobody connect until `mend`.
        """
        self.cut.clear()
        self._armed = (what, marker)
        if stay_closed:
            self._closed.set()

    def mend(self) -> None:
        """Let connections through again."""
        self._closed.clear()
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_connection(*self._target)
            doomed = asyncio.Event()
            pumps = [
                asyncio.create_task(self._upwards(reader, up_writer, doomed)),
                asyncio.create_task(self._downwards(up_reader, writer, doomed)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                for end in (writer, up_writer):
                    end.transport.abort()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _upwards(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            what, marker = self._armed
            if what != "nothing" and marker in data:
                self._armed = ("nothing", b"")
                if self._closed.is_set():
                    self._open.clear()
                if what == "statement":
                    self.cut.set()
                    return
                doomed.set()
            writer.write(data)
            await writer.drain()

    async def _downwards(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if doomed.is_set():
                self.cut.set()
                return
            writer.write(data)
            await writer.drain()
