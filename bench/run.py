"""Runs the benchmark: `python -m bench.run [--quick] [--only tenuto-sqlite,dbos-pg] [--works W1,W2]`.

Rounds are interleaved over the peers and their order turns with each round, so that drift of the machine
falls on all of them alike. Every row is kept; `bench.report` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import cli_start, environments, paths, postgres
from bench.catalog import ENTRIES, WORKS, Entry, selected
from bench.stages import Row, note, process_environment, run_stage, take_limits
from bench.tenuto_server import tenuto_commands

CLI = "CLI"
QUIET = {True: "0", False: "10"}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description="Tenuto beside its peers and the storage."
    )
    parser.add_argument("--quick", action="store_true", help="one round of tiny sizes: does everything work?")
    parser.add_argument("--only", default="", metavar="PEERS", help="comma list, with or without the store")
    parser.add_argument(
        "--works", default="", metavar="WORKS", help=f"comma list of {', '.join((*WORKS, CLI))}"
    )
    parser.add_argument("--rounds", type=int, default=0, help="interleaved rounds (default: 3, quick: 1)")
    parser.add_argument(
        "--parked-rounds", type=int, default=1, help="rounds that include W5, which is slow (default: 1)"
    )
    parser.add_argument("--results", type=Path, default=paths.RESULTS, help="where the report goes")
    parser.add_argument("--list", action="store_true", help="show peers and sizes, and end")
    return parser.parse_args(argv)


def main() -> int:
    """Exit 0 when every stage gave a row, 1 when one failed, 2 on a wrong option."""
    args = arguments()
    works = tuple(filter(None, args.works.split(","))) or (*WORKS, CLI)
    if unknown := sorted(set(works) - {*WORKS, CLI}):
        note(f"no work named {', '.join(unknown)}; there are {', '.join((*WORKS, CLI))}")
        return 2
    try:
        entries = selected(tuple(filter(None, args.only.split(","))))
    except ValueError as error:
        note(str(error))
        return 2
    if args.list:
        return _show(entries)
    paths.ensure()
    entries = _with_environments(entries)
    os.environ["TENUTO_BENCH_QUIET_S"] = QUIET[args.quick]
    with postgres.running() as server:
        suite = Suite(server, entries, works, quick=args.quick, parked_rounds=args.parked_rounds)
        for number in range(args.rounds or (1 if args.quick else 3)):
            suite.round(number)
    _report(suite.id, args.results, quick=args.quick)
    return 1 if suite.n_failed else 0


class Suite:
    """One run of the benchmark. Appends each row as soon as it is measured."""

    def __init__(
        self,
        server: postgres.Server,
        entries: Sequence[Entry],
        works: Sequence[str],
        *,
        quick: bool,
        parked_rounds: int,
    ) -> None:
        self.id, self.n_failed = uuid.uuid4().hex[:12], 0
        self._server, self._entries, self._works, self._quick = server, entries, works, quick
        self._parked_rounds = parked_rounds
        self._append(0, {"peer": "machine", "work": "machine", **describe_machine(server, entries)})

    def round(self, number: int) -> None:
        """Run every work of every peer once, with the limits before and after each peer."""
        turn = number % max(1, len(self._entries))
        for entry in (*self._entries[turn:], *self._entries[:turn]):
            planned = self._planned(entry, number)
            if not planned:
                continue
            before = take_limits(self._server, 0.2 if self._quick else 1.0)
            rows = [run_stage(entry, work, n, self._server) for work, n in planned]
            after = take_limits(self._server, 0.2 if self._quick else 1.0)
            limits = {k: (before[k] * after[k]) ** 0.5 for k in before if isinstance(before[k], float)}
            for row in rows:
                self._append(number, {**row, "limits": limits})
        if CLI in self._works:
            with tenuto_commands() as more:
                for row in cli_start.measure_commands(more):
                    self._append(number, row)

    def _planned(self, entry: Entry, number: int) -> list[tuple[str, int]]:
        works = [w for w in WORKS if w in self._works and (w != "W5" or number < self._parked_rounds)]
        return [(work, n) for work in works for n in entry.sizes_of(work, quick=self._quick)]

    def _append(self, number: int, row: Row) -> None:
        self.n_failed += "failed" in row
        with paths.ROWS.open("a") as file:
            file.write(json.dumps({"suite": self.id, "round": number, "at": time.time(), **row}) + "\n")
        if "failed" in row:
            note(f"bench: {row['peer']} {row['work']} FAILED {row['failed']}")
        elif row["peer"] not in ("machine", "cli"):
            shown = {
                k: row[k] for k in ("runs_s", "p50_ms", "steps_s", "client_cpu_ms_step", "kb_run") if k in row
            }
            text = " ".join(f"{k}={v:.4g}" for k, v in shown.items()) or row.get("unsupported", "")
            note(f"bench: round {number + 1} {row['peer']} {row['work']} n={row['n']} {text}")


def describe_machine(server: postgres.Server, entries: Sequence[Entry]) -> dict[str, Any]:
    """Machine, versions and settings: what a reader needs to judge the figures."""
    names = (
        "dbos",
        "langgraph",
        "langgraph-checkpoint-postgres",
        "langgraph-checkpoint-sqlite",
        "absurd-sdk",
    )
    names += ("restate-sdk", "pgqueuer", "procrastinate", "tenuto", "asyncpg", "psycopg", "uvloop", "msgspec")
    found = {
        e: environments.versions(e) for e in sorted({"bench", *(entry.environment for entry in entries)})
    }
    versions = {e: {k: v for k, v in packages.items() if k in names} for e, packages in found.items()}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": __import__("sqlite3").sqlite_version,
        "postgres": server.describe(),
        "commit": commit.stdout.strip(),
        "versions": versions,
        "restate_server": environments.SPECS["restate"].npm[0],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _with_environments(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Build what is missing; a peer whose environment cannot be built is left out, and said to be."""
    environments.ensure("bench")
    bad: dict[str, str] = {}
    for name in dict.fromkeys(entry.environment for entry in entries):
        try:
            environments.ensure(name)
        except environments.EnvironmentFailed as error:
            bad[name] = str(error)
            note(f"bench: left out: {error}")
    return tuple(entry for entry in entries if entry.environment not in bad)


def _report(suite: str, results: Path, *, quick: bool) -> None:
    """The report runs in the bench environment, because only there is matplotlib."""
    where = paths.HOME / "quick" / "RESULTS.md" if quick and results == paths.RESULTS else results
    command = [environments.python("bench"), "-m", "bench.report", "--suite", suite, "--results", where]
    subprocess.run([str(c) for c in command], cwd=paths.ROOT, env=process_environment(), check=True)


def _show(entries: Sequence[Entry]) -> int:
    for entry in entries or ENTRIES:
        sizes = "  ".join(f"{work}:{'/'.join(map(str, n))}" for work, n in entry.sizes.items())
        print(f"{entry.name:18} {entry.store:7} {sizes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
