"""Bad input and faults: what is refused, what fails clearly, what waits, and that nothing is lost meanwhile."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.acceptance.features import odd_app
from tests.acceptance.features.programs import (
    Place,
    Program,
    audit,
    cli,
    ended,
    events,
    ran,
    reaches,
    start,
    ticket_of,
    told,
    until,
)

from tenuto.bundled.postgres import LocalPostgres

Served = tuple[Program, httpx.Client]


# --- bad input -----------------------------------------------------------------------------------------------------


def test_unknown_things_are_404_with_the_nearest_match(served: Served) -> None:
    _, client = served
    run = ran(client, "raises")["id"]
    asked = start(client, "asks")
    ticket = ticket_of(client, asked)["id"]
    wrong_run, wrong_ticket = run[:-1] + ("0" if run[-1] != "0" else "1"), ticket[:-1] + ("0" if ticket[-1] != "0" else "1")
    letter = client.get("/dead-letters", params={"run": run}).json()["items"][0]["id"]
    cases: list[tuple[str, str, Any, str]] = [
        ("POST", "/runs", {"workflow": "fin"}, "fine"),
        ("GET", "/workflows/rases", None, "raises"),
        ("GET", f"/runs/{wrong_run}", None, run),
        ("GET", f"/runs/{run[:-4]}/why", None, run),
        ("POST", f"/runs/{wrong_run}/cancel", {}, run),
        ("GET", f"/tickets/{wrong_ticket}", None, ticket),
        ("POST", f"/tickets/{wrong_ticket}/decision", {"decision": "approve"}, ticket),
        ("POST", f"/runs/{run}/steps/od/retry", {}, "odd"),
        ("POST", f"/runs/{run}/replay", {"from_node": "oter"}, "other"),
        ("POST", f"/dead-letters/{letter[:-1]}_/redrive", {}, letter),
        ("GET", "/runnns", None, "/api/v1/runs"),
    ]
    for method, path, body, nearest in cases:
        answer = client.request(method, path, json=body) if body is not None else client.request(method, path)
        assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["content-type"] == "application/problem+json"
        assert nearest in answer.text, f"{method} {path} does not name {nearest}: {answer.text}"
    for path in (f"/artifacts/sha256:{'0' * 64}", "/runs/nothing-like-it", "/tickets/zzz", "/runs/nothing/events"):
        assert client.get(path).status_code == 404, path


def test_an_invalid_definition_is_422_with_every_problem(served: Served) -> None:
    _, client = served
    definition = {
        "name": "bad", "nodes": [
            {"id": "a", "kind": "functoin"}, {"id": "b", "kind": "function", "config": {"handler": "fin"}},
            {"id": "b", "kind": "transform", "config": {"expression": "1 +"}}, {"id": "lost", "kind": "switch", "x": 1},
        ],
        "edges": [{"from": "a", "to": "nowhere"}, {"from": "b", "to": "a"}, {"from": "a", "to": "b"}],
    }  # fmt: skip
    answers = [client.post("/runs", json={"definition": definition}), client.post("/workflows", json=definition)]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        places = {error["place"] for error in answer.json()["errors"]}
        assert len(places) >= 5, places
        assert "'function'" in answer.text
        assert "'fine'" in answer.text
    checked = client.post("/workflows/validate", json=definition)
    assert (checked.status_code, checked.json()["valid"]) == (200, False)
    assert client.get("/workflows/bad").status_code == 404


def test_input_against_the_schema_creates_nothing(served: Served) -> None:
    _, client = served
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "who": {"type": "string"}}, "required": ["n"]}
    definition = {"name": "strict", "input_schema": schema, "nodes": [{"id": "a", "kind": "function", "config": {"handler": "fine"}}]}
    assert client.post("/workflows", json=definition).status_code == 201
    answer = client.post("/runs", json={"workflow": "strict", "input": {"n": "three", "who": 4}})
    assert answer.status_code == 422
    assert {error["place"] for error in answer.json()["errors"]} == {"/input/n", "/input/who"}
    assert client.get("/runs", params={"workflow": "strict"}).json()["items"] == []


def test_idempotency_keys(both_url: str, tmp_path: Path) -> None:
    """The same key and body is the same run, also after a restart; another body 409."""
    with Place(tmp_path, both_url, "odd_app:app") as place:
        server = place.serve()
        client = place.client(server)
        key = {"Idempotency-Key": "k-1"}
        body = {"workflow": "fine", "input": {"a": 1, "b": 2}}
        first = client.post("/runs", json=body, headers=key)
        second = client.post("/runs", json={"input": {"b": 2, "a": 1}, "workflow": "fine"}, headers=key)
        assert (first.status_code, second.status_code) == (202, 202)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert second.json()["id"] == first.json()["id"]
        assert client.post("/runs", json={"workflow": "fine", "input": {"a": 2}}, headers=key).status_code == 409
        server.kill()
        client = place.client(place.serve())
        again = client.post("/runs", json=body, headers=key)
        assert again.json()["id"] == first.json()["id"]
        assert len(client.get("/runs").json()["items"]) == 1
        assert client.post("/runs", json=body, headers={"Idempotency-Key": "a b"}).status_code == 400
        signal_key = {"Idempotency-Key": "s-1"}
        held = start(client, "asks")
        for _ in range(2):
            assert client.post(f"/runs/{held}/signals/x", json={"n": 1}, headers=signal_key).status_code == 202


# --- steps that do what they should not -----------------------------------------------------------------------------


CODES = {
    "unserialisable": "output.invalid", "raises": "step.failed", "hangs": "attempt.timeout", "exits": "step.exited",
    "huge": "", "dies_apart": "",
}  # fmt: skip


@pytest.mark.parametrize("name", odd_app.ODD)
def test_a_bad_step_fails_clearly_and_others_go_on(served: Served, name: str) -> None:
    server, client = served
    view = ran(client, name)
    steps = {step["id"]: step for step in view["steps"]}
    assert view["status"] == "failed"
    assert steps["odd"]["status"] == "dead_letter"
    assert steps["other"]["status"] == steps["last"]["status"] == "completed"
    error = steps["odd"]["error"]
    assert error["message"]
    assert len(error["message"]) < 2000
    assert not CODES[name] or error["code"] == CODES[name]
    letter = client.get("/dead-letters", params={"run": view["id"]}).json()["items"]
    assert [item["step"] for item in letter] == ["odd"]
    assert client.get("/readyz".replace("/readyz", "/session")).status_code == 200, "the server is well"
    assert ran(client, "fine")["status"] == "completed"
    assert len(client.get(f"/runs/{view['id']}/events", params={"limit": 1000}).content) < 100_000
    assert server.process.poll() is None


@pytest.mark.parametrize("size", [100, 9_000, 2_000_000])
def test_outputs_of_any_size_reach_the_runs_own_output(served: Served, size: int) -> None:
    _, client = served
    view = ran(client, "fine", {"text": "x" * size})
    assert view["status"] == "completed"
    assert "x" * size in client.get(f"/runs/{view['id']}").text or "$blob" in json.dumps(view["output"])


def test_a_step_that_kills_its_worker_ends_as_a_dead_letter_and_others_are_unharmed(tmp_path: Path) -> None:
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        client = place.client(place.serve("--workers", "0"))
        workers = place.start("worker", "--processes", "2")
        workers.says("is ready")
        bystander = start(client, "held", {"path": str(tmp_path / "gate")})
        run = start(client, "dies")
        view = ended(client, run, patience_s=40)
        steps = {step["id"]: step for step in view["steps"]}
        assert (view["status"], steps["odd"]["status"]) == ("failed", "dead_letter")
        assert steps["last"]["status"] == "completed"
        losses = [e for e in events(client, run, node="odd") if e["type"] == "step.lost"]
        assert len(losses) == 3, "the limit counts every attempt lost with a process, the first and those apart"
        assert workers.text().count("starting another") == 1, "after the first loss it has a process of its own"
        (tmp_path / "gate").touch()
        assert ended(client, bystander)["status"] == "completed"
        story = {entry["type"] for entry in audit(client, run)["entries"]}
        assert {"run.lease_taken", "step.lost", "step.dead_lettered"} <= story
        assert workers.stop() == 0


def test_a_dead_letter_is_redriven_with_reason_from_the_command_line(served: Served, tmp_path: Path) -> None:
    server, client = served
    path = tmp_path / "there"
    run = ran(client, "mends", {"path": str(path)})["id"]
    (letter,) = told(server, "deadletter", "list", "--run", run)["items"]
    path.touch()
    told(server, "deadletter", "redrive", letter["id"], "--reason", "the file is there now", "--guidance", "look again")
    until("it completes", lambda: client.get(f"/runs/{run}").json()["status"] == "completed")
    redriven = next(e for e in audit(client, run)["entries"] if e["type"] == "step.redriven")
    assert "look again" in json.dumps(redriven)
    assert any("the file is there now" in json.dumps(e) for e in audit(client, run)["entries"])
    again = cli(server, "deadletter", "redrive", letter["id"])
    assert again.returncode == 2
    assert client.post(f"/dead-letters/{letter['id']}/redrive").status_code == 409


def test_a_redrive_may_change_the_nodes_config(served: Served) -> None:
    """What a retry of the step takes, a redrive takes too."""
    _, client = served
    definition = {"name": "configured", "nodes": [{
        "id": "a", "kind": "transform", "config": {"template": {"x": "${input.nothing}"}},
    }]}  # fmt: skip
    run = client.post("/runs", json={"definition": definition, "input": {}}).json()["id"]
    assert ended(client, run)["status"] == "failed"
    (letter,) = client.get("/dead-letters", params={"run": run}).json()["items"]
    body = {"config": {"template": {"x": 5}}, "reason": "no such input"}
    assert client.post(f"/dead-letters/{letter['id']}/redrive", json=body).status_code == 202
    until("it completes", lambda: client.get(f"/runs/{run}").json()["status"] == "completed")
    assert client.get(f"/runs/{run}").json()["output"] == {"a": {"x": 5}}


# --- the store goes away ------------------------------------------------------------------------------------------


def test_a_full_disk_pauses_work_says_so_and_goes_on_by_itself(tmp_path: Path) -> None:
    """The file may not grow: nothing is acknowledged, /readyz, doctor and log say so; with room again all goes on."""
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve()
        client = place.client(server)
        before = ran(client, "fine")["id"]
        gate = tmp_path / "gate"
        held = start(client, "held", {"path": str(gate)})
        until("it holds", lambda: events(client, held, node="holds", type="step.started"))
        full = (tmp_path / "t.db-wal").stat().st_size
        old = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        ready = server.url + "/readyz"
        with pytest.raises(httpx.ReadTimeout):
            client.post("/runs", json={"workflow": "fine"}, timeout=1.5, headers={"Idempotency-Key": "full"})
        gate.touch()
        answer = until("/readyz says so", lambda: (a := httpx.get(ready)).status_code == 503 and a)
        assert answer.json()["code"] == "store.unavailable"
        assert "disk" in answer.text
        server.says("all work waits")
        assert client.get(f"/runs/{before}").status_code == 200, "what is there can be read"
        assert client.get(f"/runs/{held}").json()["status"] == "running"
        assert client.get("/services").json()["items"][0]["status"] == "offline"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, old)
        until("/readyz is well", lambda: httpx.get(ready).status_code == 200)
        assert ended(client, held)["status"] == "completed"
        again = client.post("/runs", json={"workflow": "fine"}, headers={"Idempotency-Key": "full"})
        assert ended(client, again.json()["id"])["status"] == "completed"
        runs = client.get("/runs").json()["items"]
        assert len(runs) == 3, "what was not acknowledged is there once at most, by its key"
        assert client.get("/audit/verify").json()["ok"]
        log = server.says("answers again after")
        assert log.count("all work waits") == 1, "an outage is told, not shouted"
        assert "Traceback" not in log


def test_postgres_stopped_and_started_again(tmp_path: Path) -> None:
    """Work waits, says so, and goes on by itself; `doctor` names what does not answer."""
    with LocalPostgres.start() as postgres:
        url = postgres.create_database()
        with Place(tmp_path, url, "odd_app:app") as place:
            server = place.serve()
            client = place.client(server)
            gate = tmp_path / "gate"
            held = start(client, "held", {"path": str(gate)})
            until("it holds", lambda: events(client, held, node="holds", type="step.started"))
            postgres._halt("immediate")
            gate.touch()
            ready = server.url + "/readyz"
            answer = until("/readyz says so", lambda: (a := httpx.get(ready)).status_code == 503 and a)
            assert answer.json()["code"] == "store.unavailable"
            assert answer.headers["retry-after"]
            assert httpx.get(server.url + "/healthz").status_code == 200
            doctor = cli(server, "doctor", "--database", url)
            assert doctor.returncode == 1
            assert "fail  database" in doctor.stdout
            postgres._launch(postgres.port)
            until("/readyz is well", lambda: httpx.get(ready).status_code == 200)
            assert ended(client, held)["status"] == "completed"
            assert [e["node"] for e in events(client, held, type="step.completed")] == ["first", "holds", "end"]
            assert ran(client, "fine")["status"] == "completed"
            assert client.get("/audit/verify").json()["ok"]
            assert cli(server, "doctor", "--database", url).returncode == 0
            text = server.text()
            assert text.count("all work waits") == text.count("answers again after") == 1
            assert url.split(":")[2].partition("@")[0] not in text, "no password in the log"


# --- altered bytes -------------------------------------------------------------------------------------------------


def test_altered_bytes_stop_that_run_with_a_ticket_and_no_other(tmp_path: Path) -> None:
    database = tmp_path / "t.db"
    with Place(tmp_path, f"sqlite:///{database}", "odd_app:app") as place:
        server = place.serve()
        client = place.client(server)
        bad, good = start(client, "asks"), start(client, "asks")
        tickets = {run: ticket_of(client, run)["id"] for run in (bad, good)}
        reaches(client, bad, "waiting")
        assert server.stop() == 0
        assert cli(server, "audit", "verify", "--database", place.database).returncode == 0
        _alter(database, bad)
        found = cli(server, "audit", "verify", "--database", place.database)
        assert found.returncode == 1
        assert bad in found.stdout
        assert good not in found.stdout
        server = place.serve()
        client = place.client(server)
        for run, ticket in tickets.items():
            client.post(f"/tickets/{ticket}/decision", json={"decision": "approve"})
            assert run
        assert ended(client, good)["status"] == "completed"
        ticket = ticket_of(client, bad, "integrity")
        assert ticket["message"]
        row = next(run for run in client.get("/runs").json()["items"] if run["id"] == bad)
        assert row["status"] == "paused"
        assert client.get("/audit/verify", params={"run": bad}).json()["ok"] is False
        shown = client.get(f"/runs/{bad}").json()
        assert (shown["status"], shown["error"]["code"]) == ("paused", "journal.corrupt")
        assert shown["waiting_for"]["name"] == ticket["id"]
        why = cli(server, "run", "why", bad).stdout
        assert ticket["id"] in why
        assert "from a backup" in why
        assert "record" in ticket["message"]
        assert ran(client, "fine")["status"] == "completed"
        assert "halted" in server.text()


def _alter(database: Path, run: str) -> None:
    """Change one byte of a run's second record, as nobody who writes through the engine can."""
    with sqlite3.connect(database) as db:
        raw = bytes.fromhex(run.replace("-", ""))
        seq, body = db.execute(
            "select seq, body from rec where run_id in (?, ?) order by seq desc limit 1", (raw, run)
        ).fetchone()
        changed = bytes(body).replace(b"first", b"fIrst", 1)
        assert changed != body
        db.execute("update rec set body = ? where run_id in (?, ?) and seq = ?", (changed, raw, run, seq))


