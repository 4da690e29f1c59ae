"""The bundled examples over HTTP and the command line, on a `tenuto serve` of their own: what the README promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("TENUTO_")}


class Served:
    """A running server, spoken to as a person would."""

    def __init__(self, place: Path, url: str, token: str) -> None:
        """Keep where it is."""
        self.place = place
        self._url = url
        self._token = token

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make one request and return status and JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            with urlopen(Request(self._url + path, data, headers, method=method), timeout=40) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def tenuto(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in the server's directory; it finds address and token by itself."""
        return subprocess.run(
            [sys.executable, "-m", "tenuto", *args], cwd=self.place, env=ENVIRON, capture_output=True, text=True,
            timeout=60, check=False,
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`tenuto serve` without an app, in an empty directory, on a free port."""
    place = tmp_path_factory.mktemp("served")
    process = subprocess.Popen(
        [sys.executable, "-m", "tenuto", "serve", "--port", "0"], cwd=place, env=ENVIRON, stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if "stop" in line:
            break
    else:
        pytest.fail("the server ended:\n" + "".join(said))
    note = json.loads((place / ".tenuto" / "server.json").read_text())
    yield Served(place, note["url"], (place / ".tenuto" / "token").read_text().strip())
    process.terminate()
    process.communicate(timeout=40)


def test_triage_and_its_replay(server: Served) -> None:
    """Start `triage`, wait for its end, and replay it from step 2."""
    status, started = server.call("POST", "/api/v1/runs", {"workflow": "triage", "input": {"intent": "refund"}})
    assert (status, started["status"]) == (202, "queued")
    _, run = server.call("GET", f"/api/v1/runs/{started['id']}?wait=30")
    assert run["status"] == "completed"
    status, replayed = server.call("POST", f"/api/v1/runs/{started['id']}/replay", {"from_step": 2})
    assert (status, replayed["replay_of"]) == (202, started["id"])
    _, again = server.call("GET", f"/api/v1/runs/{replayed['id']}?wait=30")
    assert (again["status"], again["replay_of"], again["from_step"]) == ("completed", started["id"], 2)
    assert [step["id"] for step in again["steps"] if step["reused"]] == ["intake", "classify"]


@pytest.mark.parametrize("key", ["dependsOn", "depends_on"])
def test_a_step_list_with_failures(server: Served, key: str) -> None:
    """A goal and plain steps: the failing tool call is tried again, and what depends on it follows."""
    steps: list[dict[str, Any]] = [
        {"name": "llm_call.plan", "input": {"prompt": "plan"}},
        {"name": "tool_call.book", "input": {"simulateFailure": True, "failures": 1}, key: ["llm_call.plan"]},
        {"name": "notify", key: ["tool_call.book"]},
    ]
    status, started = server.call("POST", "/api/v1/runs", {"goal": "book a berth", "steps": steps})
    assert status == 202, started
    _, run = server.call("GET", f"/api/v1/runs/{started['id']}?wait=30")
    assert (run["status"], run["goal"]) == ("completed", "book a berth")
    assert [(step["id"], step["attempt"]) for step in run["steps"]] == [
        ("llm_call_plan", 1), ("tool_call_book", 2), ("notify", 1)
    ]


def test_an_unknown_workflow_names_the_nearest(server: Served) -> None:
    """A slip of the pen is answered with what was probably meant."""
    status, problem = server.call("POST", "/api/v1/runs", {"workflow": "traige", "input": {}})
    assert status == 404
    assert "triage" in json.dumps(problem)


def test_an_approval_on_the_command_line(server: Served) -> None:
    """`run start`, `run why`, `tickets list`, `approve`: the refund happens once a person agreed."""
    given = json.dumps({"charge": "ch_4711", "amount_cents": 50_000})
    done = server.tenuto("run", "start", "stripe_refund", "--input", given, "--output", "json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["id"]
    server.call("GET", f"/api/v1/runs/{run}?wait=1")
    why = server.tenuto("run", "why", run)
    assert why.returncode == 0, why.stderr
    assert "approv" in why.stdout
    (ticket,) = json.loads(server.tenuto("tickets", "list", "--output", "json").stdout)["items"]
    assert ticket["message"] == "Refund 50000 cents of ch_4711?"
    assert server.tenuto("approve", ticket["id"], "approve", "--reason", "agreed").returncode == 0
    assert server.call("GET", f"/api/v1/runs/{run}?wait=30")[1]["status"] == "completed"
    second = server.tenuto("approve", ticket["id"], "reject", "--reason", "changed my mind")
    assert second.returncode == 2
    effects = (server.place / ".tenuto" / "ledger.jsonl").read_text()
    assert effects.count('"kind": "refund"') == 1


def test_a_file_of_examples_runs_from_the_command_line(server: Served) -> None:
    """`run start FILE -f` follows a YAML workflow to its end; `replay --from` and `run diff` work on it."""
    file = Path(__file__).parents[3] / "examples" / "conditional.yaml"
    done = server.tenuto("run", "start", str(file), "--input", '{"score": 0.7}', "-f")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "70" in done.stdout
    first = json.loads(server.tenuto("run", "list", "--output", "json").stdout)["items"][0]["id"]
    replayed = server.tenuto("replay", first, "--from", "record", "--output", "json")
    assert replayed.returncode == 0, replayed.stderr
    second = json.loads(replayed.stdout)["id"]
    server.call("GET", f"/api/v1/runs/{second}?wait=30")
    diff = server.tenuto("run", "diff", first, second)
    assert diff.returncode == 0, diff.stderr
    assert "do not differ" in diff.stdout
