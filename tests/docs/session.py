"""Plays a page as a reader would: writes its files, types its commands, in one directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.docs.pages import Block

SERVERS = ("tenuto serve", "tenuto worker")
_BIN = Path(sys.executable).parent
_PATIENCE_S = 30.0


class Session:
    """One reader's directory, with the servers started in it."""

    def __init__(self, home: Path, database: str = "") -> None:
        """Begin in an empty directory; `DATABASE` in commands stands for the URL of a database."""
        self.home = home
        self.database = database
        self.servers: list[subprocess.Popen[bytes]] = []
        self.run_ids: list[str] = []
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TENUTO_")}
        self.env = {
            **clean,
            "PATH": f"{_BIN}{os.pathsep}{clean.get('PATH', '')}",
            "TENUTO_PORT": "0",
            "TENUTO_LEASE_S": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
        }

    def play(self, block: Block) -> None:
        """Do what a block says."""
        if block.title:
            path = self.home / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.language == "python":
            self._python(block)
        elif block.language in ("bash", "sh"):
            for command in commands(block.text):
                self._command(command)
        elif block.language == "json":
            json.loads(block.text)

    def close(self) -> None:
        """End what was started."""
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(timeout=_PATIENCE_S)

    def _python(self, block: Block) -> None:
        target = block.title or "block.py"
        if not block.title:
            (self.home / target).write_text(block.text, encoding="utf-8")
            self._finish([sys.executable, target], target)
        elif target.endswith(".py"):
            module = target[:-3].replace("/", ".")
            self._finish([sys.executable, "-c", f"import {module}"], target)

    def _command(self, command: str) -> None:
        if command.startswith(SERVERS):
            self._serve(command)
            return
        command = self._filled(command)
        if command.startswith("kill -9 "):
            self._kill()
            return
        self._finish(["bash", "-ec", command], command)

    def _serve(self, command: str) -> None:
        note = self.home / ".tenuto" / "server.json"
        if command.startswith("tenuto serve"):
            note.unlink(missing_ok=True)
        command = command.replace("DATABASE", self.database)
        path = self.home / f"server-{len(self.servers)}.log"
        with path.open("wb") as log:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.home, env=self.env, stdout=log, stderr=log
            )
        self.servers.append(server)
        if not command.startswith("tenuto serve"):
            return
        deadline = time.monotonic() + _PATIENCE_S
        # The note appears when the server serves; nobody is told of a new file.
        while not note.exists():
            assert server.poll() is None, path.read_text()
            assert time.monotonic() < deadline, f"{command}: no server after {_PATIENCE_S} s"
            time.sleep(0.05)

    def _kill(self) -> None:
        pid = json.loads((self.home / ".tenuto" / "server.json").read_text())["pid"]
        server = next(server for server in self.servers if server.pid == pid)
        server.kill()
        server.wait(timeout=_PATIENCE_S)

    def _filled(self, command: str) -> str:
        """Put real ids where a reader would."""
        words = command.split()
        if "RUN" in words or "ORIGIN" in words:
            ids = [item["id"] for item in self._ask("run list")["items"]]
            command = _put(command, "RUN", ids[0])
            command = _put(command, "ORIGIN", ids[-1])
        if "TICKET" in words:
            command = _put(command, "TICKET", self._wait_for("tickets list"))
        if "PROPOSAL" in words:
            command = _put(command, "PROPOSAL", self._wait_for("patch list"))
        if "PATCH" in words:
            run = self._ask("run list")["items"][0]["id"]
            command = _put(command, "PATCH", self._ask(f"patch list {run}")["items"][-1]["id"])
        if "LETTER" in words:
            command = _put(command, "LETTER", self._wait_for("deadletter list"))
        return command.replace("DATABASE", self.database)

    def _wait_for(self, what: str) -> str:
        deadline = time.monotonic() + _PATIENCE_S
        while not (items := self._ask(what)["items"]):
            assert time.monotonic() < deadline, f"nothing came up in: tenuto {what}"
            time.sleep(0.1)
        return items[0]["id"]

    def _ask(self, what: str) -> Any:
        command = ["tenuto", *what.split(), "--output", "json"]
        return json.loads(self._finish(command, what))

    def _finish(self, command: list[str], title: str) -> str:
        done = subprocess.run(
            command, cwd=self.home, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        logs = "".join(
            f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.home.glob("server-*.log"))
        )
        told = f"{title}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}\n{logs}"
        assert done.returncode == 0, told
        return done.stdout


def commands(text: str) -> list[str]:
    """Return a block's commands, continued lines joined, comments dropped."""
    joined = text.replace("\\\n", " ")
    found = [line.partition(" # ")[0].partition("   # ")[0].strip() for line in joined.splitlines()]
    return [line for line in found if line and not line.startswith("#")]


def _put(command: str, word: str, value: str) -> str:
    return " ".join(value if part == word else part for part in command.split(" "))
