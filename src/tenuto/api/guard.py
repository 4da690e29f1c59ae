"""Stands before every request and WebSocket: host, origin, credentials, size, request id, security headers, log.

Plain ASGI, so streams pass untouched. Inside it no request exists that has not shown who it is.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from tenuto.api import errors
from tenuto.api.auth import ALL_RUNS, Auth
from tenuto.api.errors import Refused
from tenuto.api.names import SAFE, Names, cookie_name
from tenuto.api.rate import Rate
from tenuto.errors import Problem, TenutoError
from tenuto.logs import request_id_var
from tenuto.settings import Settings

log = logging.getLogger("tenuto.access")

PUBLIC = frozenset({"/healthz", "/readyz", "/", "/favicon.ico"})
SIGN_IN = "/api/v1/session"
ARTIFACTS = "/api/v1/artifacts"
BY_LINK = "/decide"
"""A link is its own credential: the page checks its signature before anything else, and shows nothing without."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RUN_STREAM = re.compile(r"(?:/api/v1/runs/([^/]+)/(?:stream|ws)|/ws/([^/]+))")
_ALL_STREAM = "/api/v1/stream"

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_EVERY_ANSWER = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
EXPOSED = "X-Request-Id, Location, Idempotent-Replayed, Retry-After"


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, auth: Auth, settings: Settings) -> None:
        """Keep what is allowed."""
        self._app = app
        self._auth = auth
        self._max_body = settings.max_body_bytes
        self._max_artifact = settings.artifacts.max_bytes
        self._names = Names(settings)
        self._rate = Rate(settings.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        given = connection.headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(12)
        scope["tenuto.request_id"] = request_id
        token = request_id_var.set(request_id)
        try:
            if scope["type"] == "http":
                await self._http(scope, connection, receive, send)
            else:
                await self._websocket(scope, connection, receive, send)
        finally:
            request_id_var.reset(token)

    # --- HTTP -------------------------------------------------------------------------------------------------
    async def _http(self, scope: Scope, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(scope, connection, message)
            await send(message)

        try:
            refusal = self._refusal(scope, connection)
            if refusal is not None:
                await refusal(scope, receive, send_marked)
            else:
                await self._app(scope, self._limited(connection, receive), send_marked)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except TenutoError as error:
            if status:
                raise
            await errors.response(error, connection)(scope, receive, send_marked)
        except Exception as error:  # noqa: BLE001 (the edge: whatever happens becomes a problem without internals)
            answer = errors.unforeseen(connection, error)
            if not status:
                await answer(scope, receive, send_marked)
        finally:
            took_ms = round((time.monotonic() - started) * 1000, 1)
            fields = {"method": scope["method"], "path": scope["path"], "status": status, "took_ms": took_ms}
            level = logging.DEBUG if scope["path"] in PUBLIC else logging.INFO
            extra = {"fields": fields, "told": True, "run": scope.get("path_params", {}).get("run_id")}
            log.log(level, "%s %s %s %s ms", scope["method"], scope["path"], status, took_ms, extra=extra)

    def _refusal(self, scope: Scope, connection: HTTPConnection) -> Response | None:
        """Return the answer to a request that goes no further."""
        try:
            self._names.check_host(connection.headers)
            self._names.check_origin(scope, connection.headers)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in connection.headers:
                return self._preflight(connection.headers)
            if scope["path"] not in PUBLIC:
                self._rate.take(_client(scope))
            self._check_length(scope, connection.headers)
            if not self._is_public(scope):
                self._authenticate(scope, connection)
        except Refused as refused:
            return errors.response(refused, connection)
        return None

    def _mark(self, scope: Scope, connection: HTTPConnection, message: Message) -> None:
        """Add to an answer's head what every answer has; what the operation said itself stands."""
        head: list[tuple[bytes, bytes]] = message["headers"]
        said = {name for name, _ in head}
        head.append((b"x-request-id", scope["tenuto.request_id"].encode()))
        head.extend(pair for pair in _EVERY_ANSWER if pair[0] not in said)
        if not self._names.origins:
            return
        headers = MutableHeaders(scope=message)
        headers.add_vary_header("Origin")
        origin = connection.headers.get("origin", "")
        if origin in self._names.origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = EXPOSED
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"

    def _preflight(self, headers: Headers) -> Response:
        allowed = {
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id",
            "Access-Control-Max-Age": "600",
        }
        return Response(status_code=204, headers=allowed if headers.get("origin") in self._names.origins else {})

    def _check_length(self, scope: Scope, headers: Headers) -> None:
        length, most = headers.get("content-length", "0"), self._most(scope)
        if not length.isdigit() or int(length) > most:
            raise _too_large(most)

    def _most(self, scope: Scope) -> int:
        """Return how long the body of a request may be."""
        return self._max_artifact if scope["path"] == ARTIFACTS and scope["method"] == "POST" else self._max_body

    def _limited(self, connection: HTTPConnection, receive: Receive) -> Receive:
        """Count the body while it is read, because its length may not have been told."""
        taken, most = 0, self._most(connection.scope)

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise _too_large(most)
            return message

        return counted

    # --- WebSocket --------------------------------------------------------------------------------------------
    async def _websocket(self, scope: Scope, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] in ("websocket.http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["X-Request-Id"] = scope["tenuto.request_id"]
            await send(message)

        try:
            self._names.check_host(connection.headers)
            self._names.check_origin(scope, connection.headers)
            self._rate.take(_client(scope))
            self._authenticate(scope, connection)
            await self._app(scope, receive, send_marked)
        except TenutoError as error:
            await self._deny(scope, receive, send_marked, errors.response(error, connection))
        except Exception as error:  # noqa: BLE001 (the edge, as above)
            await self._deny(scope, receive, send_marked, errors.unforeseen(connection, error))

    async def _deny(self, scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
        """Answer a handshake with an HTTP problem where the server can, else by refusing it."""
        if scope.get("tenuto.accepted"):
            await WebSocket(scope, receive, send).close(1011)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await WebSocket(scope, receive, send).send_denial_response(answer)
        else:
            await send({"type": "websocket.close", "code": 1008})

    # --- checks -----------------------------------------------------------------------------------------------
    def _is_public(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path == SIGN_IN:
            return scope["method"] in ("POST", "DELETE")
        if path == BY_LINK:
            return scope["method"] in ("GET", "HEAD", "POST")
        return path in PUBLIC or (path.startswith("/static/") and scope["method"] in SAFE)

    def _authenticate(self, scope: Scope, connection: HTTPConnection) -> None:
        """Find out who calls.

        Raises:
            Refused: 401 without a valid credential, 403 for a stream token that is bound elsewhere.
        """
        scope["tenuto.by"] = "local"
        if not self._auth.required:
            return
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme:
            if scheme.lower() == "bearer" and self._auth.is_bearer(given.strip()):
                scope["tenuto.by"] = "token"
                return
            raise _unauthenticated("the bearer token is not this server's", 'Bearer error="invalid_token"')
        if self._has_session(connection):
            scope["tenuto.by"] = "browser"
            return
        stream, token = _stream_of(scope["path"]), connection.query_params.get("token")
        if stream is not None and token is not None:
            self._auth.check_stream_token(token, stream)
            scope["tenuto.by"] = "stream"
            return
        raise _unauthenticated("a bearer token is required", "Bearer")

    def _has_session(self, connection: HTTPConnection) -> bool:
        jar = SimpleCookie()
        try:
            jar.load(connection.headers.get("cookie", ""))
        except CookieError:
            return False
        found = jar.get(cookie_name(connection.headers))
        return found is not None and self._auth.is_session(found.value)


def _stream_of(path: str) -> str | None:
    """Return the run whose stream a path is, `*` for the stream of all runs, `None` for other paths."""
    if path == _ALL_STREAM:
        return ALL_RUNS
    match = _RUN_STREAM.fullmatch(path)
    return (match[1] or match[2]) if match else None


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _too_large(limit: int) -> Refused:
    return Refused(413, "request.too_large", f"the body is larger than {limit:,} bytes", limit=limit)


def _unauthenticated(message: str, challenge: str) -> Refused:
    hint = "send it as 'Authorization: Bearer TOKEN'; a local server keeps it in its data directory, file 'token'"
    return Refused(
        401, "auth.missing" if challenge == "Bearer" else "auth.invalid", message,
        problems=[Problem("Authorization", message, hint=hint, code="auth.missing")],
        headers={"WWW-Authenticate": challenge},
    )  # fmt: skip


