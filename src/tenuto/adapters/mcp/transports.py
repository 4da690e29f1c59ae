"""How an MCP server is reached: a process over stdio, or an address over HTTP. Faults are told apart, none ends a session.

The SDK ends an HTTP session when one request cannot be sent, and does not say whether it was. Here such faults become
answers with codes of our own, so that a call that was never sent is told from one that was cut.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import msgspec
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tenuto.errors import InvalidSettings

log = logging.getLogger("tenuto.tools")

LONGEST_LINE = 300
NOT_SENT = -32810
CUT = -32811
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server is. Secrets are the names of environment variables, read when a connection is made.

    Attributes:
        command: Program and arguments; empty for a server at `url`.
        env_from: Variable of the server's process -> variable of this one.
        headers_from: Header -> variable with its value.
        bearer_env: Variable with a bearer token.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    cwd: str = ""
    env_from: Mapping[str, str] = field(default_factory=dict[str, str])
    bearer_env: str = ""
    headers_from: Mapping[str, str] = field(default_factory=dict[str, str])
    connect_s: float = 20.0
    timeout_s: float = 60.0


class LastLines(asyncio.Protocol):
    """What a server's process writes for people: to the log, and the last of it kept for messages."""

    def __init__(self, name: str) -> None:
        """Know nothing yet."""
        self._name = name
        self._rest = b""
        self.last = ""

    def data_received(self, data: bytes) -> None:
        """Take what was written."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LONGEST_LINE:]
        for line in lines:
            text = line.decode(errors="replace").strip()[:LONGEST_LINE]
            if text:
                self.last = text
                log.debug("MCP server %s: %s", self._name, text)


def transport(place: Place, ended: Callable[[], None], errors: LastLines) -> Any:
    """Return a transport for the SDK's client.

    Args:
        errors: Gets what the server's process writes to its standard error.
        ended: Called when the server's process closed its output: it is gone.

    Raises:
        InvalidSettings: A variable that holds a secret is not set.
    """
    if place.command:
        parameters = StdioServerParameters(
            command=place.command[0], args=list(place.command[1:]), cwd=place.cwd or None,
            env={name: _secret(variable) for name, variable in place.env_from.items()},
        )
        return _watched(parameters, ended, errors)
    headers = {name: _secret(variable) for name, variable in place.headers_from.items()}
    if place.bearer_env:
        headers["authorization"] = f"Bearer {_secret(place.bearer_env)}"
    return _http(place, headers)


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise InvalidSettings(f"the environment variable {variable} is not set; the server needs its value")
    return value


@asynccontextmanager
async def _watched(
    parameters: StdioServerParameters, ended: Callable[[], None], errors: LastLines
) -> AsyncGenerator[tuple[Any, Any]]:
    """Start a server's process and pass its messages on; say when there will be no more."""
    reading, writing = os.pipe()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: errors, os.fdopen(reading, "rb", 0))
    with closing(pipe), os.fdopen(writing, "w") as said:
        async with stdio_client(parameters, said) as streams, _passed_on(streams, ended) as passed:
            yield passed


@asynccontextmanager
async def _passed_on(streams: tuple[Any, Any], ended: Callable[[], None]) -> AsyncGenerator[tuple[Any, Any]]:
    read, write = streams
    send, receive = anyio.create_memory_object_stream[Any](0)

    async def pump() -> None:
        async with send:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                async for item in read:
                    await send.send(item)
        ended()

    async with anyio.create_task_group() as group:
        group.start_soon(pump)
        try:
            yield receive, write
        finally:
            group.cancel_scope.cancel()
            receive.close()


@asynccontextmanager
async def _http(place: Place, headers: dict[str, str]) -> AsyncGenerator[tuple[Any, Any]]:
    limits = httpx2.Timeout(place.timeout_s, connect=min(place.connect_s, place.timeout_s), read=None)
    async with (
        httpx2.AsyncClient(
            headers=headers, timeout=limits, transport=_Answering(), follow_redirects=False, trust_env=False
        ) as client,
        streamable_http_client(place.url, http_client=client) as streams,
    ):
        yield streams


class _Answering(httpx2.AsyncHTTPTransport):
    """Turns faults of the network into answers a session survives."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = await super().handle_async_request(request)
        except _NEVER_SENT as exc:
            return _fault(request, NOT_SENT, f"cannot connect to {_shown(request)}: {_said(exc)}")
        except httpx2.TransportError as exc:
            return _fault(request, CUT, f"the connection to {_shown(request)} was cut: {_said(exc)}")
        if request.method == "POST" and answer.status_code in (401, 403):
            await answer.aclose()
            return _fault(request, NOT_SENT, f"{_shown(request)} answered {answer.status_code}: the token is refused")
        if request.method == "POST" and answer.status_code >= 500 and not _is_json(answer):
            await answer.aclose()
            return _fault(request, CUT, f"{_shown(request)} answered {answer.status_code}")
        return answer


def _is_json(answer: httpx2.Response) -> bool:
    return answer.headers.get("content-type", "").lower().startswith("application/json")


def _fault(request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(
        503, headers={"content-type": "application/json"}, content=msgspec.json.encode(body), request=request
    )


def _shown(request: httpx2.Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


def _said(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
