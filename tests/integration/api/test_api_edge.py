"""The edge: who may call, what is refused, and the one shape of every refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tenuto.api import errors
from tenuto.api.auth import Auth
from tenuto.api.errors import STATUS, document, status_of
from tenuto.errors import TenutoError
from tenuto.runtime.services.requests import Replay, StartRun

RUNS = "/api/v1/runs"


def _problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert isinstance(body["errors"], list)
    return body


# --- who may call -----------------------------------------------------------------------------------------------
async def test_without_a_token_nothing_but_probes_and_the_page_is_open(anyone: httpx.AsyncClient) -> None:
    """Every other address asks for the token, unknown ones and the description too."""
    for path in ("/healthz", "/readyz", "/", "/static/page.js", "/favicon.ico"):
        assert (await anyone.get(path)).status_code == 200
    for path in (RUNS, "/openapi.json", "/docs", "/nowhere", "/runs"):
        answer = await anyone.get(path)
        _problem(answer, 401, "auth.missing")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_wrong_token_is_not_made_good_by_a_cookie(app: FastAPI, anyone: httpx.AsyncClient) -> None:
    """What the header says counts."""
    anyone.cookies.set("tenuto_session_8321", app.state.auth.new_session())
    assert (await anyone.get(RUNS)).status_code == 200
    _problem(await anyone.get(RUNS, headers={"Authorization": "Bearer nonsense"}), 401, "auth.invalid")


async def test_a_printed_code_becomes_a_cookie_once(app: FastAPI, anyone: httpx.AsyncClient) -> None:
    """The cookie is out of reach for scripts and other sites, and the code is spent."""
    code = app.state.auth.new_code()
    answer = await anyone.post("/api/v1/session", json={"code": code})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert (await anyone.get("/api/v1/session")).json()["by"] == "browser"
    anyone.cookies.clear()
    _problem(await anyone.post("/api/v1/session", json={"code": code}), 401, "auth.code")


async def test_a_link_can_be_made_again(client: httpx.AsyncClient) -> None:
    """Who has the token gets a new link."""
    made = (await client.post("/api/v1/session/link")).json()
    assert made["url"] == f"http://127.0.0.1:8321/#code={made['code']}"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "10.0.0.1", "", "127.0.0.1.evil.example"])
async def test_other_names_are_refused(client: httpx.AsyncClient, host: str) -> None:
    """A page that pointed its own name at this address gets nothing, not even the probe."""
    _problem(await client.get("/healthz", headers={"Host": host}), 421, "request.host")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999"])
async def test_other_origins_are_refused(client: httpx.AsyncClient, origin: str) -> None:
    """Pages of other sites cannot call, even on this machine."""
    answer = await client.get(RUNS, headers={"Origin": origin})
    _problem(answer, 403, "auth.origin")
    assert "access-control-allow-origin" not in answer.headers


async def test_requests_a_browser_marks_as_foreign_are_refused(client: httpx.AsyncClient) -> None:
    """A cross-site request without an Origin is known by its fetch metadata; following a link is no call."""
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    _problem(await client.get(RUNS, headers=foreign), 403, "auth.origin")
    assert (await client.get("/", headers=foreign | {"Sec-Fetch-Mode": "navigate"})).status_code == 200


async def test_listed_origins_may_call(client: httpx.AsyncClient) -> None:
    """CORS answers name the listed origin only."""
    headers = {"Origin": "https://ok.example"}
    answer = await client.get(RUNS, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://ok.example"
    del client.headers["Authorization"]
    flight = await client.options(RUNS, headers=headers | {"Access-Control-Request-Method": "POST"})
    assert flight.status_code == 204
    assert "Idempotency-Key" in flight.headers["access-control-allow-headers"]


async def test_every_answer_carries_its_id_and_safe_headers(client: httpx.AsyncClient) -> None:
    """A good id is echoed, a bad one replaced; headers forbid scripts from elsewhere."""
    answer = await client.get("/", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.get("/", headers={"X-Request-Id": "a b\tc"})).headers["x-request-id"] != "a b\tc"


# --- refusals ---------------------------------------------------------------------------------------------------
async def test_framework_refusals_have_the_same_shape(client: httpx.AsyncClient) -> None:
    """Unknown address, method, parameter, media type, answer type and body are all problems."""
    body = _problem(await client.get("/api/v1/rnus"), 404, "route.unknown")
    assert "/api/v1/runs" in body["errors"][0]["hint"]
    answer = await client.delete(RUNS)
    _problem(answer, 405, "request.method")
    assert "GET" in answer.headers["allow"]
    body = _problem(await client.get(RUNS, params={"stauts": "failed"}), 422, "request.invalid")
    assert "status" in body["errors"][0]["hint"]
    body = _problem(await client.get(RUNS, params={"limit": "many"}), 422, "request.invalid")
    assert body["errors"][0]["place"] == "limit"
    body = _problem(await client.get(RUNS, params={"status": "faild"}), 422, "request.invalid")
    assert "failed" in body["errors"][0]["hint"]
    _problem(await client.get(RUNS, headers={"Accept": "text/csv"}), 406, "request.accept")
    _problem(await client.post(RUNS, content="a=1", headers={"Content-Type": "text/csv"}), 415, "request.media_type")
    _problem(await client.post(RUNS, content="{", headers={"Content-Type": "application/json"}), 400,
             "request.malformed")  # fmt: skip
    _problem(await client.get(RUNS + "/%00"), 422, "request.invalid")


async def test_a_body_over_the_limit_is_refused_however_it_is_sent(client: httpx.AsyncClient) -> None:
    """With a length it is refused unread, without one as soon as it is too much."""

    async def pieces() -> Any:
        for _ in range(40):
            yield b'{"goal": "' + b"x" * 90

    headers = {"Content-Type": "application/json"}
    _problem(await client.post(RUNS, content=b" " * 3000, headers=headers), 413, "request.too_large")
    _problem(await client.post(RUNS, content=pieces(), headers=headers), 413, "request.too_large")


async def test_an_unforeseen_error_tells_nothing(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """The answer has the request's id alone; the log has the rest."""
    answer = await client.post(RUNS, json={"workflow": "boom"})
    _problem(answer, 500, "server.fault")
    assert "secret" not in answer.text
    assert "the secret inside" in caplog.text


