"""`tenuto chaos`: real worker processes, real kills, and a verdict."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenuto.bundled.chaos import verdict
from tenuto.bundled.chaos.driver import Driver
from tenuto.bundled.chaos.faults import Chaos, Restart, Wanted
from tenuto.bundled.chaos.fleet import Fleet, LedgerProcess
from tenuto.bundled.chaos.journals import read_journals
from tenuto.bundled.chaos.ledger import read_entries
from tenuto.bundled.chaos.outside import FAILURES, LEDGER
from tenuto.bundled.chaos.report import Report, lines
from tenuto.bundled.chaos.shapes import plan_runs
from tenuto.bundled.chaos.story import tell

log = logging.getLogger("tenuto.chaos")
RUNS = 500
WORKERS = 3
FAILURE_SHARE = 0.4
SECONDS = 1200.0
LEASE_S = 2.0
MORE_LIVE = 25
PROGRESS_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    runs: int
    workers: int
    store: str
    url: str | None
    failures: float
    seconds: float
    seed: int

    @classmethod
    def of(cls, args: Namespace) -> Options:
        """Return the options of a command line, with defaults where it is silent."""
        url = getattr(args, "database", None)
        seed = getattr(args, "seed", None)
        return cls(
            runs=args.runs or RUNS, workers=max(2, args.workers or WORKERS),
            store=("postgres" if url.startswith("postgres") else "sqlite") if url else (args.store or "sqlite"),
            url=url, failures=FAILURE_SHARE if args.failures is None else args.failures,
            seconds=args.seconds or SECONDS, seed=random.randrange(1_000_000) if seed is None else seed,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chaos run happens: a store of its own, and a folder for logs."""

    url: str
    folder: Path
    restart: Restart | None = None
    file: Path | None = None


