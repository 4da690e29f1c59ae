"""Clocks of a measured stretch: wall, CPU by whom, memory. Standard library only: it runs in every peer.

CPU time is the figure to trust on a shared machine; wall time is reported beside how busy the others were.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Context manager that measures wall time and CPU of one stretch.

    `client` is this process and `workers`; `server` is every process under `servers` (the database, or a
    peer's own server); `other_cores` is what programs outside the benchmark used meanwhile.
    """

    def __init__(self, *, servers: Iterable[int] = (), workers: Iterable[int] = ()) -> None:
        self._servers, self._workers = tuple(servers), tuple(workers)
        self.wall_s = self.client_s = self.server_s = self.other_cores = 0.0

    def __enter__(self) -> Meter:
        wait_until_quiet()
        self._busy = _machine_busy_s()
        self._server, self._client = self._server_cpu(), self._client_cpu()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._start
        self.client_s = self._client_cpu() - self._client
        self.server_s = self._server_cpu() - self._server
        busy = _machine_busy_s() - self._busy
        self.other_cores = max(0.0, busy - self.client_s - self.server_s) / self.wall_s

    def per_step(self, steps: int) -> dict[str, float]:
        return {
            "wall_s": self.wall_s,
            "client_cpu_ms_step": self.client_s * 1e3 / steps,
            "server_cpu_ms_step": self.server_s * 1e3 / steps,
            "other_cores": self.other_cores,
        }

    def _client_cpu(self) -> float:
        return time.process_time() + sum(map(tree_cpu_s, self._workers))

    def _server_cpu(self) -> float:
        return sum(map(tree_cpu_s, self._servers))


class StepClock:
    """Stamps every step's entry, and samples CPU at a few even points, so that growth shows as a curve.

    Args:
        every: Steps between two CPU samples; 0 takes none.
        servers: Process trees whose CPU counts as the server's.
    """

    def __init__(self, every: int = 0, servers: Iterable[int] = ()) -> None:
        self.stamps: list[float] = []
        self.cpu: list[tuple[float, float]] = []
        self._every, self._servers = every, tuple(servers)

    def tick(self) -> None:
        if self._every and len(self.stamps) % self._every == 0:
            self.sample()
        self.stamps.append(time.perf_counter())

    def sample(self) -> None:
        self.cpu.append((time.process_time(), sum(map(tree_cpu_s, self._servers))))

    def hops_ms(self) -> list[float]:
        return [(b - a) * 1e3 for a, b in pairwise(self.stamps)]

    def cpu_curve_ms(self) -> list[float]:
        """CPU a step, client and server together, of each stretch between two samples."""
        totals = [client + server for client, server in self.cpu]
        return [(b - a) * 1e3 / self._every for a, b in pairwise(totals)]


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def hop_figures(hops_ms: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": statistics.median(hops_ms),
        "p99_ms": percentile(hops_ms, 0.99),
        "hops": float(len(hops_ms)),
    }


def growth_figures(clock: StepClock) -> dict[str, float | list[float]]:
    """Compare the start of a long run with its end: wall by first and last tenth, CPU by samples.

    The first ten steps are left out: they pay for what is loaded once.
    """
    hops = clock.hops_ms()
    edge = max(5, min(200, len(hops) // 10))
    first, last = statistics.mean(hops[10 : 10 + edge]), statistics.mean(hops[-edge:])
    curve = clock.cpu_curve_ms()
    end = len(hops) - len(hops) % 20
    buckets = [statistics.mean(hops[i : i + end // 20]) for i in range(0, end, end // 20)] if end else []
    figures: dict[str, float | list[float]] = {
        "first_ms": first,
        "last_ms": last,
        "last_over_first": last / first,
        "wall_curve_ms": buckets,
        "cpu_curve_ms": curve,
    }
    if len(curve) >= 4:
        # Medians of three stretches: one alone is a few clock ticks long.
        figures["cpu_last_over_first"] = statistics.median(curve[-3:]) / max(
            statistics.median(curve[:3]), 1e-9
        )
    return figures


def rss_mb(pid: int | str = "self") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def tree_cpu_s(root: int) -> float:
    """CPU seconds of a process, its live descendants and those they have reaped."""
    total = 0
    for pid in (root, *descendants(root)):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # It ended between the listing and the reading; its parent has its time.
        total += sum(int(x) for x in stat.rsplit(")", 1)[1].split()[11:15])
    return total / _TICKS


def descendants(root: int) -> list[int]:
    """Live descendants, by the kernel's own list of children: no walk over every process of the machine."""
    found: list[int] = []
    queue = [root]
    while queue:
        pid = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
            children = [
                int(x) for t in tasks for x in Path(f"/proc/{pid}/task/{t}/children").read_text().split()
            ]
        except OSError:
            continue  # It ended meanwhile.
        found += children
        queue += children
    return found


def wait_until_quiet(most_s: float | None = None, idle: float = 0.75) -> bool:
    """Wait, for a bounded time, for a second in which most of the machine is free; tell whether it came."""
    most = float(os.environ.get("TENUTO_BENCH_QUIET_S", "10")) if most_s is None else most_s
    end = time.monotonic() + most
    while time.monotonic() < end:
        before = _machine_busy_s()
        time.sleep(1)
        if (_machine_busy_s() - before) / (os.cpu_count() or 1) < 1 - idle:
            return True
    return False


def _machine_busy_s() -> float:
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / _TICKS


def fresh_file(path: Path) -> Path:
    """Return the path with nothing at it, not even a write-ahead log left by a killed process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return path


def sqlite_bytes(path: Path) -> int:
    """Size at rest: the write-ahead log is folded into the file before it is measured."""
    connection = sqlite3.connect(path, timeout=10)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    return sum(os.path.getsize(f"{path}{s}") for s in ("", "-wal") if os.path.exists(f"{path}{s}"))


def directory_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