async def test_errors_of_use_cases_keep_code_and_hint(client: httpx.AsyncClient) -> None:
    """Missing things name the nearest."""
    body = _problem(await client.get(RUNS + "/r2"), 404, "run.unknown")
    assert body["nearest"] == "r1"
    _problem(await client.post(RUNS, json={"workflow": "none"}), 404, "workflow.unknown")


async def test_readiness_says_why_not(client: httpx.AsyncClient, engine: Any, app: FastAPI) -> None:
    """The store's own words, then that the server stops."""
    engine.store.wrong = "disk full"
    answer = await client.get("/readyz")
    assert "disk full" in _problem(answer, 503, "store.unavailable")["title"]
    assert (await client.get("/healthz")).status_code == 200
    app.state.stopping.set()
    _problem(await client.get("/readyz"), 503, "server.stopping")


def test_every_error_class_has_a_status() -> None:
    """No error falls through to 500 by being forgotten."""

    def below(cls: type[TenutoError]) -> set[type[TenutoError]]:
        return {cls, *(found for sub in cls.__subclasses__() for found in below(sub))}

    for cls in below(TenutoError) - {TenutoError, errors.Refused}:
        assert any(base in STATUS for base in cls.__mro__), cls
    assert document(TenutoError("x"))["status"] == status_of(TenutoError("x")) == 500


