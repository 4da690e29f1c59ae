"""Tenuto as people meet it: `serve` and `worker` processes, an HTTP client, the command line, streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

TOKEN = "a-token-for-tests-only"
HERE = Path(__file__).parent
PATIENCE_S = 20.0
ENDED = {"completed", "failed", "cancelled", "budget_exceeded"}


def until(what: str, probe: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Any:
    """Ask again and again until the answer is true, and return it; fail with what was waited for."""
    end = time.monotonic() + patience_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience_s:g} s: {what}; last answer {found!r}")
        time.sleep(0.02)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return what a process sees: nothing of this machine's settings, a token, its own directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENUTO_")}
    path = os.pathsep.join([str(HERE), *sys.path])
    return {**kept, "PYTHONPATH": path, "TENUTO_TOKEN": TOKEN, "TENUTO_HOME": str(home), **more}


@dataclass
class Program:
    """A process of Tenuto; everything it writes is kept in a file."""

    process: subprocess.Popen[bytes]
    home: Path
    log: Path
    url: str = ""

    def text(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str, *, patience_s: float = PATIENCE_S) -> str:
        """Wait until it has written something."""
        def found() -> str:
            text = self.text()
            assert words in text or self.process.poll() is None, f"ended with {self.process.returncode}:\n{text}"
            return text if words in text else ""

        return until(f"{words!r} in the log", found, patience_s=patience_s)

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end when asked to:\n{self.text()[-4000:]}") from None

    def client(self, **options: Any) -> httpx.Client:
        """Return an authorised client of its API."""
        options.setdefault("headers", {"Authorization": f"Bearer {TOKEN}"})
        return httpx.Client(base_url=f"{self.url}/api/v1", timeout=60, **options)


@dataclass
class Place:
    """A directory with a database, in which programs run."""

    home: Path
    database: str
    app: str = ""
    programs: list[Program] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Begin with no programs."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every program that is left."""
        self.stack.close()
        for program in self.programs:
            if program.process.poll() is None:
                program.kill()

    def start(self, command: str, *flags: str, env: Mapping[str, str] | None = None, app: str | None = None,
              home: Path | None = None, **options: Any) -> Program:
        """Start a program on the database."""
        number = len(self.programs)
        folder = home or self.home / f"p{number}"
        folder.mkdir(parents=True, exist_ok=True)
        name = self.app if app is None else app
        argv = [sys.executable, "-m", "tenuto", command, *([name] if name else []), "--database", self.database, *flags]
        log = folder / "log.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=environment(folder, **(env or {})), **options,
            )
        program = Program(process, folder, log)
        self.programs.append(program)
        return program

    def serve(self, *flags: str, port: int = 0, **options: Any) -> Program:
        """Start a server and wait until it is ready."""
        program = self.start("serve", "--port", str(port), *flags, **options)
        program.says("Tenuto is ready")
        program.url = json.loads((program.home / "server.json").read_text())["url"]
        return program

    def worker(self, *flags: str, **options: Any) -> Program:
        """Start a worker and wait until it works."""
        program = self.start("worker", *flags, **options)
        program.says("is ready")
        return program

    def client(self, program: Program) -> httpx.Client:
        """Return a client that is closed with the place."""
        return self.stack.enter_context(program.client())


@contextmanager
def examples(home: Path, database: str = "") -> Iterator[tuple[Program, httpx.Client]]:
    """Serve the bundled examples."""
    with Place(home, database or f"sqlite:///{home}/t.db") as place:
        server = place.serve()
        yield server, place.client(server)


def cli(server: Program, *argv: str, stdin: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line against a server, as a person does."""
    env = environment(server.home, **{"TENUTO_API_URL": server.url, **more})
    return subprocess.run(
        [sys.executable, "-m", "tenuto", *argv], capture_output=True, text=True, env=env, timeout=40, check=False,
        input=stdin, cwd=server.home,
    )


def told(server: Program, *argv: str) -> Any:
    """Run the command line with JSON output, and return what it says; it must succeed."""
    done = cli(server, *argv, "--output", "json")
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def start(client: httpx.Client, workflow: str, given: Any = None, **options: Any) -> str:
    """Start a run and return its id."""
    answer = client.post("/runs", json={"workflow": workflow, "input": given, **options})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client: httpx.Client, run: str, *, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Wait for a run's end and return it."""
    def look() -> dict[str, Any] | None:
        view = client.get(f"/runs/{run}", params={"wait": 5}).json()
        return view if view["status"] in ENDED else None

    return until(f"run {run} ends", look, patience_s=patience_s)


def ran(client: httpx.Client, workflow: str, given: Any = None, **options: Any) -> dict[str, Any]:
    """Start a run and wait for its end."""
    return ended(client, start(client, workflow, given, **options))


def reaches(client: httpx.Client, run: str, status: str) -> dict[str, Any]:
    """Wait until a run has a status."""
    def look() -> dict[str, Any] | None:
        view = client.get(f"/runs/{run}").json()
        return view if view["status"] == status else None

    return until(f"run {run} is {status}", look)


def ticket_of(client: httpx.Client, run: str, kind: str = "approval") -> dict[str, Any]:
    """Wait for a run's open ticket."""
    def look() -> Any:
        return client.get("/tickets", params={"run": run, "state": "open", "kind": kind}).json()["items"]

    return until(f"run {run} asks", look)[0]


def events(client: httpx.Client, run: str, **params: Any) -> list[dict[str, Any]]:
    """Return all events of a run."""
    return client.get(f"/runs/{run}/events", params={"limit": 1000, **params}).json()["items"]


def audit(client: httpx.Client, run: str) -> dict[str, Any]:
    """Return a run's audit trail."""
    return client.get(f"/runs/{run}/audit", params={"limit": 1000}).json()


def sse(lines: Iterator[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield `(id, event, data)` of a stream of server-sent events; a comment or a bare id yields nothing."""
    entry: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in entry:
                yield entry.get("id", ""), entry.get("event", ""), json.loads(entry["data"])
            entry = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            entry[name] = value
