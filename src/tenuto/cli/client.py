"""The API as functions: JSON in, JSON out, refusals as `ApiError`."""

from __future__ import annotations

import os

from tenuto import __version__
from tenuto.cli import wire
from tenuto.cli.errors import ApiError, CliError, Unreachable
from tenuto.cli.home import START_HINT, Target, data_dir
from tenuto.cli.values import is_list, is_object, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API = "/api/v1"
TIMEOUT_S = 60.0
RESENDS = 2
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:@,")


def quote(text: object) -> str:
    """Make any text safe as one segment of a path or one value of a query."""
    return "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in str(text).encode())


def path_of(*parts: object) -> str:
    """Join segments to a path below the API's root, each quoted."""
    return "/" + "/".join(quote(part) for part in parts)


class Client:
    """One server, called with one token."""

    def __init__(self, target: Target) -> None:
        """Check the address; nothing is sent yet."""
        self.target = target
        self._address = wire.Address(target.url)

    def get(self, path: str, query: dict[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Return what a resource reads."""
        return self.call("GET", path, query=query, timeout_s=timeout_s)

    def post(self, path: str, body: Any = None, *, key: str | None = None, kind: str = "") -> Any:
        """Send a command; one with a key is sent again when its answer was lost, which creates nothing twice.

        Args:
            body: JSON value, or bytes of the content type `kind`.
        """
        for resends_left in range(RESENDS if key else 0, -1, -1):
            try:
                return self.call("POST", path, body, key=key, kind=kind)
            except Unreachable as error:
                if not error.sent or not resends_left:
                    raise
        raise AssertionError("the last try returns or raises")

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        key: str | None = None,
        kind: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Make one request and return its JSON, or `None` when the answer has no body.

        Raises:
            ApiError: The server refused.
            Unreachable: No complete answer came.
        """
        headers = [f"Idempotency-Key: {key}"] if key else []
        payload = b""
        if body is not None:
            payload = body if isinstance(body, bytes) else _dumps(body)
            headers.append(f"Content-Type: {kind or 'application/json'}")
        response = self.open(method, path, query=query, headers=headers, body=payload, timeout_s=timeout_s)
        raw = response.read()
        if not raw:
            return None
        try:
            return loads(raw)
        except ValueError:
            raise Unreachable(
                f"The answer from {self.target.url} is not JSON; is this a Tenuto server?", sent=True
            ) from None

    def open(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        headers: list[str] | None = None,
        body: bytes | wire.File = b"",
        timeout_s: float = TIMEOUT_S,
    ) -> wire.Response:
        """Make one request and return the answer with its body unread; the caller closes it.

        Raises:
            ApiError: The server refused.
            Unreachable: No answer came.
        """
        pairs = [(name, value) for name, value in (query or {}).items() if value not in (None, "", [])]
        tail = "&".join(f"{quote(name)}={quote(one)}" for name, value in pairs for one in _each(value))
        target = f"{self._address.prefix}{API}{path}" + (f"?{tail}" if tail else "")
        head = [f"{method} {target} HTTP/1.1", f"User-Agent: tenuto-cli/{__version__}", *(headers or [])]
        if not any(line.startswith("Accept:") for line in head):
            head.append("Accept: application/json, application/problem+json")
        if self.target.token:
            head.append(f"Authorization: Bearer {self.target.token}")
        try:
            response = wire.exchange(self._address, head, body, timeout_s)
        except Unreachable as error:
            error.hint = error.hint or ("" if error.sent else START_HINT)
            raise
        if response.status >= 300:
            raise self._refusal(response)
        return response

    def _refusal(self, response: wire.Response) -> CliError:
        status = response.status
        if status < 400:
            place = response.headers.get("location", "elsewhere")
            response.close()
            return ApiError(
                status,
                {"title": f"The server sends the caller to {place}"},
                hint="Give that host as --api-url.",
            )
        raw = response.read()
        try:
            parsed: Any = loads(raw)
        except ValueError:
            parsed = None
        problem: dict[str, Any] = parsed if is_object(parsed) else {"title": f"The server answered {status}"}
        return ApiError(status, problem, hint=self._hint(status))

    def _hint(self, status: int) -> str:
        if status == 401 and self.target.token:
            return "The token is not this server's. Give the right one with --token or TENUTO_TOKEN."
        if status == 401:
            kept = os.path.join(data_dir(), "token")
            return f"No token was found. Give one with --token or TENUTO_TOKEN (a local server keeps its in {kept})."
        if status in (502, 503, 504):
            return "See what is wrong:  tenuto doctor"
        return ""


def _dumps(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


def _each(value: Any) -> list[Any]:
    if is_list(value):
        return value
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value]
