"""What goes beyond the references, as a person meets it: exact budgets, durable calls, fences, proofs, time travel."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
from tests.acceptance.features.programs import (
    HERE,
    Place,
    Program,
    audit,
    cli,
    ended,
    environment,
    events,
    ran,
    start,
    ticket_of,
    told,
    until,
)

Served = tuple[Program, httpx.Client]


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def test_BEY01_no_call_starts_that_could_break_a_cap_also_after_a_crash(tmp_path: Path, both_url: str) -> None:
    """Ten concurrent calls want a tool, four are allowed; the worker is killed in between; four are made."""
    made, gate = tmp_path / "made", tmp_path / "gate"
    with Place(tmp_path, both_url, "odd_app:app") as place:
        client = place.client(place.serve("--workers", "0"))
        worker = place.worker()
        run = start(client, "spends", {"made": str(made), "gate": str(gate)}, budget={"tool_calls": 4})
        until("calls are made", lambda: lines(made))
        worker.kill()
        gate.touch()
        place.worker()
        view = ended(client, run)
        assert view["status"] == "budget_exceeded"
        assert "tool_calls" in json.dumps(view["error"])
        budget = view["budget"]
        assert budget["spent"]["tool_calls"] + budget["reserved"]["tool_calls"] <= 4
        assert len(set(lines(made))) <= 4, "different calls made"
        assert not budget["overrun"]
        raised = client.post(f"/runs/{run}/resume", json={"budget": {"tool_calls": 50}})
        assert raised.status_code == 202
        until("it completes", lambda: client.get(f"/runs/{run}").json()["status"] == "completed")
        assert len(set(lines(made))) == 10
        assert client.get("/audit/verify", params={"run": run}).json()["ok"]


def test_BEY02_a_killed_conversation_goes_on_without_repeating_a_request(tmp_path: Path) -> None:
    """SIGKILL between the second and third call inside one step: the finished ones are not made again."""
    made, gate = tmp_path / "made", tmp_path / "gate"
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        client = place.client(place.serve("--workers", "0"))
        worker = place.worker()
        run = start(client, "converses", {"made": str(made), "gate": str(gate)})
        until("two calls are made and a third is held", lambda: lines(made) == ["call-0", "call-1", "begun-2"])
        worker.kill()
        gate.touch()
        place.worker()
        view = ended(client, run)
        assert view["status"] == "completed"
        found = lines(made)
        assert [found.count(f"call-{n}") for n in range(4)] == [1, 1, 1, 1]
        assert found.count("begun-2") == 2, "the call in flight is made again, no other"


def test_BEY03_a_zombie_writes_nothing(tmp_path: Path, both_url: str) -> None:
    """A worker is stopped past its lease with a step in flight; another takes over; the first wakes and is refused."""
    gate = tmp_path / "gate"
    lease = {"TENUTO_LEASE_S": "1"}
    with Place(tmp_path, both_url, "odd_app:app") as place:
        client = place.client(place.serve("--workers", "0", env=lease))
        zombie = place.worker(env=lease)
        run = start(client, "held", {"path": str(gate)})
        until("it holds", lambda: events(client, run, node="holds", type="step.started"))
        zombie.process.send_signal(signal.SIGSTOP)
        place.worker(env=lease)
        until("it is taken over", lambda: [e for e in audit(client, run)["entries"] if e["type"] == "run.lease_taken"])
        gate.touch()
        view = ended(client, run)
        head = audit(client, run)
        zombie.process.send_signal(signal.SIGCONT)
        zombie.says("the lease of")
        assert zombie.process.poll() is None
        after = audit(client, run)
        assert (after["head"], after["verified"]) == (head["head"], True)
        assert client.get(f"/runs/{run}").json() == view
        assert [e["type"] for e in after["entries"]].count("step.completed") == 3


def test_BEY04_an_export_is_checked_offline_and_a_changed_byte_found(served: Served, tmp_path: Path) -> None:
    server, client = served
    run = ran(client, "fine", {"amount": 100})["id"]
    file, heads = tmp_path / "out.jsonl", tmp_path / "heads.json"
    base = ["--database", f"sqlite:///{server.home.parent}/t.db"]
    assert cli(server, "audit", "export", run, "-o", str(file), *base).returncode == 0
    heads.write_text(cli(server, "audit", "verify", run, "--output", "json", *base).stdout)
    assert cli(server, "audit", "verify", str(file), "--heads", str(heads)).returncode == 0
    good = file.read_bytes()
    file.write_bytes(good.replace(b"100", b"900", 1))
    assert file.read_bytes() != good
    found = cli(server, "audit", "verify", str(file))
    assert found.returncode == 1
    assert run in found.stdout
    file.write_bytes(b"\n".join(good.splitlines()[:-1]) + b"\n")
    assert cli(server, "audit", "verify", str(file), "--heads", str(heads)).returncode == 1, "a record was cut off"


def test_BEY05_forks_with_edits_side_by_side(served: Served) -> None:
    server, client = served
    origin = ran(client, "fine", {"n": 1})
    other = told(server, "replay", origin["id"], "--from", "a", "--input", '{"n": 2}', "--wait")
    assert other["status"] == "completed"
    assert other["input"] == {"n": 2}
    compared = client.get(f"/runs/{origin['id']}/diff", params={"with": other["id"]}).json()
    assert compared["same"] is False
    assert compared["input"] == [{"n": 1}, {"n": 2}]
    assert compared["first"]["step"] == "a"
    graph = {**client.get("/workflows/fine").json()["definition"]}
    graph["nodes"] = [node if node["id"] != "c" else {"id": "c", "kind": "transform", "config": {"template": "edited"}}
                      for node in graph["nodes"]]  # fmt: skip
    edited = client.post(f"/runs/{origin['id']}/replay", json={"from_node": "c", "edits": {"definition": graph}})
    assert edited.status_code == 202, edited.text
    view = ended(client, edited.json()["id"])
    assert view["output"] == {"c": "edited"}
    reused = [e["node"] for e in events(client, view["id"], type="step.replayed")]
    assert sorted(reused) == ["a", "b"]
    shown = cli(server, "run", "diff", origin["id"], view["id"]).stdout
    assert "edited" in shown
    assert client.get(f"/runs/{origin['id']}").json() == origin, "the origin is untouched"


def test_BEY06_every_run_that_waits_says_for_what_since_when_and_whom(served: Served, tmp_path: Path) -> None:
    server, client = served
    asks = start(client, "asks")
    ticket = ticket_of(client, asks)["id"]
    held = start(client, "held", {"path": str(tmp_path / "gate")})
    until("it holds", lambda: events(client, held, node="holds", type="step.started"))
    client.post(f"/runs/{held}/pause")
    until("it pauses", lambda: client.get(f"/runs/{held}").json()["status"] == "paused")
    later = client.post("/runs", json={"workflow": "fine", "start_at": "2090-01-01T00:00:00Z"}).json()["id"]
    for run, kind in ((asks, "approval"), (held, "paused"), (later, "start_at")):
        why = client.get(f"/runs/{run}/why").json()
        assert why["summary"], run
        wait = next(w for w in why["waits"] if w["kind"] == kind)
        assert wait["who"], wait
        assert wait["since"] or wait["until"], wait
    shown = cli(server, "run", "why", asks).stdout
    assert f"tenuto approve {ticket}" in shown
    assert "since" in shown
    (tmp_path / "gate").touch()
    for run in (asks, held, later):
        client.post(f"/runs/{run}/cancel")


def test_BEY07_state_and_graph_at_any_record(served: Served) -> None:
    server, client = served
    run = ran(client, "fine")["id"]
    head = client.get(f"/runs/{run}/state").json()["head"]
    seen = []
    for at in range(1, head + 1):
        api = client.get(f"/runs/{run}/state", params={"at": at}).json()
        assert told(server, "run", "state", run, "--at", str(at)) == api
        graph = client.get(f"/runs/{run}/graph", params={"at": at}).json()
        seen.append([node["status"] for node in sorted(graph["nodes"], key=lambda node: node["id"])])
    assert seen[0][0] == "running"
    assert seen[0][2] == "blocked"
    assert seen[-1] == ["completed"] * 3
    assert seen == sorted(seen, key=lambda row: sum(status == "completed" for status in row)), "forward only"
    assert client.get(f"/runs/{run}/state", params={"at": head + 1}).status_code == 422
    done = cli(server, "run", "graph", run, "--at", "1")
    assert "running" in done.stdout


def test_BEY09_a_long_history_has_snapshots_and_old_runs_are_pruned_safely(served: Served) -> None:
    """2,000 steps in one run: no limit, and what a fork needs outlives its origin."""
    server, client = served
    view = ended(client, start(client, "long", {"n": 2000}), patience_s=60)
    assert view["status"] == "completed"
    assert view["output"] == {"end": {"n": 2000}}
    assert client.get("/audit/verify", params={"run": view["id"]}).json()["ok"]
    origin = ran(client, "fine", {"kept": "x" * 20_000})
    fork = ended(client, client.post(f"/runs/{origin['id']}/replay", json={"from_step": 1}).json()["id"])
    done = cli(server, "prune", "--before", "2090-01-01", "--output", "json")
    assert done.returncode == 0, done.stderr
    left = {run["id"] for run in client.get("/runs", params={"limit": 1000}).json()["items"]}
    assert view["id"] not in left
    if fork["id"] in left:
        assert origin["id"] in left, "an origin is kept for as long as its fork"


def test_BEY12_a_seed_is_a_whole_history_that_repeats() -> None:
    """The simulation is a module people can run: the same seed gives the same journal bytes."""
    code = (
        "import sys, msgspec\n"
        "from tenuto.testing.simulation import run_seed\n"
        "print(msgspec.json.encode(run_seed(int(sys.argv[1]))).decode())\n"
    )

    def told_by(seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, seed], capture_output=True, text=True, timeout=60, check=False,
            env=environment(HERE),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert told_by("7") == told_by("7")
    assert told_by("7") != told_by("8")


def test_BEY18_the_kit_is_shipped_and_documented() -> None:
    """What `tenuto.testing` promises can be imported and used outside of this repository."""
    import tenuto.testing as kit

    assert kit.__doc__
    names = set(kit.__all__)
    assert names
    for name in names:
        thing = getattr(kit, name)
        assert thing is not None
    words = " ".join(names).lower()
    for needed in ("model", "clock", "store"):
        assert needed in words, f"no {needed} in {sorted(names)}"
    assert find_spec("tenuto.testing.conformance") is not None
