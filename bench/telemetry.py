"""What telemetry costs: `python -m bench.telemetry [--runs 8192] [--rounds 9]`, chains of three steps, by turns.

Off, off again, counting only, and counting while 1 % of the traces are exported take turns within each round. The collector is a
process of its own on loopback, so that its work is not ours. A figure is CPU time of the process (its exporting thread included)
or runs a second, over that of `off` in the same round: the median over rounds, and the middle half of them. `off again` is the
same as `off`, so what it shows is the noise of the machine: a difference inside of it means nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.tenuto_app import CHAIN, app
from tenuto.runtime.telemetry.options import TelemetryOptions
from tenuto.wiring import running

AT_ONCE = 256


class Sink(BaseHTTPRequestHandler):
    """Takes everything and keeps nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


async def measure(runs: int, telemetry: TelemetryOptions) -> tuple[float, float]:
    """Return CPU seconds a run, and runs a second."""
    with tempfile.TemporaryDirectory() as place:
        async with running(f"sqlite:///{Path(place) / 't.db'}", app.catalog(), telemetry=telemetry) as runtime:
            engine = runtime.engine

            async def several(count: int) -> None:
                for _ in range(count):
                    await engine.runs.execute(CHAIN, 1)

            await several(20)
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*(several(runs // AT_ONCE) for _ in range(AT_ONCE)))
            done = runs // AT_ONCE * AT_ONCE
            return (time.process_time() - cpu) / done, done / (time.perf_counter() - wall)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.collect:
        collect()
        return
    with subprocess.Popen([sys.executable, "-m", "bench.telemetry", "--collect"], stdout=subprocess.PIPE) as collector:
        assert collector.stdout is not None
        try:
            compare(args.runs, args.rounds, f"http://127.0.0.1:{int(collector.stdout.readline())}")
        finally:
            collector.kill()


def collect() -> None:
    """Take what is sent until killed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    print(server.server_port, flush=True)
    server.serve_forever()


def compare(runs: int, rounds: int, url: str) -> None:
    """Measure all modes by turns and print the table."""
    modes = {
        "off": TelemetryOptions(),
        "off again": TelemetryOptions(),
        "counts": TelemetryOptions(counts=True),
        "1 %": TelemetryOptions(counts=True, export=True, endpoint=url, ratio=0.01),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in modes}
    for turn in range(rounds):
        at = turn % len(modes)
        for name in list(modes)[at:] + list(modes)[:at]:
            found[name].append(asyncio.run(measure(runs, modes[name])))
    for name, rows in found.items():
        cpu, rate = (ratios([row[part] for row in rows], [row[part] for row in found["off"]]) for part in (0, 1))
        each = statistics.median(row[0] for row in rows) * 1e6
        print(f"{name:9} {each:6.0f} us CPU a run   CPU {cpu}   runs/s {rate}")


def ratios(these: list[float], those: list[float]) -> str:
    """Return the median of the paired ratios, and between which the middle half lies."""
    found = sorted(one / other for one, other in zip(these, those, strict=True))
    quarter = len(found) // 4
    return f"x{statistics.median(found):.3f} ({found[quarter]:.3f}-{found[-1 - quarter]:.3f})"


if __name__ == "__main__":
    main()