# --- starting ---------------------------------------------------------------------------------------------------
async def test_the_references_spellings_start_runs(client: httpx.AsyncClient, engine: Any) -> None:
    """`graph` by name, plain steps, a bare definition and YAML all arrive in our own words."""
    bodies: list[Any] = [
        {"graph": "triage", "input": {"intent": "refund"}},
        {"goal": "g", "steps": [{"name": "a", "dependsOn": []}]},
        {"name": "x", "nodes": [], "edges": []},
    ]
    for body in bodies:
        answer = await client.post(RUNS, json=body)
        assert answer.status_code == 202
        assert answer.json()["status"] == "queued"
        assert answer.headers["location"] == "/api/v1/runs/r1"
    yaml = "workflow: triage\ninput:\n  intent: refund\n"
    await client.post(RUNS, content=yaml, headers={"Content-Type": "application/yaml"})
    asked: list[StartRun] = engine.runs.asked
    assert (asked[0].workflow, asked[0].input) == ("triage", {"intent": "refund"})
    assert asked[1].steps == [{"name": "a", "dependsOn": []}]
    assert asked[2].definition == bodies[2]
    assert asked[3].input == {"intent": "refund"}


async def test_the_idempotency_key_goes_to_the_use_case(client: httpx.AsyncClient, engine: Any) -> None:
    """A repeat is marked; a malformed key is refused; commands hand it on."""
    first = await client.post(RUNS, json={"workflow": "w"}, headers={"Idempotency-Key": "k1"})
    again = await client.post(RUNS, json={"workflow": "w"}, headers={"Idempotency-Key": "k1"})
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert engine.runs.asked[0].idempotency_key == "k1"
    bad = await client.post(RUNS, json={"workflow": "w"}, headers={"Idempotency-Key": "with space"})
    _problem(bad, 400, "request.key")
    await client.post(f"{RUNS}/r1/signals/go", json=[1], headers={"Idempotency-Key": "k1"})
    assert engine.runs.asked[-1] == ("r1", "go", [1], "token", "k1")


async def test_replay_takes_the_references_words(client: httpx.AsyncClient, engine: Any) -> None:
    """`fromStep` is `from_step`, an input that is null is an edit, none at all is not."""
    answer = await client.post(f"{RUNS}/r1/replay", json={"fromStep": 2, "edits": {"input": None}})
    assert (answer.status_code, answer.json()["replay_of"]) == (202, "r1")
    asked: Replay = engine.runs.asked[-1]
    assert (asked.from_step, asked.edits.input if asked.edits else 0) == (2, None)
    body = {"from_step": 1, "from_node": "x"}
    _problem(await client.post(f"{RUNS}/r1/replay", json=body), 422, "request.invalid")


async def test_old_addresses_lead_to_the_new(client: httpx.AsyncClient) -> None:
    """`/runs…` keeps method, body and query."""
    for old, new in (("/runs/r1?wait=3", "/api/v1/runs/r1?wait=3"), ("/graphs/a", "/api/v1/workflows/a")):
        answer = await client.get(old)
        assert (answer.status_code, answer.headers["location"]) == (308, new)
    assert (await client.post("/runs", json={"workflow": "w"}, follow_redirects=True)).status_code == 202


async def test_lists_have_a_cursor(client: httpx.AsyncClient, engine: Any) -> None:
    """A page tells where the next begins; filters arrive."""
    answer = await client.get(RUNS, params={"status": "failed,completed", "label": "a=b", "limit": 1})
    assert answer.json()["next_cursor"] == "c1"
    assert engine.runs.asked[-1].status == ("failed", "completed")
    assert engine.runs.asked[-1].labels == {"a": "b"}


async def test_waiting_for_the_end_stops_with_the_server(client: httpx.AsyncClient, app: FastAPI) -> None:
    """A long wait is answered at once when the server stops."""
    waiting = asyncio.ensure_future(client.get(f"{RUNS}/r1", params={"wait": 30}))
    await asyncio.wait({waiting}, timeout=0.05)
    app.state.stopping.set()
    assert (await asyncio.wait_for(waiting, 2)).json()["status"] == "running"


async def test_without_auth_everything_is_open_on_loopback(engine: Any, settings: Any) -> None:
    """`--no-auth` asks for no token but still knows its own name."""
    from tenuto.api.app import create_app

    transport = httpx.ASGITransport(create_app(engine, settings, auth=Auth("", required=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8321") as client:
        assert (await client.get(RUNS)).status_code == 200
        assert (await client.get("/api/v1/session")).json()["by"] == "local"
        assert (await client.get(RUNS, headers={"Host": "evil.example"})).status_code == 421
