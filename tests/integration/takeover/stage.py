"""The test's end of its workers: steps report where they are and wait for the test to let them go on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

APP = "tests.integration.takeover.worker_app:app"
ADDRESS = "TENUTO_TEST_STAGE"


@dataclass
class Visit:
    """A step that has come this far, in this process, and waits."""

    name: str
    pid: int
    facts: dict[str, Any]
    _writer: asyncio.StreamWriter

    def let_go(self, answer: Any = None) -> None:
        """Let the step go on."""
        self._writer.write(msgspec.json.encode(answer) + b"\n")


class Stage:
    """Where steps report."""

    def __init__(self) -> None:
        self.visits: asyncio.Queue[Visit] = asyncio.Queue()
        self.seen: list[str] = []
        self.address = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not line:
            return
        facts = msgspec.json.decode(line)
        self.seen.append(facts["name"])
        self.visits.put_nowait(Visit(facts["name"], facts["pid"], facts, writer))
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def next(self, name: str) -> Visit:
        """Return the next step that comes; it must be of this name."""
        async with asyncio.timeout(40):
            visit = await self.visits.get()
        assert visit.name == name, visit
        return visit


@asynccontextmanager
async def open_stage() -> AsyncGenerator[Stage]:
    stage = Stage()
    server = await asyncio.start_server(stage._serve, "127.0.0.1", 0)
    stage.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stage
    finally:
        server.close()


class Workers:
    """Worker processes of the test; none is left behind."""

    def __init__(self, url: str, stage: Stage, folder: Path, app: str = APP) -> None:
        self._app = app
        self._environ = {
            **os.environ, ADDRESS: stage.address, "TENUTO_DATABASE_URL": url, "TENUTO_LEASE_S": "1.5",
            "TENUTO_HOME": str(folder), "TENUTO_STOP_GRACE_S": "0.2",
        }
        self._environ.pop("TENUTO_DATABASE", None)
        self._folder = folder
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> int:
        with (self._folder / f"worker-{len(self.processes)}.log").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tenuto", "worker", self._app], env=self._environ, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[3],
            )
        self.processes[process.pid] = process
        return process.pid

    def signal(self, pid: int, number: signal.Signals) -> None:
        self.processes[pid].send_signal(number)

    async def exited(self, pid: int) -> int:
        async with asyncio.timeout(30):
            return await asyncio.to_thread(self.processes[pid].wait)

    async def said(self, text: str) -> None:
        """Wait until some worker has written this to its log."""
        async with asyncio.timeout(30):
            while not any(text in path.read_text() for path in self._folder.glob("worker-*.log")):
                await asyncio.sleep(0.05)

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
