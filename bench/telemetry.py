"""What telemetry costs: `python -m bench.telemetry [--runs 2000] [--rounds 7]`, chains of three steps, by turns.

Off, counting only, and exporting 1 % of the traces to a collector on loopback take turns within each round; the figure is CPU
time of the process and runs a second over those of `off` in the same round, as the median over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
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
    parser.add_argument("--runs", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    modes = {
        "off": TelemetryOptions(),
        "counts": TelemetryOptions(counts=True),
        "1 %": TelemetryOptions(counts=True, export=True, endpoint=url, ratio=0.01),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in modes}
    for turn in range(args.rounds):
        for name in list(modes)[turn % 3 :] + list(modes)[: turn % 3]:
            found[name].append(asyncio.run(measure(args.runs, modes[name])))
    for name, rows in found.items():
        cpu = statistics.median(row[0] / off[0] for row, off in zip(rows, found["off"], strict=True))
        rate = statistics.median(row[1] / off[1] for row, off in zip(rows, found["off"], strict=True))
        each = statistics.median(row[0] for row in rows) * 1e6
        print(f"{name:7} {each:8.0f} us CPU a run   CPU x{cpu:.3f}   runs/s x{rate:.3f}")
    server.shutdown()


if __name__ == "__main__":
    main()
