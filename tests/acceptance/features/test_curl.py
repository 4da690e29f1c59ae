"""The reference systems' own examples, typed as they stand there, with curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.acceptance.features.programs import TOKEN, Program, ended, events, examples

Served = tuple[Program, httpx.Client]
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with examples(tmp_path_factory.mktemp("curl")) as (server, client):
        yield server, client


def curl(*argv: str) -> Any:
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", *argv, "-H", f"Authorization: Bearer {TOKEN}"],
        capture_output=True, text=True, timeout=30, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def post(url: str, body: str, *more: str) -> Any:
    return curl("-X", "POST", url, "-H", "Content-Type: application/json", "-d", body, *more)


@needs_curl
def test_S0_curl_triage_then_replay(served: Served) -> None:
    """A run of `triage` by curl, then a replay of it that keeps two steps."""
    server, client = served
    runs = f"{server.url}/api/v1/runs"
    first = post(runs, '{"workflow": "triage", "input": {"intent": "refund"}}')
    assert set(first) >= {"id", "status"}
    assert first["status"] == "queued"
    origin = ended(client, first["id"])
    assert origin["status"] == "completed"
    classify = next(step for step in origin["steps"] if step["node"] == "classify")
    assert classify["output"]["decision"] == "refund"

    again = post(f"{runs}/{first['id']}/replay", '{"from_step": 2}')
    assert again["replay_of"] == first["id"]
    replay = ended(client, again["id"])
    assert replay["status"] == "completed"
    assert (replay["replay_of"], replay["from_step"]) == (first["id"], 2)
    assert replay["output"] == origin["output"]
    taken_over = [event["node"] for event in events(client, again["id"]) if event["type"] == "step.replayed"]
    assert sorted(taken_over) == ["classify", "intake"]


@needs_curl
def test_S0_curl_its_own_words(served: Served) -> None:
    """`graph` and `fromStep`, at the short addresses, mean the same."""
    server, client = served
    first = post(f"{server.url}/runs", '{"graph": "triage", "input": {"intent": "my app shows an error"}}', "-L")
    assert ended(client, first["id"])["status"] == "completed"
    again = post(f"{server.url}/runs/{first['id']}/replay", '{"fromStep": 1}', "-L")
    assert ended(client, again["id"])["from_step"] == 1
    shape = curl("-L", f"{server.url}/graphs/triage")
    assert shape["name"] == "triage"


@needs_curl
@pytest.mark.parametrize("word", ["dependsOn", "depends_on"])
def test_S1_curl_plain_steps(served: Served, word: str) -> None:
    """A goal and a plain list of steps; the prefix of a step's name says who handles it."""
    server, client = served
    body = {
        "goal": "summarise three sources",
        "steps": [
            {"name": "tool_call.fetch_a", "input": {"url": "https://a.example"}},
            {"name": "tool_call.fetch_b", "input": {"url": "https://b.example"}},
            {
                "name": "llm_call.summarise", "input": {"prompt": "Summarise"},
                word: ["tool_call.fetch_a", "tool_call.fetch_b"],
            },
            {"name": "notify", "input": {"to": "me"}, word: ["llm_call.summarise"]},
        ],
    }
    started = post(f"{server.url}/api/v1/runs", json.dumps(body))
    run = ended(client, started["id"])
    assert run["status"] == "completed"
    assert run["goal"] == "summarise three sources"
    # A node's id is the name with what a URL cannot hold replaced.
    done = [event["node"] for event in events(client, started["id"]) if event["type"] == "step.completed"]
    assert done.index("llm_call_summarise") > max(done.index("tool_call_fetch_a"), done.index("tool_call_fetch_b"))
    assert done[-1] == "notify"
    outputs = {step["node"]: step["output"] for step in run["steps"]}
    assert outputs["llm_call_summarise"]["content"].startswith("offline:Summarise")
    assert outputs["tool_call_fetch_a"]["ok"] is True


def test_S1_curl_a_list_that_cannot_be_is_refused_with_everything(served: Served) -> None:
    """An unknown name, a repeated one and a cycle are all told, and nothing is created."""
    _, client = served
    before = len(client.get("/runs", params={"limit": 1000}).json()["items"])
    answer = client.post("/runs", json={"goal": "x", "steps": [
        {"name": "a", "dependsOn": ["nowhere"]}, {"name": "b", "dependsOn": ["c"]}, {"name": "c", "dependsOn": ["b"]},
        {"name": "a"},
    ]})
    assert answer.status_code in (400, 422)
    told = answer.text
    assert "nowhere" in told
    assert "cycle" in told or "circle" in told
    assert len(answer.json()["errors"]) >= 3
    assert len(client.get("/runs", params={"limit": 1000}).json()["items"]) == before
