"""Connections are shared between requests, and neither certificates nor cookies of one host speak for another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenuto.runtime.tools import connections
from tenuto.runtime.tools.http import HttpFailed, HttpPolicy, open_connections, request

HOSTS = ("a.example", "b.example")


class Kept:
    """A server that keeps connections open; asked for `/to/HOST` it sends there."""

    def __init__(self) -> None:
        self.port = 0
        self.scheme = "http"
        self.connections = 0
        self.cookies: list[tuple[str, str]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = lines[0].split(" ")[1]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
                self.cookies.append((headers["host"].partition(":")[0], headers.get("cookie", "")))
                head = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nset-cookie: s=1; Path=/\r\n"
                if path.startswith("/to/"):
                    head = head.replace("200 OK", "302 Found") + f"location: {self.url(path.removeprefix('/to/'))}\r\n"
                writer.write(f"{head}\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def url(self, host: str, path: str = "/") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def policy(self) -> HttpPolicy:
        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        return HttpPolicy(allowed=frozenset(f"{host}:{self.port}" for host in HOSTS), resolve=resolve)


@asynccontextmanager
async def keeping(context: ssl.SSLContext | None = None) -> AsyncIterator[Kept]:
    kept, tasks = Kept(), set[asyncio.Task[None]]()
    if context is not None:
        kept.scheme = "https"

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(kept.handle(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def certificate(place: Path, host: str) -> Path:
    """Write a certificate of a host that speaks for itself, with its key, and return the file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = place / f"{host}.pem"
    file.write_bytes(made.public_bytes(pem) + private)
    return file


async def ask(kept: Kept, host: str, path: str = "/", **options: Any) -> dict[str, Any]:
    return await request("GET", {"url": kept.url(host, path)}, kept.policy(), "key-1", **options)


async def test_a_certificate_speaks_for_its_own_host_only_also_on_a_shared_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both names lead to one address; a connection that was made for one of them is not used for the other."""
    file = certificate(tmp_path, "a.example")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(file)
    monkeypatch.setattr(connections, "_trust", lambda: ssl.create_default_context(cafile=str(file)))
    async with keeping(serving) as kept, open_connections() as shared:
        for _ in range(2):
            assert (await ask(kept, "a.example", connections=shared))["status_code"] == 200
        with pytest.raises(HttpFailed, match="certificate verify failed"):
            await ask(kept, "b.example", connections=shared)
        with pytest.raises(HttpFailed, match="certificate verify failed"):
            await ask(kept, "a.example", "/to/b.example")
        assert [host for host, _ in kept.cookies] == ["a.example"] * 3, "nothing was sent to the other"


async def test_requests_share_connections_and_no_cookies() -> None:
    """Each is what it would be alone, but for the connection."""
    async with keeping() as kept, open_connections() as shared:
        for host in ("a.example", "a.example", "b.example"):
            await ask(kept, host, connections=shared)
        assert kept.connections == 2, "one for each host"
        assert kept.cookies == [("a.example", ""), ("a.example", ""), ("b.example", "")]


async def test_cookies_follow_a_redirect_to_the_same_host_only() -> None:
    async with keeping() as kept:
        await ask(kept, "a.example", "/to/a.example")
        await ask(kept, "a.example", "/to/b.example")
    assert kept.cookies == [("a.example", ""), ("a.example", "s=1"), ("a.example", ""), ("b.example", "")]
