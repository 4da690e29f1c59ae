"""The demo as a person starts it: real processes, a real kill, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tenuto.bundled.demo_screen import Screen

STORY_S = 110
ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("TENUTO_")}


def play(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Play the demo to its end in an empty directory."""
    return subprocess.run(
        [sys.executable, "-m", "tenuto", "demo", *args], cwd=place, env=ENVIRON, capture_output=True, text=True,
        timeout=STORY_S, check=False,
    )


def workers_of(text: str) -> list[int]:
    """Return the process ids of the workers the demo speaks of."""
    return [int(pid) for pid in re.findall(r"worker process (\d+) is up", text)]


def is_alive(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def check_story(text: str) -> None:
    """Assert that every part was told, held, and left no process."""
    assert [int(n) for n in re.findall(r"^  (\d)  \w", text, re.MULTILINE)] == [1, 2, 3, 4, 5, 6, 7]
    assert "SIGKILL" in text
    assert re.search(r"LeaseTaken, from \S+ by \S+", text)
    assert re.search(r"(\d+) calls were finished before the kill: 0 repeated", text)
    assert "12 findings and 1 summary, each exactly once" in text
    assert "chain and invariants hold" in text
    assert "accept  →  escalate" in text
    assert "FAIL" not in text
    assert "\x1b" not in text, "colours belong on a terminal"
    pids = workers_of(text)
    assert len(set(pids)) == 2
    assert not any(map(is_alive, pids))


def test_the_story_on_one_file(tmp_path: Path) -> None:
    """`demo --exit` tells the story on SQLite and exits 0; the ledger agrees with what it says."""
    done = play(tmp_path, "--exit")
    assert done.returncode == 0, done.stdout + done.stderr
    check_story(done.stdout)
    assert "Traceback" not in done.stderr
    home = tmp_path / ".tenuto" / "demo"
    entries = [json.loads(line) for line in (home / "ledger.jsonl").read_text().splitlines()]
    effects = [entry["key"] for entry in entries if entry["kind"] != "model"]
    assert len(effects) == len(set(effects)) == 14, "13 of the run and the summary of its fork"
    assert len({entry["pid"] for entry in entries}) == 2
    run = re.search(r"^ +run ([0-9a-f-]{36})$", done.stdout, re.MULTILINE)
    assert run is not None
    verified = subprocess.run(
        [sys.executable, "-m", "tenuto", "audit", "verify", run[1]], cwd=tmp_path,
        env={**ENVIRON, "TENUTO_HOME": str(home)}, capture_output=True, text=True, timeout=60, check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.postgres
def test_the_story_on_postgres(tmp_path: Path) -> None:
    """`demo --exit --postgres` brings its own server, and takes it away again."""
    done = play(tmp_path, "--exit", "--postgres")
    assert done.returncode == 0, done.stdout + done.stderr
    check_story(done.stdout)
    assert re.search(r"PostgreSQL \d+", done.stdout)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that goes on to serve its page; ended by id whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tenuto", "demo", "--port", "0"], cwd=tmp_path, env=ENVIRON,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def until(process: subprocess.Popen[str], mark: str) -> str:
    """Read the output up to a line that holds a text."""
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if mark in line:
            return "".join(seen)
    raise AssertionError("the demo ended early:\n" + "".join(seen))


def test_it_serves_its_runs_afterwards(served: subprocess.Popen[str], tmp_path: Path) -> None:
    """The link works, both runs are there, and Ctrl-C ends it all."""
    text = until(served, "stop")
    check_story(text.partition("Tenuto is ready")[0])
    assert re.search(r"open +http://127\.0\.0\.1:\d+/#code=\S+", text)
    home = tmp_path / ".tenuto" / "demo"
    url = json.loads((home / "server.json").read_text())["url"]
    token = (home / "token").read_text().strip()
    request = Request(f"{url}/api/v1/runs", headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=10) as answer:
        runs = json.load(answer)["items"]
    assert sorted((run["labels"]["demo"], run["status"]) for run in runs) == [
        ("fork", "completed"), ("original", "completed")
    ]
    served.send_signal(signal.SIGINT)
    assert served.wait(20) == 0


def test_ending_it_early_ends_its_workers(served: subprocess.Popen[str]) -> None:
    """SIGTERM in the middle leaves no worker behind."""
    (pid,) = workers_of(until(served, "is up"))
    assert is_alive(pid)
    served.send_signal(signal.SIGTERM)
    assert served.wait(20) == 130
    assert not is_alive(pid)


def test_a_database_that_cannot_be_used_is_a_reason(tmp_path: Path) -> None:
    """The demo says what is wrong, and exits 1."""
    done = play(tmp_path, "--exit", "--database", "mysql://somewhere")
    assert done.returncode == 1
    assert "unknown scheme 'mysql'" in done.stderr


def test_a_plain_terminal_gets_plain_letters() -> None:
    """Where only ASCII can be shown, arrows and marks are spelled out."""
    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    screen.good("a → b")
    screen.progress(1, 2, "steps")
    assert raw.getvalue().decode() == "     ok a -> b\n     1 of 2 steps\n"