def run_chaos(args: Namespace) -> int:
    """Do harm and check; 0 when everything held, 1 when not, 2 when there was too little harm to count."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    options = Options.of(args)
    signal.signal(signal.SIGTERM, _interrupt)
    with place_of(options) as place:
        report = asyncio.run(_run(options, place))
    plain = report.plain()
    if getattr(args, "report", None):
        Path(args.report).write_text(json.dumps(plain, indent=2, default=str) + "\n", encoding="utf-8")
    if getattr(args, "output", None) in ("json", "compact"):
        print(json.dumps(plain, indent=2 if args.output == "json" else None, default=str))
    else:
        print("\n".join(lines(report)))
    return report.exit_code


def _interrupt(_number: int, _frame: object) -> None:
    """End like Ctrl-C does, so that no process is left behind."""
    raise KeyboardInterrupt


@contextmanager
def place_of(options: Options) -> Generator[Place]:
    """Make a fresh store and folder; they are kept when `TENUTO_CHAOS_KEEP` is set."""
    folder = Path(tempfile.mkdtemp(prefix="tenuto-chaos-"))
    with ExitStack() as stack:
        if os.environ.get("TENUTO_CHAOS_KEEP"):
            print(f"logs and data stay in {folder}", file=sys.stderr)
        else:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if options.url is not None:
            file = options.url.removeprefix("sqlite:///") if options.store == "sqlite" else None
            yield Place(options.url, folder, None, Path(file) if file else None)
        elif options.store == "postgres":
            from tenuto.bundled.postgres import LocalPostgres

            server = stack.enter_context(LocalPostgres.start())
            yield Place(server.create_database("chaos"), folder, lambda: server.restart("immediate"))
        else:
            file = folder / "chaos.db"
            yield Place(f"sqlite:///{file}", folder, None, file)


async def _run(options: Options, place: Place) -> Report:
    from tenuto.bundled.chaos.app import app
    from tenuto.wiring import start_runtime

    began = time.monotonic()
    ledger = LedgerProcess(place.folder / "ledger.jsonl")
    os.environ[LEDGER] = ledger.address
    os.environ[FAILURES] = f"{options.failures:g}"
    runtime = await start_runtime(place.url, app.catalog(), worker=False)
    fleet = Fleet(options.workers, place.folder, place.url, ledger.address, options.failures, LEASE_S)
    wanted = Wanted.of(options.runs, postgres=place.restart is not None)
    driver = Driver(runtime.engine, plan_runs(options.runs, options.seed), place.folder / "acks.jsonl", options.seed)
    chaos = Chaos(fleet, driver, wanted, LEASE_S, options.seed, place.restart, place.file)
    try:
        fleet.start()
        unfinished = await _suffer(driver, chaos, began + options.seconds, options)
        ungraceful = await asyncio.to_thread(fleet.end)
        report = Report(
            store=options.store, seed=options.seed, workers=options.workers, failures=options.failures,
            lease_s=LEASE_S, wanted={name: getattr(wanted, name) for name in wanted.__slots__},
        )
        report.problems += unfinished
        if ungraceful:
            report.problems.append(f"{ungraceful} workers did not stop within their grace when told to")
        await _examine(report, runtime.engine, driver, chaos, fleet, ledger.path)
        report.seconds = time.monotonic() - began
        return report
    finally:
        for process in fleet.slots:
            if process.alive():
                process.kill()
        await runtime.close()
        ledger.end()


async def _suffer(driver: Driver, chaos: Chaos, until: float, options: Options) -> list[str]:
    """Drive and harm until all runs have ended; return what is wrong when they do not in time."""
    driver.target = chaos.wanted.live + MORE_LIVE
    driving = asyncio.create_task(driver.drive())
    tending = asyncio.create_task(chaos.tend())
    telling = asyncio.create_task(_tell_progress(driver, chaos))
    work = {driving, tending}
    striking = asyncio.create_task(chaos.strike(until - 0.35 * options.seconds))
    try:
        await asyncio.wait({*work, striking}, return_when=asyncio.FIRST_COMPLETED)
        if striking.done():
            striking.result()
            driver.target = None
        while not driver.done and time.monotonic() < until and not any(task.done() for task in work):
            await asyncio.sleep(0.2)
        for task in work:
            if task.done():
                task.result()
        return [] if driver.done else [f"{len(driver.live) + len(driver.waiting)} runs had not ended in time"]
    finally:
        for task in (driving, tending, telling, striking):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _tell_progress(driver: Driver, chaos: Chaos) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_S)
        harm = chaos.harm
        ended = len(driver.by_run) - len(driver.live)
        print(
            f"{time.monotonic() - began:4.0f} s  {ended}/{len(driver.planned)} ended, {len(driver.live)} live; "
            f"{len(harm.killed)} killed, {len(harm.stopped)} stopped, {len(harm.down)} restarts, "
            f"{len(harm.died)} died of a step",
            file=sys.stderr, flush=True,
        )


async def _examine(report: Report, engine: Any, driver: Driver, chaos: Chaos, fleet: Fleet, ledger: Path) -> None:
    planned = driver.by_run
    journals = await read_journals(engine, planned)
    logs = fleet.logs()
    harm = chaos.harm
    report.runs, report.child_runs = len(planned), len(journals.rows) - len(planned)
    report.shapes = dict(Counter(one.name for one in planned.values()))
    report.statuses = dict(Counter(journals.rows[run].status for run in planned if run in journals.rows))
    report.records, report.events = journals.records, dict(journals.events.most_common())
    report.acknowledgements = driver.acks
    report.faults = {
        "SIGKILL": len(harm.killed), "SIGSTOP": len(harm.stopped), "restarts": len(harm.down),
        "died of a step": len(harm.died), "fewest live runs": min(harm.live, default=0),
        "stopped with the write lock": harm.held, "redriven": sum(driver.redriven.values()),
    }
    report.timeline = harm.timeline()
    report.zombies = {"refused by the store": logs.fenced, "stopped by their own lease": logs.dropped}
    report.worker_errors = logs.errors
    report.problems += driver.notes
    report.problems += await verdict.outcomes(engine, planned.values(), journals)
    report.problems += [f"run {v.run} at {v.seq}: {v.rule}: {v.message}" for v in journals.violations]
    report.effects, repeated = verdict.effects(read_entries(ledger), journals)
    report.problems += repeated
    report.takeovers = verdict.takeovers(journals, harm, int(report.lease_s * 1000))
    report.story_of, report.story = await tell(engine, journals, planned)
    report.missing = _missing(chaos, logs.fenced)


def _missing(chaos: Chaos, refused: int) -> list[str]:
    """Return what the run lacks to count as proof."""
    wanted, harm = chaos.wanted, chaos.harm
    done = {
        "SIGKILLs": (len(harm.killed), wanted.kills),
        "SIGSTOPs past the lease": (len(harm.stopped), wanted.stops),
        "restarts of the database": (len(harm.down), wanted.restarts),
        "live runs at every fault": (min(harm.live, default=0), wanted.live),
        "zombie writes refused": (refused, wanted.zombies),
    }
    return [f"{name}: {have}, wanted {need}" for name, (have, need) in done.items() if have < need]
