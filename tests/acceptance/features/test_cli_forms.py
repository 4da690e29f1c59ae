"""Every command in the forms for programs: valid JSON alone on standard output, no colours, one of four exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.acceptance.features.programs import (
    Program,
    cli,
    environment,
    ran,
    reaches,
    start,
    ticket_of,
    until,
)

from tenuto.cli.table import COMMANDS
from tenuto.wiring import builtin_optimizers

Served = tuple[Program, httpx.Client]

WITHOUT_RESULT = {"mcp", "serve", "worker", "demo", "chaos"}  # they run, tell a person what they do, and have no result
ELSEWHERE = {"keys generate", "keys list", "keys rotate", "keys rewrap", "keys shred", "budget settle", "findings delete",
             "notifications resend"}
# they need a sealed database, a call whose outcome was lost, an agent that found something, and a message to people; the tests of those have them
LOCAL = {"migrate", "rebuild", "doctor", "audit verify", "audit export"}
GRAPH = {"name": "formed", "nodes": [{"id": "a", "kind": "transform", "config": {"value": "1"}}], "edges": []}

PATCHED = {
    "name": "patched", "patches": {"approval": ["all"]}, "edges": [{"from": "w", "to": "a"}],
    "nodes": [{"id": "w", "kind": "wait", "config": {"signal": "go"}}, {"id": "a", "kind": "transform", "config": {"value": "1"}}],
}


def behind(source: str, name: str) -> list[dict[str, Any]]:
    """Return the operations that put a node behind another."""
    return [
        {"op": "add", "path": "/nodes/-", "value": {"id": name, "kind": "transform", "config": {"value": "2"}}},
        {"op": "add", "path": "/edges/-", "value": {"from": source, "to": name}},
    ]


@pytest.fixture(scope="module")
def things(served: Served) -> dict[str, Any]:
    """What commands need: an ended run, one that waits, one that asks, a dead letter, a stored value, a file."""
    server, client = served
    path = server.home / "formed.json"
    path.write_text(json.dumps(GRAPH))
    assert client.post("/workflows", json=GRAPH).status_code in (200, 201)
    done, other = ran(client, "formed")["id"], ran(client, "formed")["id"]
    broken = [ran(client, "mends", {"path": str(server.home / "nowhere")})["id"] for _ in range(2)]
    asking = start(client, "asks")
    ticket = ticket_of(client, asking)["id"]
    letter = client.get("/dead-letters", params={"run": broken[0]}).json()["items"][0]
    large = ran(client, "fine", {"text": "x" * 300_000})["id"]
    digest = client.get(f"/runs/{large}/artifacts").json()[0]["digest"]
    held = [start(client, "held", {"path": str(server.home / f"gate{n}")}) for n in range(3)]
    for run in held:
        until("it holds", lambda run=run: client.get(f"/runs/{run}/events", params={"type": "step.started"}).json()["items"])
    more, later = server.home / "more.json", server.home / "later.json"
    more.write_text(json.dumps(behind("w", "x")))
    later.write_text(json.dumps(behind("a", "z")))
    proposed = server.home / "proposed.json"
    proposed.write_text(json.dumps(behind("a", "y")))
    module = server.home / "module.wasm"
    module.write_bytes(builtin_optimizers()[0].module)
    patched = client.post("/runs", json={"definition": PATCHED}).json()["id"]
    until("it waits", lambda: client.get(f"/runs/{patched}").json()["status"] == "waiting")
    base = client.get(f"/runs/{patched}/patches/graph").json()["digest"]
    patches = [
        client.post(f"/runs/{patched}/patches", json={"base_digest": base, "operations": behind("w", name)}).json()["id"]
        for name in ("p", "q")
    ]  # fmt: skip
    return {"patched": patched, "patches": patches, "more": str(more), "patch": str(later), "proposed": str(proposed), "module": str(module), "folder": str(server.home / "new"), "done": done, "other": other, "broken": broken, "ticket": ticket, "letter": letter["id"], "step": letter["step"], "file": str(path),
            "digest": digest, "large": large, "held": held}  # fmt: skip


def arguments(t: dict[str, Any]) -> dict[str, list[str]]:
    """Return the arguments of every command that has a result, in an order in which they all succeed."""
    done, held = t["done"], t["held"]
    return {
        "run start": ["formed", "--wait"], "run list": [], "run status": [done], "run why": [done],
        "run steps": [done], "run events": [done], "run state": [done], "run graph": [done], "run diff": [done, t["other"]],
        "logs stream": [done], "watch": [done], "replay": [done, "--from", "a", "--wait"],
        "run signal": [held[0], "go", "--data", "1"], "run pause": [held[1]], "run resume": [held[1]],
        "run cancel": [held[2]], "run retry": [t["broken"][1], t["step"]],
        "deadletter list": [], "deadletter redrive": [t["letter"]], "tickets list": [], "notifications list": [],
        "approve": [t["ticket"], "approve", "--reason", "yes"],
        "workflow list": [], "workflow show": ["formed"], "workflow validate": [t["file"]], "workflow publish": [t["file"]],
        "workflow tag": ["formed", "prod", "latest"], "workflow patch": ["formed", t["patch"]],
        "workflow propose": ["formed", t["proposed"]],
        "workflow history": ["formed"], "workflow undo": ["formed"], "workflow redo": ["formed"],
        "workflow stats": ["formed"], "optimize": ["formed", "--dry-run"], "optimizer list": [], "optimizer add": [t["module"]],
        "optimizer show": ["module"], "optimizer disable": ["module"], "optimizer enable": ["module"], "optimizer remove": ["module"],
        "optimizer new": [t["folder"]],
        "workflow retire": ["formed"],
        "artifact list": [t["large"]], "artifact get": [t["digest"]], "artifact put": [t["file"]], "usage": [], "services": [], "run delete": [t["other"]],
        "prune": ["--before", "400d"], "version": [],
        "cache stats": [], "cache invalidate": ["--workflow", "formed"],
        "budget list": [], "budget set": ["day", "20"], "budget clear": ["day"], "budget holds": ["--lost"],
        "knowledge index": ["notes", t["file"]], "knowledge list": [], "knowledge sources": ["notes"],
        "knowledge documents": ["notes"], "knowledge search": ["formed"], "knowledge delete": ["notes"],
        "findings list": [],
        "patch list": [t["patched"]], "patch show": [t["patched"], t["patches"][0]], "patch graph": [t["patched"]],
        "patch approve": [t["patched"], t["patches"][0], "--as", "grace"], "patch undo": [t["patched"]], "patch redo": [t["patched"]],
        "patch reject": [t["patched"], t["patches"][1], "--reason", "no"], "patch propose": [t["patched"], t["more"]],
        "migrate": [], "rebuild": [], "doctor": [], "audit verify": [], "audit export": [done],
    }  # fmt: skip


def test_every_command_writes_valid_json_and_nothing_else(served: Served, things: dict[str, Any]) -> None:
    server, _ = served
    given = arguments(things)
    assert set(given) | WITHOUT_RESULT | ELSEWHERE == set(COMMANDS), "a new command belongs here"
    database = ["--database", f"sqlite:///{server.home.parent}/t.db"]
    for words, more in given.items():
        argv = [*words.split(), *more, *(database if words in LOCAL else [])]
        for form in ("json", "compact") if words in ("run list", "logs stream", "doctor", "usage") else ("json",):
            done = cli(server, *argv, "--output", form)
            assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            lines = words == "audit export" or (words, form) == ("logs stream", "compact")
            for text in done.stdout.splitlines() if lines else [done.stdout]:
                json.loads(text)
            assert "\x1b" not in done.stdout + done.stderr, words


def test_colours_are_for_terminals_that_want_them(served: Served, things: dict[str, Any]) -> None:
    def seen(**more: str) -> str:
        ours, theirs = pty.openpty()
        env = environment(served[0].home, TENUTO_API_URL=served[0].url, TERM="xterm", **more)
        env = {name: value for name, value in env.items() if name != "NO_COLOR" or "NO_COLOR" in more}
        command = [sys.executable, "-m", "tenuto", "run", "status", things["done"]]
        assert subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, env=env, timeout=30, check=False).returncode == 0
        os.close(theirs)
        text = os.read(ours, 65_536).decode()
        os.close(ours)
        return text

    assert "\x1b[" in seen()
    assert "\x1b[" not in seen(NO_COLOR="1")
    assert "\x1b[" not in cli(served[0], "run", "status", things["done"]).stdout, "nor into a pipe"


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (0, ("run", "list")), (0, ("run", "list", "--help")), (0, ("--version",)),
        (1, ("rnu",)), (1, ("run", "list", "--nonsense")), (1, ("run", "start", "mends", "--input", '{"path": "/nowhere/x"}', "--wait")),
        (2, ("run", "status", "nope")), (2, ("workflow", "show", "nope")), (2, ("approve", "nope", "approve")),
        (2, ("run", "list", "--api-url", "http://127.0.0.1:1")), (2, ("run", "list", "--token", "wrong-wrong-wrong-wrong")),
    ],
)  # fmt: skip
def test_an_exit_code_says_done_failed_or_refused(served: Served, code: int, argv: tuple[str, ...]) -> None:
    done = cli(served[0], *argv)
    assert done.returncode == code, done.stdout + done.stderr
    assert bool(done.stderr) or code == 0


def test_an_interrupted_command_ends_with_130_and_valid_json(served: Served, tmp_path: Path) -> None:
    server, client = served
    run = start(client, "held", {"path": str(tmp_path / "gate")})
    env = environment(server.home, TENUTO_API_URL=server.url)
    command = [sys.executable, "-m", "tenuto", "logs", "stream", run, "--output", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as follower:
        assert follower.stdout is not None
        first = next(line for line in follower.stdout if "run.created" in line)
        follower.send_signal(signal.SIGINT)
        rest = follower.stdout.read()
        assert follower.wait(20) == 130
    assert json.loads("[" + first + rest)[0]["type"] == "run.created"
    (tmp_path / "gate").touch()
    reaches(client, run, "completed")
