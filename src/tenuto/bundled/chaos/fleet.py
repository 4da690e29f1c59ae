"""The processes of a chaos run: workers that are killed, stopped and started again, and the ledger that is not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tenuto.bundled.chaos.app import TRUSTING
from tenuto.bundled.chaos.outside import FAILURES, LEDGER

APP = "tenuto.bundled.chaos.app:app"
_STOP_S = 20
FENCED = "belongs to another worker"
_DROPPED = re.compile(r"the lease of \S+ ended; dropping ([1-9]\d*) runs")
_ERROR = re.compile(r"^\S+ ERROR +(.*)$")


class WorkerProcess:
    """One `tenuto worker`; its log goes to a file of its own.

    Attributes:
        trusting: Whether it believes in its lease for ever, so that only the store's fence holds it back.
    """

    def __init__(self, number: int, folder: Path, environ: dict[str, str], *, trusting: bool) -> None:
        """Start the process."""
        self.log = folder / f"worker-{number:03d}.log"
        self.trusting = trusting
        self.stopped = False
        given = {**environ, TRUSTING: "1"} if trusting else environ
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tenuto", "worker", APP], env=given, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def alive(self) -> bool:
        """Return whether it runs; one that is stopped does."""
        return self._process.poll() is None

    def ready(self) -> bool:
        """Return whether it works: up, not stopped, and it said so."""
        return self.alive() and not self.stopped and b"is ready" in self.log.read_bytes()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def ended(self) -> bool:
        """Wait until it has stopped, as it was told to; return whether it did so by itself."""
        try:
            return self._process.wait(_STOP_S) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False


class Logs:
    """What the workers wrote about refused writes and about trouble."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.fenced = 0
        self.dropped = 0
        self.errors: dict[str, int] = {}

    def read(self, path: Path) -> None:
        """Count a worker's lines."""
        for line in path.read_text("utf-8", "replace").splitlines():
            if FENCED in line:
                self.fenced += 1
            elif _DROPPED.search(line):
                self.dropped += 1
            elif found := _ERROR.match(line):
                said = re.sub(r"[0-9a-f-]{36}", "…", found[1])
                self.errors[said] = self.errors.get(said, 0) + 1


class Fleet:
    """A fixed number of workers on one store."""

    def __init__(self, size: int, folder: Path, url: str, ledger: str, failures: float, lease_s: float) -> None:
        """Prepare; nothing is started yet."""
        self.size = size
        self.folder = folder
        self.started: list[WorkerProcess] = []
        self.slots: list[WorkerProcess] = []
        self.deaths: dict[int, float] = {}
        self._environ = {
            **os.environ, "TENUTO_DATABASE_URL": url, "TENUTO_LEASE_S": f"{lease_s:g}", "TENUTO_HOME": str(folder),
            LEDGER: ledger, FAILURES: f"{failures:g}", "TENUTO_LOG_FORMAT": "text", "TENUTO_LOG_LEVEL": "info",
        }
        self._environ.pop("TENUTO_DATABASE", None)
        self._environ.pop(TRUSTING, None)

    def start(self) -> None:
        """Start all workers."""
        self.slots = [self._new(at) for at in range(self.size)]

    def _new(self, slot: int) -> WorkerProcess:
        # Of every two workers one trusts its clock: both ways to be a zombie are tried.
        process = WorkerProcess(len(self.started), self.folder, self._environ, trusting=slot % 2 == 0)
        self.started.append(process)
        return process

    def replace_dead(self) -> list[int]:
        """Start a worker for each that is gone; return the ids of those that died without being killed by us."""
        found: list[int] = []
        for at, process in enumerate(self.slots):
            if not process.alive():
                if process.pid not in self.deaths:
                    found.append(process.pid)
                self.slots[at] = self._new(at)
        return found

    def end(self) -> int:
        """Stop all workers gracefully; return how many had to be killed."""
        for process in self.slots:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        return sum(not process.ended() for process in self.slots)

    def logs(self) -> Logs:
        """Return what all workers wrote, the dead ones included."""
        logs = Logs()
        for process in self.started:
            logs.read(process.log)
        return logs


class LedgerProcess:
    """The ledger, in a process of its own that nothing kills."""

    def __init__(self, path: Path) -> None:
        """Start it and learn its address."""
        self.path = path
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tenuto.bundled.chaos.ledger", str(path)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.address = f"127.0.0.1:{self._process.stdout.readline().decode().strip()}"

    def end(self) -> None:
        """Stop it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
