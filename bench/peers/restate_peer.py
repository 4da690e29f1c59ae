"""Restate: one server with its own log, one Python worker over HTTP/2, driven over the server's ingress.

The client's CPU is the worker's and the driver's together, as where one process does both.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import measure
from bench.http1 import Connection, HttpFailed
from bench.measure import StepClock
from bench.peer import Peer, Stage, drive
from bench.ports import free_ports

AT_A_TIME = 256
PARK_SETTLE_S = 30.0
PARK_INACTIVITY = "1s"
"""The shortest patience the server takes: it lets go of a waiting handler after this long."""

MACHINE = {"x86_64": "x64", "aarch64": "arm64"}


class Restate(Peer):
    warm_up_chains = 100

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.settings = {"at_a_time": AT_A_TIME}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._free: list[Connection] = []

    async def open(self) -> None:
        ingress, admin, node, service = free_ports(4)
        self._start([str(_server_program())], self._server_settings(ingress, admin, node))
        worker = [
            sys.executable,
            "-m",
            "bench.peers.restate_worker",
            str(service),
            str(self._processes[0].pid),
        ]
        self._start(worker, {})
        await _register(admin, service)
        at_a_time = AT_A_TIME if self.stage.work in ("W1", "W5") else 8
        self._free = [await Connection.open(ingress) for _ in range(at_a_time)]

    def _server_settings(self, ingress: int, admin: int, node: int) -> dict[str, str]:
        settings = {
            "DO_NOT_TRACK": "1",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "error",
            "RESTATE_BASE_DIR": str(self.stage.place),
            "RESTATE_NODE_NAME": "n1",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}/",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        }
        if self.stage.work == "W5":
            settings["RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT"] = PARK_INACTIVITY
        return settings

    def _start(self, command: list[str], settings: dict[str, str]) -> None:
        self._processes.append(
            subprocess.Popen(
                command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=sys.stderr
            )
        )

    async def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                await asyncio.to_thread(process.wait, 8)
            except subprocess.TimeoutExpired:
                process.kill()

    def server_pids(self) -> Sequence[int]:
        return (self._processes[0].pid,)

    def worker_pids(self) -> Sequence[int]:
        return (self._processes[1].pid,)

    def server_memory_mb(self) -> float:
        return measure.rss_mb(self._processes[0].pid)

    async def _call(self, path: str, body: Any) -> Any:
        connection = self._free.pop()
        try:
            return await connection.request("POST", path, body)
        finally:
            self._free.append(connection)

    async def chains(self, n: int) -> None:
        await drive(n, len(self._free), lambda i: self._call("/Bench/chain", 3))

    async def chain(self, steps: int) -> StepClock:
        clock = self.clock()
        clock.stamps = await self._call("/Bench/chain", steps)
        return clock

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        clock = self.clock(sample_every)
        seen = await self._call("/Bench/grow", [steps, sample_every])
        clock.stamps, clock.cpu = seen["stamps"], seen["cpu"]
        return clock

    async def fan(self, width: int) -> None:
        assert await self._call("/Bench/fan", width) == width

    async def park(self, n: int) -> None:
        await drive(n, len(self._free), lambda i: self._call("/Bench/park/send", 3))
        await asyncio.sleep(PARK_SETTLE_S)


def _server_program() -> Path:
    home = Path(sys.prefix) / "node" / "node_modules" / "@restatedev"
    return home / f"restate-server-linux-{MACHINE[platform.machine()]}" / "bin" / "restate-server"


async def _register(admin: int, service: int, attempts: int = 120) -> None:
    for left in reversed(range(attempts)):
        try:
            connection = await Connection.open(admin)
            await connection.request("POST", "/deployments", {"uri": f"http://127.0.0.1:{service}"})
            connection.close()
            return
        except (OSError, HttpFailed, asyncio.IncompleteReadError):
            if not left:
                raise
            await asyncio.sleep(0.5)


PEER = Restate
