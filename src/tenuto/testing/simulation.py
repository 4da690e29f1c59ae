"""Deterministic simulation: the whole engine on virtual time under planned faults, one seed at a time.

The same seed gives the same history, byte for byte, so every failure can be looked at again::

    python -m tenuto.testing.simulation --seed 42 --trace
    python -m tenuto.testing.simulation --seeds 0..9999 --processes 2
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import copy_context
from random import Random

import msgspec

from tenuto.runtime.worker import actor as actor_module
from tenuto.runtime.worker import lease as lease_module
from tenuto.testing.faulty import MOMENTS, POINTS, Fault
from tenuto.testing.loop import NODE, Stalled, VirtualLoop, cancel_all
from tenuto.testing.report import Report
from tenuto.testing.simulation_check import Judge
from tenuto.testing.simulation_client import Client
from tenuto.testing.simulation_cluster import SimCluster
from tenuto.testing.simulation_money import Purse
from tenuto.testing.simulation_people import Person, Reader
from tenuto.testing.simulation_world import WORLD
from tenuto.testing.workloads import choose, scenarios
from tenuto.testing.workloads_cached import cached
from tenuto.testing.workloads_kinds import Scenario
from tenuto.testing.workloads_patches import patched
from tenuto.testing.workloads_people import priced

RUNS = 22
WORKERS = 3
LIMIT_S = 240.0
SPENDING, SPENDING_AT, PATCHING_AT, CACHING_AT = 10, 3, 7, 9
"""Of so many seeds one, at this place, has runs that spend under shared caps."""
SNAPSHOT_BYTES = 1500
CALM_S = 16.0
"""Longer than any fault lasts: whoever lives must be at work again by then."""

MOST_STEPS = 60_000
"""Callbacks of one history; a healthy one needs a tenth, so more mean that something goes round and round."""


class Verdict(msgspec.Struct):
    """What became of a seed.

    Attributes:
        wrong: Everything that was broken; empty is good.
        digest: Of the whole history.
        trace: Its last lines.
    """

    seed: int
    wrong: list[str]
    digest: str
    faults: int
    seconds: float
    steps: int
    trace: list[str]
    report: Report


def plan_faults(random: Random) -> list[Fault]:
    """Return at least ten faults that happen, in time and at points that runs pass."""
    moments = [random.choice(MOMENTS) for _ in range(13)]
    points = random.sample(POINTS, 8)
    plan = [Fault(name, 0.3 + random.random() * 11, 0.5 + random.random() * 7) for name in moments]
    return plan + [Fault(name, 0.2 + random.random() * 9, 0.5 + random.random() * 7) for name in points]


def run_seed(seed: int, *, runs: int = RUNS, workers: int = WORKERS, only: str = "") -> Verdict:
    """Live one history and judge it. `only` fills it with one kind of run."""
    random = Random(seed)
    loop = VirtualLoop(shuffle=random if seed % 2 else None, limit=MOST_STEPS)
    spends = seed % SPENDING == SPENDING_AT
    groups = {SPENDING_AT: priced, PATCHING_AT: patched, CACHING_AT: cached}
    special = groups[seed % SPENDING]() if seed % SPENDING in groups else []
    kinds = choose(random, 10_000 if only else runs, () if only else special)
    if only:
        kinds = [kind for kind in kinds if kind.name == only][:runs] or [scenarios()[only]] * runs
    cluster = SimCluster(loop, random, plan_faults(random), workers=workers)
    cluster.spends = spends or any(kind.name.startswith("buys") for kind in kinds)
    with _stage(cluster) as logged:
        clients = {}
        context = copy_context()
        try:
            context.run(_enter, cluster)
            clients = context.run(_live, loop, cluster, kinds)
        finally:
            cluster.end()
            logged.stop()
            context.run(cancel_all, loop)
    report = Report(seeds=1, faults=dict(cluster.faults.happened), seen=dict(cluster.faults.seen))
    judge = Judge(cluster.db, cluster.world, cluster.evidence, report)
    judge.judge(clients)
    wrong = cluster.wrong + judge.found + logged.errors
    wrong += [f"an error nobody handled: {error}" for error in loop.errors]
    faults = sum(cluster.faults.happened.values())
    if faults < 10:
        wrong.append(f"only {faults} faults happened; a seed needs 10")
    report.failed = int(bool(wrong))
    seconds, steps = loop.time(), loop.steps
    loop.close()
    return Verdict(seed, wrong, cluster.digest, faults, seconds, steps, cluster.trace, report)


def _enter(cluster: SimCluster) -> None:
    WORLD.set(cluster.world)
    NODE.set("")


def _live(loop: VirtualLoop, cluster: SimCluster, kinds: list[Scenario]) -> dict[str, Scenario]:
    random = cluster.random
    ids = [f"{0x18BCFE56800 + i:012x}"[:8] + f"-{i:04x}-7000-8000-{random.getrandbits(48):012x}" for i in range(len(kinds))]
    clients = [Client(cluster, kind, run_id) for kind, run_id in zip(kinds, ids, strict=True)]
    person = Person(cluster, {client.run_id: client.scenario.verdict for client in clients})

    reader = Reader(cluster, random.sample(ids, min(2, len(ids))), cluster.evidence.read)

    async def main() -> None:
        await cluster.start()
        others = (person.work(), reader.work(), *((Purse(cluster).work(),) if cluster.spends else ()))
        helpers = [asyncio.get_running_loop().create_task(work) for work in others]
        work = [asyncio.get_running_loop().create_task(client.go()) for client in clients]
        done, pending = await asyncio.wait(work, timeout=LIMIT_S)
        cluster.wrong += [f"a client failed: {task.exception()!r}" for task in done if task.exception() is not None]
        for task, client in zip(work, clients, strict=True):
            if task in pending:
                cluster.wrong.append(f"{client.run_id} ({client.scenario.name}): no end within {LIMIT_S:g} s (I6)")
        await _quiet(cluster)
        await asyncio.sleep(CALM_S)
        cluster.check_live()
        for helper in helpers:
            helper.cancel()
        await reader.catch_up()

    try:
        loop.run_until_complete(main())
    except Stalled as exc:
        cluster.wrong.append(str(exc))
    found = {client.run_id: client.scenario for client in clients}
    for client in clients:
        found.update(client.forks)
    return found


async def _quiet(cluster: SimCluster) -> None:
    """Wait until children and forks have ended too."""
    for _ in range(120):
        if all(row.state == "done" for row in cluster.db.runs.values()) and not cluster.db.outbox:
            return
        await asyncio.sleep(0.5)


# --- the stage ---------------------------------------------------------------------------------------------------


class _Logged(logging.Handler):
    """Keeps what the engine complains about: an error in its log is an error of the engine."""

    def __init__(self, cluster: SimCluster) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []
        self._cluster: SimCluster | None = cluster

    def stop(self) -> None:
        self._cluster = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._cluster is None:
            return
        text = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        self._cluster.note(NODE.get(), f"log {record.levelname.lower()} {text}")
        if record.levelno >= logging.ERROR:
            self.errors.append(f"logged by {NODE.get() or 'the world'}: {text}")


@contextmanager
def _stage(cluster: SimCluster) -> Generator[_Logged]:
    """Make names of workers repeatable, snapshots frequent, and errors in the log visible."""
    counts: dict[str, int] = {}

    def name_worker() -> str:
        node = NODE.get()
        counts[node] = counts.get(node, 0) + 1
        return f"{node}.{counts[node]}"

    log = logging.getLogger("tenuto")
    handler = _Logged(cluster)
    before = lease_module.new_worker_id, actor_module.SNAPSHOT_BYTES, log.propagate, log.level
    lease_module.new_worker_id, actor_module.SNAPSHOT_BYTES = name_worker, SNAPSHOT_BYTES
    log.propagate = False
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        lease_module.new_worker_id, actor_module.SNAPSHOT_BYTES, log.propagate = before[:3]
        log.setLevel(before[3])


def shown(verdict: Verdict, lines: int) -> str:
    """Return a verdict as text: what is wrong, and the newest lines of the history."""
    head = f"seed {verdict.seed}: {len(verdict.wrong)} wrong, {verdict.faults} faults, {verdict.seconds:.0f} virtual s"
    return "\n".join([head, *(f"  ! {text}" for text in verdict.wrong[:20]), *verdict.trace[-lines:]])


# --- the command line --------------------------------------------------------------------------------------------

REPORT = "report: "


def main(arguments: list[str] | None = None) -> int:
    """Run seeds, print what failed, and return how the process should exit."""
    parser = argparse.ArgumentParser(prog="python -m tenuto.testing.simulation", description="Simulate the engine.")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", help="a range, such as 0..9999, ends included")
    parser.add_argument("--processes", type=int, default=1, help="how many processes share the seeds")
    parser.add_argument("--only", default="", help="fill every seed with one kind of run")
    parser.add_argument("--trace", action="store_true", help="print the last part of each seed's history")
    parser.add_argument("--report", action="store_true", help="print every fault, event and change of status met")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    given = parser.parse_args(arguments)
    first, _, last = (given.seeds or f"{given.seed or 0}").partition("..")
    seeds = range(int(first), int(last or first) + 1)
    began = time.perf_counter()
    if given.processes > 1:
        total = _shared(seeds, given.processes, given.only)
    else:
        total = _alone(seeds, given.only, trace=given.trace)
    if given.json:
        print(REPORT + msgspec.json.encode(total).decode())
        return 0
    if given.report:
        print(total.text())
    took = time.perf_counter() - began
    print(f"{total.seeds} seeds, {total.failed} failed, {took:.1f} s, {took / max(1, total.seeds) * 1000:.0f} ms a seed")
    return 1 if total.failed or total.seeds != len(seeds) else 0


def _alone(seeds: range, only: str, *, trace: bool) -> Report:
    total = Report()
    for seed in seeds:
        verdict = run_seed(seed, only=only)
        total.add(verdict.report)
        if verdict.wrong or trace:
            print(shown(verdict, 400 if trace else 25), flush=True)
    return total


def _shared(seeds: range, processes: int, only: str) -> Report:
    """Let several processes each take a part of the seeds."""
    parts = [(seeds[0] + len(seeds) * i // processes, seeds[0] + len(seeds) * (i + 1) // processes - 1)
             for i in range(processes)]
    base = [sys.executable, "-m", "tenuto.testing.simulation", "--json", "--only", only]
    running = [
        subprocess.Popen([*base, "--seeds", f"{a}..{b}"], stdout=subprocess.PIPE, text=True) for a, b in parts if a <= b
    ]
    total = Report()
    for process in running:
        for line in (process.communicate()[0] or "").splitlines():
            if line.startswith(REPORT):
                total.add(msgspec.json.decode(line[len(REPORT) :], type=Report))
            else:
                print(line)
    return total


if __name__ == "__main__":
    sys.exit(main())
