"""Real receivers on loopback: an HTTP server that keeps what is posted, and an SMTP server that keeps mail."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Post:
    headers: dict[str, str]
    body: bytes


@dataclass
class Hook:
    """A receiver of webhooks; `answers` are given one after the other, then 204."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    hang: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            answer = self.answers.pop(0) if self.answers else 204
            async with self.came:
                self.posts.append(Post(headers, body))
                self.came.notify_all()
            if self.hang:
                await asyncio.Event().wait()
            if answer != "cut":
                more = "location: /elsewhere\r\n" if answer == 302 else ""
                writer.write(f"HTTP/1.1 {answer} X\r\ncontent-length: 0\r\n{more}connection: close\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def posted(self, n: int) -> list[Post]:
        """Return the first posts once there are so many."""
        async with asyncio.timeout(15), self.came:
            await self.came.wait_for(lambda: len(self.posts) >= n)
        return self.posts[:n]


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    found = Hook()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield found
    server.close()


@dataclass
class Letter:
    to: list[str]
    mail: EmailMessage


class Letters:
    """Handles and keeps what an SMTP server takes; refuses `nobody@`, and is busy as often as it is told."""

    def __init__(self) -> None:
        self.kept: list[Letter] = []
        self.busy = 0
        self.logins: list[tuple[str, str]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody@"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.busy:
            self.busy -= 1
            return "451 come back later"
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.kept.append(Letter(list(envelope.rcpt_tos), mail))
        return "250 taken"

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"swordfish")

    async def came(self, n: int) -> list[Letter]:
        async with asyncio.timeout(15):
            while len(self.kept) < n:  # the server lives on a thread that knows nothing of this loop
                await asyncio.sleep(0.02)
        return self.kept[:n]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[tuple[Letters, int]]:
    """An SMTP server that takes mail by STARTTLS and after a login only; its certificate is known by SSL_CERT_FILE."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    handler, port = Letters(), free_port()
    controller = Controller(
        handler, hostname="localhost", port=port, ready_timeout=15, tls_context=context, require_starttls=True,
        authenticator=handler.log_in, auth_required=True, auth_exclude_mechanism=("LOGIN",),
    )  # fmt: skip
    controller.start()
    yield handler, port
    controller.stop()
