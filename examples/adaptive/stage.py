"""What the story needs around it: the shop, a server with its worker, and the command line as a person types it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tenuto.bundled.demo_screen import Screen

HERE = Path(__file__).parent
PATIENCE_S = 60
ENOUGH = 10
"""Runs before a change and after it that it takes to say what the change saved; the shipped setting is 20."""


class Stage:
    """Runs what is needed in a folder, and shows every command with what it says."""

    def __init__(self, place: Path, screen: Screen, closing: ExitStack) -> None:
        """Start the shop and the server; both end with `closing`."""
        self.place, self.screen, self._closing = place, screen, closing
        self.failed = 0
        shop = self._start("shop", [sys.executable, str(HERE / "shop.py")], {}, out=subprocess.PIPE)
        assert shop.stdout is not None
        port = int(shop.stdout.readline())
        settings = {
            "SHOP_URL": f"http://127.0.0.1:{port}", "TENUTO_HTTP_ALLOW": f"127.0.0.1:{port}",
            "TENUTO_START_RATES": '{"standard": 0}', "TENUTO_OPTIMIZERS": f'{{"min_runs": {ENOUGH}}}',
        }  # fmt: skip
        app = f"{HERE / 'desk.py'}:app"
        note = place / ".tenuto" / "server.json"
        note.unlink(missing_ok=True)
        server = self._start("server", [sys.executable, "-m", "tenuto", "serve", app, "--port", "0"], settings)
        until = time.monotonic() + PATIENCE_S
        # The note is there when the server answers; a file calls nobody.
        while not note.exists():
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit("the server did not start:\n" + (place / "server.log").read_text())
            time.sleep(0.05)
        self.url = json.loads(note.read_text())["url"]
        self._token = (place / ".tenuto" / "token").read_text().strip()

    def _start(self, name: str, command: list[str], more: dict[str, str], out: int | None = None) -> subprocess.Popen[str]:
        with (self.place / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.place, env={**clean(), **more}, stdin=subprocess.DEVNULL, stdout=out or log, stderr=log,
                text=True,
            )  # fmt: skip
        self._closing.callback(process.wait, PATIENCE_S)
        self._closing.callback(process.terminate)
        return process

    def tenuto(self, *words: str, quiet: bool = False, fails: bool = False) -> str:
        """Run one command of `tenuto`, show it with what it says, and return what it wrote to standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "tenuto", *words], cwd=self.place, env=clean(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        if not quiet:
            self.screen.say(self.screen.paint(f"$ tenuto {shlex.join(words)}", "bold"))
            for line in done.stdout.rstrip().splitlines():
                self.screen.say(self.screen.paint(f"  {line}", "dim"))
        if (done.returncode != 0) != fails:
            raise SystemExit(f"tenuto {shlex.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def told(self, *words: str) -> Any:
        """Return what a command says in JSON, without showing it."""
        return json.loads(self.tenuto(*words, "--output", "json", quiet=True))

    def call(self, path: str, body: Any = None) -> Any:
        """Return what the HTTP API answers to a GET, or to a POST of a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        asked = Request(f"{self.url}/api/v1{path}", data, headers)
        with urlopen(asked, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def newest(self) -> str:
        """Return the id of the run that was started last."""
        return self.told("run", "list")["items"][0]["id"]

    def until(self, run: str, *, waits_at: str) -> dict[str, Any]:
        """Return the open ticket of a run that asks people at a step, once it does."""
        until = time.monotonic() + PATIENCE_S
        # Many commands of many processes; the API's long poll is for ends of runs, not for tickets.
        while time.monotonic() < until:
            for ticket in self.told("tickets", "list")["items"]:
                if ticket["run"] == run and waits_at in (ticket["step"], ticket["kind"]):
                    return ticket
            time.sleep(0.05)
        raise SystemExit(f"run {run} opened no ticket at {waits_at!r}: {self.told('run', 'status', run)}")

    def measured(self, workflow: str) -> dict[str, Any]:
        """Return what the newest change of a workflow saved, once the lists across runs know of enough runs."""
        until = time.monotonic() + PATIENCE_S
        # The lists follow in their own time, and tell nobody.
        while time.monotonic() < until:
            newest = self.told("optimize", workflow, "--gains")["items"][0]
            if newest["measured"] is not None:
                return newest
            time.sleep(0.2)
        raise SystemExit(f"what the change saved is not known: {newest['note']}")

    def promise(self, what: str, held: bool) -> None:
        """Show whether something held."""
        (self.screen.good if held else self.screen.bad)(what)
        self.failed += not held


def clean() -> dict[str, str]:
    """Return the environment without settings of other installations; paths lead into the story's folder."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TENUTO_")}
