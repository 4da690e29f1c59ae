"""The smallest HTTP/1.1 client that keeps its connection: the load generator must not be the bottleneck."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class HttpFailed(RuntimeError):
    """The server answered outside 2xx; the message holds its status line and body."""


class Connection:
    """One keep-alive connection to a loopback port; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str) -> None:
        self._reader, self._writer, self._headers = reader, writer, headers

    @classmethod
    async def open(cls, port: int, *, token: str | None = None) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        headers = f"host: 127.0.0.1:{port}\r\n" + (f"authorization: Bearer {token}\r\n" if token else "")
        return cls(reader, writer, headers)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return the decoded JSON answer.

        Raises:
            HttpFailed: The status is not 2xx.
        """
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "content-type: application/json\r\n" if sent else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}{kind}content-length: {len(sent)}\r\n\r\n"
        self._writer.write(head.encode() + sent)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        received = await self._body(answer.lower())
        if not answer.split(b" ", 2)[1].startswith(b"2"):
            status = answer.split(b"\r\n", 1)[0].decode()
            raise HttpFailed(f"{method} {path}: {status} {received[:400].decode(errors='replace')}")
        return json.loads(received or b"null")

    async def _body(self, head: bytes) -> bytes:
        if b"content-length:" in head:
            return await self._reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        if b"transfer-encoding: chunked" not in head:
            return b""
        parts: list[bytes] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readexactly(2)
        return b"".join(parts)

    def close(self) -> None:
        self._writer.close()
