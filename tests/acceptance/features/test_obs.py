"""What can be seen: traces, audits, streams by three ways, logs, metrics, lists over all runs, the page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.acceptance.features.programs import (
    TOKEN,
    Place,
    Program,
    audit,
    cli,
    ended,
    events,
    ran,
    sse,
    start,
    ticket_of,
    told,
    until,
)
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tenuto.domain.runs.public import TABLE

Served = tuple[Program, httpx.Client]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def listening(server: Program, path: str, **options: Any) -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Yield the events of a stream as they come."""
    options.setdefault("headers", BEARER)
    api = f"{server.url}/api/v1"
    with httpx.Client(base_url=api, timeout=20) as client, client.stream("GET", path, **options) as answer:
        assert answer.status_code == 200, answer.read()
        yield sse(answer.iter_lines())


def ws(server: Program, path: str, **options: Any) -> Any:
    """Return a WebSocket."""
    return connect(server.url.replace("http", "ws") + path, open_timeout=20, **options)


# --- traces and audits -------------------------------------------------------------------------------------------


def test_OBS01_a_trace_says_enter_exit_error_and_replay(served: Served) -> None:
    _, client = served
    view = ran(client, "fine", {"x": 1}, budget={"tool_calls": 5})
    steps = {step["id"]: step for step in view["steps"]}
    assert all(steps[name]["started_at"] and steps[name]["finished_at"] for name in "abc")
    trace = events(client, view["id"])
    assert [e["node"] for e in trace if e["type"] == "step.started"] == ["a", "b", "c"]
    exits = [e for e in trace if e["type"] == "step.completed"]
    assert [e["node"] for e in exits] == ["a", "b", "c"]
    assert all("took_ms" in e["data"] for e in exits)
    again = ended(client, client.post(f"/runs/{view['id']}/replay", json={"from_step": 1}).json()["id"])
    assert [e["node"] for e in events(client, again["id"]) if e["type"] == "step.replayed"] == ["a"]
    failed = ran(client, "raises")
    errors = events(client, failed["id"], errors=True)
    assert any(e["type"] == "step.dead_lettered" and "fell out" in json.dumps(e["data"]) for e in errors)
    at = next(e for e in trace if e["type"] == "step.completed" and e["node"] == "b")["id"].partition(".")[0]
    state = client.get(f"/runs/{view['id']}/state", params={"at": at}).json()
    assert state["state"]["ledger"]["caps"] == {"tool_calls": 5}, "the budget as of each record"
    assert events(client, view["id"]) == trace, "append-only"


def test_OBS02_the_audit_has_every_transition_in_order_and_can_be_taken_away(served: Served, tmp_path: Path) -> None:
    server, client = served
    run = start(client, "asks")
    ticket = ticket_of(client, run)["id"]
    client.post(f"/tickets/{ticket}/decision", json={"decision": "approve", "reason": "fine"})
    ended(client, run)
    trail = audit(client, run)
    assert trail["verified"] is True
    assert trail["head"] == trail["entries"][-1]["chain"]
    places = [tuple(map(int, e["id"].split("."))) for e in trail["entries"]]
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    types = {e["type"] for e in trail["entries"]}
    assert {"run.created", "run.claimed", "step.started", "step.completed", "run.completed"} <= types
    assert any(e["by"] == "token" and "approve" in json.dumps(e["data"]) for e in trail["entries"])
    assert any(e["worker"] for e in trail["entries"])
    exported = client.get("/audit/export", params={"run": run})
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    file = tmp_path / "export.jsonl"
    file.write_bytes(exported.content)
    assert cli(server, "audit", "verify", str(file)).returncode == 0


# --- streams -----------------------------------------------------------------------------------------------------


def test_OBS04_a_websocket_says_what_happens_while_it_does(served: Served, tmp_path: Path) -> None:
    server, client = served
    gate = tmp_path / "gate"
    run = start(client, "held", {"path": str(gate)})
    with ws(server, f"/api/v1/runs/{run}/ws", additional_headers=BEARER) as socket:
        assert json.loads(socket.recv(20)) == {"type": "subscribed", "run": run}
        seen: list[dict[str, Any]] = []
        while not seen or (seen[-1]["type"], seen[-1].get("node")) != ("step.started", "holds"):
            seen.append(json.loads(socket.recv(20)))
        assert "run.completed" not in [e["type"] for e in seen]
        gate.touch()
        seen += [json.loads(message) for message in socket]
    assert seen[-1]["type"] == "run.completed"
    assert [e["id"] for e in seen] == [e["id"] for e in events(client, run)]
    with ws(server, f"/ws/{run}", additional_headers=BEARER) as socket:
        assert json.loads(socket.recv(20))["type"] == "subscribed", "the reference's own address"