def test_an_altered_run_in_flight_is_caught_at_takeover(tmp_path: Path) -> None:
    database = tmp_path / "t.db"
    with Place(tmp_path, f"sqlite:///{database}", "odd_app:app") as place:
        server = place.serve("--workers", "0")
        client = place.client(server)
        worker = place.worker()
        bad = start(client, "held", {"path": str(tmp_path / "gate")})
        good = start(client, "held", {"path": str(tmp_path / "gate")})
        for run in (bad, good):
            until("it holds", lambda run=run: events(client, run, node="holds", type="step.started"))
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        _alter(database, bad)
        place.worker()
        assert ticket_of(client, bad, "integrity")
        (tmp_path / "gate").touch()
        assert ended(client, good)["status"] == "completed"
        assert told(server, "tickets", "list", "--kind", "integrity")["items"][0]["run"] == bad


def test_no_program_is_left_behind(tmp_path: Path) -> None:
    """A server that is asked to end ends with 0 within its grace, lets go of its runs, and takes its note away."""
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve(env={"TENUTO_STOP_GRACE_S": "0.5"})
        client = place.client(server)
        run = start(client, "held", {"path": str(tmp_path / "gate")})
        until("it holds", lambda: events(client, run, node="holds", type="step.started"))
        assert server.stop() == 0
        assert not (server.home / "server.json").exists()
        gone = cli(server, "run", "list", TENUTO_API_URL="")
        assert gone.returncode == 2
        client = place.client(place.serve())
        (tmp_path / "gate").touch()
        view = ended(client, run)
        assert view["status"] == "completed"
        assert "step.lost" not in [e["type"] for e in events(client, run)], "a graceful stop counts as no loss"
