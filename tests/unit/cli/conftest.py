"""A scripted HTTP server on loopback and a way to call the command line in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tenuto.cli.main import main


@dataclass
class Sent:
    """A request as the server saw it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer; `cut` ends the connection before the body's proper end."""

    body: Any = None
    status: int = 200
    events: list[dict[str, Any]] | None = None
    cut: bool = False
    headers: dict[str, str] = field(default_factory=dict[str, str])


class ScriptedServer:
    """Answers each route with its replies in order; the last one is repeated."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = False
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def on(self, method: str, path: str, *replies: Any) -> None:
        """Script a route below `/api/v1`; a reply that is not a `Reply` is a JSON body."""
        script = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        self._replies[method, f"/api/v1{path}"] = script

    def take(self, sent: Sent) -> Reply:
        """Note a request and return what to answer."""
        self.sent.append(sent)
        script = self._replies.get((sent.method, sent.path))
        if not script:
            return Reply({"title": f"no script for {sent.method} {sent.path}", "status": 404}, 404)
        return script.pop(0) if len(script) > 1 else script[0]

    def close(self) -> None:
        """Stop and wait for every connection to end."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.take(Sent(self.command, url.path, parse_qs(url.query), headers, body))
            self.close_connection = True
            if reply.cut and reply.events is None:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.events is None:
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.chunk(": hello\n\n")
            for event in reply.events:
                self.chunk(f"id: {event['id']}\nevent: {event['type']}\n")
                self.chunk(f"data: {json.dumps(event)}\n\n")
            if not reply.cut:
                self.wfile.write(b"0\r\n\r\n")

        def chunk(self, text: str) -> None:
            self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server; every connection has ended when the test has."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Cli:
    """The command line, pointed at the scripted server unless `bare=True`; it never waits."""
    for name in ("TENUTO_API_URL", "TENUTO_TOKEN", "TENUTO_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)

    def call(*argv: str, bare: bool = False) -> Outcome:
        capsys.readouterr()
        code = main([*argv] if bare else [*argv, "--api-url", server.url])
        told = capsys.readouterr()
        return Outcome(code, told.out, told.err)

    return call


def event(seq: int, kind: str, step: str = "", **data: Any) -> dict[str, Any]:
    """A public event as the API writes it."""
    node = step.partition("~")[0]
    at = f"2026-01-02T03:04:{seq:02d}Z"
    return {"id": f"{seq}.0", "run": "r1", "type": kind, "at": at, "step": step, "node": node, "data": data}


@pytest.fixture(name="event")
def event_fixture() -> Callable[..., dict[str, Any]]:
    """How to make a public event."""
    return event


@pytest.fixture(name="reply")
def reply_fixture() -> type[Reply]:
    """How to script an answer."""
    return Reply