def test_OBS04_a_websocket_goes_on_after_an_event(served: Served) -> None:
    server, client = served
    view = ran(client, "fine")
    every = [e["id"] for e in events(client, view["id"])]
    with ws(server, f"/api/v1/runs/{view['id']}/ws?after={every[2]}", additional_headers=BEARER) as socket:
        assert json.loads(socket.recv(20))["type"] == "subscribed"
        assert [json.loads(message)["id"] for message in socket] == every[3:]


def test_OBS05_a_stream_goes_on_across_a_restart_without_loss_or_repetition(tmp_path: Path, both_url: str) -> None:
    """The server is SIGKILLed under a client; the client comes back to its successor by Last-Event-ID."""
    gate, seen = tmp_path / "gate", []
    with Place(tmp_path, both_url, "odd_app:app") as place:
        server = place.serve("--workers", "0")
        place.worker()
        client = place.client(server)
        run = start(client, "held", {"path": str(gate)})
        with pytest.raises(httpx.TransportError), listening(server, f"/runs/{run}/stream") as stream:
            for event in stream:
                seen.append(event)
                if event[1] == "step.started" and event[2]["node"] == "holds":
                    server.kill()
        successor = place.serve("--workers", "0")
        gate.touch()
        with listening(successor, f"/runs/{run}/stream", headers={**BEARER, "Last-Event-ID": seen[-1][0]}) as stream:
            seen += list(stream)
        client = place.client(successor)
        ended(client, run)
        assert [e[0] for e in seen] == [e["id"] for e in events(client, run)]
        assert seen[-1][1] == "run.completed"
        over = client.get(f"/runs/{run}/stream", headers={"Last-Event-ID": seen[-1][0]})
        assert over.status_code == 204, "nothing comes after the end, so a browser stops asking"


def test_OBS05_a_place_that_is_none_is_refused(served: Served) -> None:
    _, client = served
    run = ran(client, "fine")["id"]
    for place in ("nonsense", "1.x", "-1"):
        assert client.get(f"/runs/{run}/stream", headers={"Last-Event-ID": place}).status_code == 422, place
    assert client.get("/runs/nowhere/stream").status_code == 404


def test_OBS07_a_workers_events_reach_a_server_in_another_process(tmp_path: Path, both_url: str) -> None:
    gate = tmp_path / "gate"
    with Place(tmp_path, both_url, "odd_app:app") as place:
        server = place.serve("--workers", "0")
        client = place.client(server)
        run = start(client, "held", {"path": str(gate)})
        assert client.get(f"/runs/{run}").json()["status"] == "queued"
        assert "no worker is running" in json.dumps(client.get(f"/runs/{run}/why").json()).lower()
        with listening(server, f"/runs/{run}/stream") as stream:
            worker = place.worker()
            got = next(e for e in stream if e[1] == "step.started" and e[2]["node"] == "holds")
            gate.touch()
            assert [e[1] for e in stream][-1] == "run.completed"
        assert got[2]["run"] == run
        workers = client.get("/workers").json()["items"]
        assert [w["pid"] for w in workers if w["alive"]] == [worker.process.pid]


def test_OBS16_one_stream_over_all_runs(served: Served) -> None:
    server, client = served
    with listening(server, "/stream") as stream:
        first, second = start(client, "fine"), start(client, "raises")
        wanted = {(first, "run.created"), (first, "run.completed"), (second, "run.created"), (second, "run.failed")}
        for place, kind, data in stream:
            identity = place
            wanted.discard((data["run"], kind))
            if not wanted:
                break
    later = ran(client, "fine")["id"]
    with listening(server, "/stream", headers={**BEARER, "Last-Event-ID": identity}) as stream:
        assert next(kind for _, kind, data in stream if data["run"] == later) == "run.created"


