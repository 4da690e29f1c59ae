"""The `http` node's request: guarded at every hop, bounded, and clear about what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tenuto.runtime.tools.addresses import AddressRefused
from tenuto.runtime.tools.http import HttpFailed, HttpPolicy, HttpRefused, HttpStatus, request

Answer = Callable[[str, str, dict[str, str], bytes], bytes]


class Server:
    """A server on loopback that answers with a function and remembers what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.hold = False
        self.tasks: list[Any] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def handle(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.asked.append((method, path, headers, body))
            writer.write(answer(method, path, headers, body))
            await writer.drain()
            if self.hold:
                await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def reply(status: int = 200, body: bytes = b"", kind: str = "text/plain", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@asynccontextmanager
async def serving(answer: Answer, *, hold: bool = False) -> AsyncIterator[Server]:
    """Serve on loopback; with `hold` connections stay open until the other side leaves."""
    server = Server()
    server.hold = hold
    listening = await asyncio.start_server(lambda r, w: server.handle(answer, r, w), "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server
        await asyncio.gather(*server.tasks, return_exceptions=True)


def policy(server: Server, *more: str, **options: Any) -> HttpPolicy:
    """Allow a name that stands for the server, and say so when asked for its address."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    options.setdefault("resolve", resolve)
    return HttpPolicy(allowed=frozenset({f"api.example:{server.port}", *more}), **options)


async def ask(server: Server, method: str = "GET", path: str = "/", *, rules: HttpPolicy | None = None, **config: Any) -> Any:
    config = {"url": f"http://api.example:{server.port}{path}", **config}
    return await request(method, config, rules or policy(server), "key-1")


async def test_the_answer_has_the_documented_shape():
    async with serving(lambda *_: reply(200, b'{"a": [1]}', "application/json", x_y="z", set_cookie="s=1")) as server:
        answer = await ask(server, path="/p", query={"q": "1 2"}, headers={"X-A": "b"})
    assert set(answer) == {"status", "status_code", "headers", "body", "duration_ms", "url", "method"}
    assert (answer["status"], answer["status_code"], answer["body"]) == ("success", 200, {"a": [1]})
    assert answer["headers"]["x-y"] == "z"
    assert "set-cookie" not in answer["headers"]
    method, path, headers, _ = server.asked[0]
    assert (method, path) in (("GET", "/p?q=1+2"), ("GET", "/p?q=1%202"))
    assert headers["host"] == f"api.example:{server.port}"
    assert headers["x-a"] == "b"
    assert "idempotency-key" not in headers


async def test_a_post_carries_its_body_and_key():
    async with serving(lambda *_: reply(201)) as server:
        await ask(server, "POST", body={"n": 1})
        await ask(server, "POST", body="text", headers={"Content-Type": "text/csv"})
    assert (server.asked[0][3], server.asked[0][2]["content-type"]) == (b'{"n":1}', "application/json")
    assert server.asked[0][2]["idempotency-key"] == "key-1"
    assert (server.asked[1][3], server.asked[1][2]["content-type"]) == (b"text", "text/csv")


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "http://169.254.169.254/latest", "//10.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/"])
async def test_a_redirect_to_a_private_address_is_refused(target: str):
    async with serving(lambda *_: reply(302, location=target.format(port=server.port))) as server:
        with pytest.raises(AddressRefused):
            await ask(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", "http://user:pw@api.example/"])
async def test_a_redirect_to_another_scheme_is_refused(target: str):
    async with serving(lambda *_: reply(302, location=target)) as server:
        with pytest.raises(HttpRefused):
            await ask(server)


async def test_redirects_end():
    async with serving(lambda *_: reply(302, location="/again")) as server:
        with pytest.raises(HttpRefused, match="redirects"):
            await ask(server)
    assert len(server.asked) == 6


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
async def test_a_redirect_of_a_post_follows_the_rules(status: int, method: str):
    async with serving(lambda _m, path, *_: reply(200, b"ok") if path == "/new" else reply(status, location="/new")) as server:
        answer = await ask(server, "POST", body="x", headers={"Authorization": "secret", "Cookie": "c"})
    second = server.asked[1]
    assert (second[0], second[3], answer["method"]) == (method, b"x" if method == "POST" else b"", method)
    assert answer["url"].endswith("/new")


async def test_credentials_do_not_follow_a_redirect_to_another_host():
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serving(lambda _m, path, *_: reply(200)) as other, serving(
        lambda *_: reply(302, location=f"http://other.example:{other.port}/")
    ) as server:
        rules = policy(server, f"other.example:{other.port}", resolve=resolve)
        await ask(server, rules=rules, headers={"Authorization": "secret", "Cookie": "c"})
    assert server.asked[0][2]["authorization"] == "secret"
    assert not {"authorization", "cookie"} & set(other.asked[0][2])


async def test_no_header_or_query_that_may_hold_a_key_follows_a_redirect_to_another_host():
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serving(lambda *_: reply(200)) as other, serving(
        lambda *_: reply(302, location=f"http://other.example:{other.port}/next")
    ) as server:
        rules = policy(server, f"other.example:{other.port}", resolve=resolve)
        await ask(server, rules=rules, headers={"X-Api-Key": "canary", "Accept": "text/plain"}, query={"key": "canary"})
    assert "canary" in str(server.asked)
    assert "canary" not in str(other.asked)
    assert other.asked[0][1] == "/next"
    assert other.asked[0][2]["accept"] == "text/plain"


async def test_an_answer_that_drips_for_ever_is_given_up_and_a_post_left_unknown():
    async with serving(lambda *_: reply(200, b"x").replace(b"content-length: 1", b"content-length: 9"), hold=True) as server:
        for method, unknown in (("GET", False), ("POST", True)):
            with pytest.raises(HttpFailed, match="no whole answer within") as caught:
                await ask(server, method=method, rules=policy(server, longest_s=0.2))
            assert bool(caught.value.details.get("unknown")) is unknown


async def test_a_name_that_changes_its_answer_is_called_at_the_address_that_was_checked():
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) > 1 else ["8.8.8.8"]

    async with serving(lambda *_: reply()) as server:
        rules = HttpPolicy(resolve=rebinding, timeout_s=0.05)
        with pytest.raises(HttpFailed):
            await request("GET", {"url": f"http://evil.example:{server.port}/"}, rules, "k")
        assert server.asked == []
        with pytest.raises(AddressRefused):
            await request("GET", {"url": f"http://evil.example:{server.port}/"}, rules, "k")
    assert asked == ["evil.example"] * 2


async def test_a_name_is_checked_again_at_every_hop():
    hosts: list[str] = []

    async with serving(lambda *_: reply(302, location=f"http://evil.example:{server.port}/")) as server:

        async def resolve(host: str, port: int) -> list[str]:
            hosts.append(host)
            return ["127.0.0.1"]

        with pytest.raises(AddressRefused, match=r"evil\.example"):
            await ask(server, rules=policy(server, resolve=resolve))
    assert hosts == ["api.example", "evil.example"]
    assert len(server.asked) == 1


async def test_the_nodes_own_list_narrows_what_may_be_called_also_after_a_redirect():
    async with serving(lambda *_: reply(302, location=f"http://other.example:{server.port}/")) as server:
        with pytest.raises(HttpRefused, match="only call"):
            await ask(server, allow=["third.example"])
        with pytest.raises(HttpRefused, match=r"other\.example"):
            await ask(server, rules=policy(server, "other.example"), allow=["API.example"])
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "http://", "http:///x", "http://a:b@api.example/", "http://x:99999/", "javascript:1", ""])
async def test_a_url_that_is_none_is_refused(url: str):
    with pytest.raises(HttpRefused):
        await request("GET", {"url": url}, HttpPolicy(), "k")


async def test_a_large_answer_is_cut_off():
    async with serving(lambda *_: reply(200, b"x" * 5000)) as server:
        with pytest.raises(HttpRefused, match="1,000 bytes"):
            await ask(server, rules=policy(server, max_bytes=1000))
        assert len((await ask(server, rules=policy(server, max_bytes=5000)))["body"]) == 5000


@pytest.mark.parametrize(("status", "error", "again"), [(500, HttpFailed, True), (503, HttpFailed, True), (429, HttpFailed, True), (404, HttpStatus, False), (400, HttpStatus, False), (302, HttpStatus, False)])
async def test_errors_that_may_pass_are_told_from_those_that_do_not(status: int, error: Any, again: bool):
    async with serving(lambda *_: reply(status)) as server:
        with pytest.raises(error) as caught:
            await ask(server)
    assert str(status) in caught.value.message
    assert caught.value.retryable is again
    assert not caught.value.details.get("unknown")


@pytest.mark.parametrize(("expected", "status", "fine"), [(404, 404, True), ([200, 404], 404, True), ("any", 500, True), (201, 200, False)])
async def test_an_expected_status_is_no_error(expected: Any, status: int, fine: bool):
    async with serving(lambda *_: reply(status)) as server:
        if fine:
            assert (await ask(server, expect_status=expected))["status_code"] == status
        else:
            with pytest.raises(HttpStatus):
                await ask(server, expect_status=expected)


@pytest.mark.parametrize(("method", "unknown"), [("POST", True), ("PATCH", True), ("GET", False), ("PUT", False), ("DELETE", False)])
async def test_a_connection_cut_after_sending_leaves_a_post_unknown(method: str, unknown: bool):
    async with serving(lambda *_: b"") as server:
        with pytest.raises(HttpFailed) as caught:
            await ask(server, method, body="x")
    assert bool(caught.value.details.get("unknown")) is unknown
    assert len(server.asked) == 1


async def test_a_server_that_cannot_be_reached_was_not_asked():
    async with serving(lambda *_: reply()) as server:
        pass
    with pytest.raises(HttpFailed, match="cannot connect") as caught:
        await ask(server, "POST", body="x")
    assert not caught.value.details.get("unknown")


async def test_a_body_that_is_not_json_is_text():
    async with serving(lambda *_: reply(200, b"{no", "application/json")) as server:
        assert (await ask(server))["body"] == "{no"


async def test_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with serving(lambda *_: reply(200, b"ok")) as server:
        assert (await ask(server))["body"] == "ok"
