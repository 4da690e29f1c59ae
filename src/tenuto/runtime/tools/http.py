"""The `http` node: one guarded request. Only public addresses, checked again after every redirect."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

import msgspec

from tenuto.errors import Permanent, StepError
from tenuto.runtime.tools.addresses import Resolve, safe_address, system_resolve
from tenuto.runtime.tools.call import Journaled
from tenuto.runtime.tools.tracing import traceparent

if TYPE_CHECKING:
    import httpx

    from tenuto.runtime.tools.connections import Connections

MAX_REDIRECTS = 5
SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent", "idempotency-key"})
PORTS = {"http": 80, "https": 443}


@dataclass(slots=True, frozen=True)
class HttpPolicy:
    """What outgoing requests may do.

    Attributes:
        allowed: Hosts (`host` or `host:port`) that may be called although they are not public.
        max_bytes: Longest answer read.
        timeout_s: For connecting, and between two pieces of an answer.
        longest_s: For a request with all its redirects, however steadily its answer drips.
    """

    allowed: frozenset[str] = frozenset()
    max_bytes: int = 10 * 1024 * 1024
    timeout_s: float = 30.0
    longest_s: float = 300.0
    resolve: Resolve = field(default=system_resolve)


class HttpRefused(Permanent):
    """The request breaks a rule and was not made."""

    code = "http.refused"


class HttpFailed(StepError):
    """The server could not be reached, or answered with an error that may pass."""

    code = "http.failed"


class HttpStatus(Permanent):
    """The server answered with a status the node does not expect."""

    code = "http.status"


async def run_http(
    ctx: Journaled, config: dict[str, Any], policy: HttpPolicy, *, effect: str | None = None, on_unknown: str = "",
    key: str | None = None, connections: Connections | None = None, timeout_s: float | None = None,
) -> dict[str, Any]:
    """Make a node's request once; its answer is recorded.

    Args:
        key: Identity of the call among those of its step.
        connections: Are used and left open; `None` makes some.
        timeout_s: For the request with all its redirects; `None` is what the policy says.
        effect: What a repeat does, as the author says; `None` goes by the method.
        on_unknown: What to do when it is not known whether an effect happened; empty asks a person.

    Returns:
        `{status, status_code, headers, body, duration_ms, url, method}`; a JSON body is parsed.
    """
    method = str(config.get("method", "GET")).upper()
    effect = effect or ("idempotent" if method in SAFE_TO_REPEAT else "effect")

    async def make(key: str) -> dict[str, Any]:
        return await request(method, config, policy, key, connections, timeout_s)

    return await ctx.perform("tool", "http", config, make, key=key, effect=effect, on_unknown=on_unknown or "ask")


async def request(
    method: str, config: dict[str, Any], policy: HttpPolicy, key: str, connections: Connections | None = None,
    timeout_s: float | None = None, redirects: int = MAX_REDIRECTS,
) -> dict[str, Any]:
    """Make one request, following redirects under the same rules.

    Raises:
        HttpRefused: The URL may not be called.
        HttpFailed: No answer, or a 429 or 5xx; trying again may help.
        HttpStatus: Another unexpected status.
    """
    from tenuto.runtime.tools.connections import open_client

    most = min(policy.longest_s, timeout_s or policy.longest_s)
    try:
        async with asyncio.timeout(most), open_client(policy.timeout_s, connections) as client:
            return await _request(method, config, policy, key, client, redirects)
    except TimeoutError:
        unknown = method not in SAFE_TO_REPEAT
        message = f"{method} {config['url']}: no whole answer within {most:g} s"
        raise HttpFailed(message, unknown=unknown) from None


def open_connections() -> Connections:
    """Return connections for several requests; whoever opens them closes them."""
    from tenuto.runtime.tools.connections import Connections

    return Connections()


async def status_of(url: str, policy: HttpPolicy) -> int:
    """Return the status a server answers a bare HEAD with: nothing of ours is sent, and no redirect is followed.

    Raises:
        HttpRefused: The URL may not be called.
        HttpFailed: No answer.
    """
    import httpx

    from tenuto.runtime.tools.connections import open_client

    pinned, host, extensions = await _pin(url, policy, None)
    async with open_client(policy.timeout_s) as client:
        try:
            answer = await _send(client, "HEAD", pinned, host, extensions, {}, None, None, policy)
        except httpx.ConnectError as exc:
            raise HttpFailed(f"it cannot be connected to: {exc}") from exc
        except httpx.HTTPError as exc:
            raise HttpFailed(f"it was connected to and gave no answer: {type(exc).__name__}") from exc
    return answer["status_code"]


async def _request(
    method: str, config: dict[str, Any], policy: HttpPolicy, key: str, client: httpx.AsyncClient, redirects: int
) -> dict[str, Any]:
    import httpx

    url, query = str(config["url"]), config.get("query") or None
    body, headers = _body(config)
    if method not in SAFE_TO_REPEAT:
        headers.setdefault("idempotency-key", key)
    if context := traceparent.get():
        headers.setdefault("traceparent", context)
    began = time.monotonic()
    for _ in range(redirects + 1):
        pinned, host, extensions = await _pin(url, policy, config.get("allow"))
        try:
            answer = await _send(client, method, pinned, host, extensions, headers, body, query, policy)
        except httpx.ConnectError as exc:
            raise HttpFailed(f"{method} {url}: cannot connect: {exc}") from exc
        except httpx.HTTPError as exc:
            unknown = method not in SAFE_TO_REPEAT
            raise HttpFailed(f"{method} {url}: {type(exc).__name__}: {exc}", unknown=unknown) from exc
        target = answer["headers"].get("location")
        if answer["status_code"] not in (301, 302, 303, 307, 308) or not target:
            break
        before, url, query = url, urljoin(url, target), None
        if answer["status_code"] == 303 or (answer["status_code"] in (301, 302) and method == "POST"):
            method, body = "GET", None
        if _origin(before) != _origin(url):
            headers = _without_credentials(headers)
            client.cookies.clear()  # they are kept by address, which the next host may share
    else:
        raise HttpRefused(f"more than {redirects} redirects, the last to {url}")
    answer["url"], answer["method"] = url, method
    answer["duration_ms"] = int((time.monotonic() - began) * 1000)
    _expect(answer, config.get("expect_status"))
    return answer


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _without_credentials(headers: dict[str, str]) -> dict[str, str]:
    """Return headers for somebody else's server: a key may be in any header whose meaning is not known."""
    return {k: v for k, v in headers.items() if k.lower() in HARMLESS}