def test_OBS25_stream_tokens(served: Served) -> None:
    """A token opens one run's streams by both ways; foreign 403, no token 401, expired 401."""
    server, client = served
    mine, other = ran(client, "fine")["id"], ran(client, "fine")["id"]
    given = client.post(f"/runs/{mine}/stream-token")
    assert given.status_code == 201
    token = given.json()["token"]
    assert given.json()["expires_in_s"] == 60
    with listening(server, f"/runs/{mine}/stream?token={token}", headers={}) as stream:
        assert [kind for _, kind, _ in stream][-1] == "run.completed"
    with ws(server, f"/api/v1/runs/{mine}/ws?token={token}") as socket:
        assert json.loads(socket.recv(20))["type"] == "subscribed"

    bare = httpx.Client(base_url=f"{server.url}/api/v1", timeout=20)
    claims = token.split(".")
    stale = ".".join(["1000", *claims[1:]])
    cases = {
        f"/runs/{other}/stream?token={token}": 403, f"/runs/{mine}/stream?token={stale}": 401,
        f"/runs/{mine}/stream?token=x.y.z": 401, f"/runs/{mine}/stream": 401, f"/stream?token={token}": 403,
        f"/runs/{mine}?token={token}": 401, f"/runs/{mine}/events?token={token}": 401,
    }
    with bare:
        for path, status in cases.items():
            assert bare.get(path).status_code == status, path
    with pytest.raises(InvalidStatus) as refused, ws(server, f"/api/v1/runs/{other}/ws?token={token}"):
        pass
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused, ws(server, f"/api/v1/runs/{mine}/ws?token={stale}"):
        pass
    assert refused.value.response.status_code == 401
    everything = client.post("/stream-token").json()["token"]
    with listening(server, f"/stream?token={everything}", headers={}) as stream:
        run = start(client, "fine")
        assert next(data["run"] for _, _, data in stream) == run
    assert client.post("/runs/nowhere/stream-token").status_code == 404


# --- lists, logs, metrics ----------------------------------------------------------------------------------------


def test_OBS10_logs_of_a_node_end_with_the_run(served: Served, tmp_path: Path) -> None:
    server, client = served
    gate = tmp_path / "gate"
    run = start(client, "held", {"path": str(gate)})
    result: list[Any] = []
    reader = threading.Thread(
        target=lambda: result.append(cli(server, "logs", "stream", run, "--node", "holds", "--output", "compact"))
    )
    reader.start()
    gate.touch()
    reader.join(30)
    assert result[0].returncode == 0, result[0].stderr
    lines = [json.loads(line) for line in result[0].stdout.splitlines()]
    assert {line["node"] for line in lines} == {"holds"}
    assert [line["type"] for line in lines] == ["step.started", "step.completed"]


def test_OBS10_logs_of_errors_only(served: Served) -> None:
    server, client = served
    run = ran(client, "raises")["id"]
    done = cli(server, "logs", "stream", run, "--filter", "errors", "--output", "json")
    assert done.returncode == 1, "a run that failed is no success"
    kinds = {event["type"] for event in json.loads(done.stdout)}
    bad = {public.name for public in TABLE.values() if public.error}
    assert kinds
    assert kinds <= bad
    assert "run.failed" in kinds


def test_OBS11_watch_shows_steps_change(served: Served, tmp_path: Path) -> None:
    """On a real terminal: the table is there while the step holds, and the end when it has ended."""
    import os
    import pty
    import subprocess
    import sys

    from tests.acceptance.features.programs import environment

    server, client = served
    gate = tmp_path / "gate"
    run = start(client, "held", {"path": str(gate)})
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tenuto", "watch", run], stdin=slave, stdout=slave, stderr=slave, close_fds=True,
        env={**environment(server.home, TENUTO_API_URL=server.url), "TERM": "xterm"},
    )
    os.close(slave)
    shown = ""
    try:
        while "holds" not in shown or "running" not in shown:
            shown += os.read(master, 65536).decode()
        gate.touch()
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other side of a terminal is closed
                break
            if not part:
                break
            shown += part.decode()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "\x1b[" in shown
    assert "completed" in shown.rpartition("\x1b[J")[2]


def test_OBS12_queue_and_execution_time_of_each_node(served: Served) -> None:
    _, client = served
    view = ran(client, "fine")
    for step in view["steps"]:
        assert isinstance(step["queued_ms"], int)
        assert isinstance(step["took_ms"], int)
        assert step["ready_at"] <= step["started_at"] <= step["finished_at"]


def test_OBS14_fast_journals_less_and_replays_alike(served: Served) -> None:
    server, client = served
    full, fast = ran(client, "fine"), ran(client, "fine", fidelity="fast")
    assert full["status"] == fast["status"] == "completed"
    assert full["output"] == fast["output"]
    many, few = events(client, full["id"]), events(client, fast["id"])
    assert len(few) < len(many)
    assert [e["node"] for e in few if e["type"] == "step.completed"] == ["a", "b", "c"]
    assert audit(client, fast["id"])["verified"]
    assert client.get("/audit/verify", params={"run": fast["id"]}).json()["ok"]
    again = ended(client, client.post(f"/runs/{fast['id']}/replay", json={"from_step": 2}).json()["id"])
    assert again["output"] == fast["output"]
    assert told(server, "run", "diff", full["id"], fast["id"])["n_same_steps"] == 3


def test_OBS17_steps_across_runs(served: Served) -> None:
    _, client = served
    run = ran(client, "raises")["id"]
    def projected(**where: Any) -> list[dict[str, Any]]:
        return client.get("/steps", params={"limit": 1000, **where}).json()["items"]

    dead = until("the projection has it", lambda: projected(run=run, status="dead_letter"))
    assert [(step["node"], step["kind"]) for step in dead] == [("odd", "function")]
    assert {step["run"] for step in projected(node="odd", status="dead_letter")} >= {run}
    assert projected(kind="approval", run=run) == []
    assert projected(after="2000-01-01T00:00:00Z", run=run)
    assert projected(before="2000-01-01T00:00:00Z") == []
    pages, cursor = [], ""
    while True:
        page = client.get("/steps", params={"limit": 2, "run": run, "cursor": cursor}).json()
        pages += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(pages) == len({step["id"] for step in pages}) == 3
    kinds = client.get(f"/runs/{run}/events", params={"node": "odd", "type": "step.", "limit": 1}).json()
    assert kinds["items"][0]["node"] == "odd"
    assert kinds["next_cursor"]


def test_OBS24_a_form_on_the_page_starts_a_run(served: Served) -> None:
    """The page is served without a token, asks for nothing from elsewhere, and its form's calls work by cookie."""
    server, client = served
    with httpx.Client(base_url=server.url) as browser:
        page = browser.get("/")
        assert page.status_code == 200
        assert 'id="start-form"' in page.text
        assert "http://" not in page.text.replace(server.url, "")
        assert "https://" not in page.text
        assert browser.get("/api/v1/runs").status_code == 401
        link = client.post("/session/link").json()
        browser.post("/api/v1/session", json={"code": link["code"]}, headers={"Origin": server.url})
        assert browser.post("/api/v1/session", json={"code": link["code"]}).status_code == 401, "a code is good once"
        started = browser.post(
            "/api/v1/runs", json={"workflow": "fine", "input": {}}, headers={"Origin": server.url, "Idempotency-Key": "k1"}
        )
        assert started.status_code == 202
        with browser.stream("GET", f"/api/v1/runs/{started.json()['id']}/stream") as answer:
            assert [kind for _, kind, _ in sse(answer.iter_lines())][-1] == "run.completed"
        evil = browser.post("/api/v1/runs", json={"workflow": "fine"}, headers={"Origin": "http://evil.example"})
        assert evil.status_code == 403


def test_OBS26_lists_can_be_dropped_and_rebuilt_with_the_same_answers(tmp_path: Path, both_url: str) -> None:
    with Place(tmp_path, both_url, "odd_app:app") as place:
        server = place.serve()
        client = place.client(server)
        runs = [ran(client, name)["id"] for name in ("fine", "raises", "fine")]

        def look() -> Any:
            return client.get("/steps", params={"limit": 1000}).json()["items"]

        until("all are projected", lambda: len(look()) == 9 and all(step["finished_at"] for step in look()))
        before, listed = look(), client.get("/runs").json()
        done = cli(server, "rebuild", "--database", both_url)
        assert done.returncode == 0, done.stderr
        assert until("the same again", lambda: look() == before)
        assert client.get("/runs").json() == listed
        assert len(runs) == 3