def _body(config: dict[str, Any]) -> tuple[bytes | None, dict[str, str]]:
    headers = {str(k): str(v) for k, v in cast("dict[str, Any]", config.get("headers") or {}).items()}
    body = config.get("body")
    if body is None:
        return None, headers
    if isinstance(body, str):
        return body.encode(), headers
    if not any(name.lower() == "content-type" for name in headers):
        headers["content-type"] = "application/json"
    return msgspec.json.encode(body), headers


async def _pin(url: str, policy: HttpPolicy, only: list[str] | None) -> tuple[str, str, dict[str, Any]]:
    """Return the URL with the host's checked address in it, the host header, and the name for TLS."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise HttpRefused(f"{url!r}: only http and https URLs may be called")
    if parts.username or parts.password:
        raise HttpRefused("credentials do not belong in a URL; use a header")
    host = parts.hostname
    if not host:
        raise HttpRefused(f"{url!r} names no host")
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError as exc:
        raise HttpRefused(f"{url!r}: {exc}") from exc
    if only and host.lower() not in {item.lower() for item in only}:
        raise HttpRefused(f"the node may only call {', '.join(only)}; not {host!r}")
    address = await safe_address(host, port, policy.allowed, policy.resolve)
    literal = f"[{address}]" if ":" in address else address
    pinned = parts._replace(netloc=f"{literal}:{port}", fragment="").geturl()
    named = host if port == PORTS[parts.scheme] else f"{host}:{port}"
    return pinned, named, {"sni_hostname": host} if parts.scheme == "https" else {}


async def _send(
    client: httpx.AsyncClient, method: str, url: str, host: str, extensions: dict[str, Any], headers: dict[str, str],
    body: bytes | None, query: Any, policy: HttpPolicy,
) -> dict[str, Any]:
    built = client.build_request(
        method, url, headers={**headers, "host": host}, content=body, params=query, extensions=extensions
    )
    answer = await client.send(built, stream=True)
    try:
        content = bytearray()
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > policy.max_bytes:
                raise HttpRefused(f"the answer is over {policy.max_bytes:,} bytes")
            await asyncio.sleep(0)
    finally:
        await answer.aclose()
    return {
        "status": "success" if answer.is_success else "error",
        "status_code": answer.status_code,
        "headers": {k.lower(): v for k, v in answer.headers.items() if k.lower() != "set-cookie"},
        "body": _parsed(bytes(content), answer.headers.get("content-type", "")),
    }


def _parsed(content: bytes, kind: str) -> Any:
    if "json" in kind:
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            pass
    return content.decode("utf-8", "replace")


def _expect(answer: dict[str, Any], expected: Any) -> None:
    code = answer["status_code"]
    if expected == "any":
        return
    wanted = [expected] if isinstance(expected, int) else expected
    if (code in wanted) if wanted else 200 <= code < 300:
        return
    message = f"{answer['method']} {answer['url']} answered {code}"
    if code == 429 or code >= 500:
        raise HttpFailed(message, status_code=code)
    raise HttpStatus(message, status_code=code)
