"""Compares two checkouts: `python -m bench.regress OLD NEW [--rounds 9]`, by CPU a step and bytes a step.

Both builds are installed from source and run in turn, in an order that alternates, so that drift cancels in
the ratio of one round. The interval is that of order statistics: it assumes nothing about the distribution.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench import environments, paths, postgres
from bench.catalog import ENTRIES
from bench.rows import figure, table
from bench.stages import Row, note, run_stage

LEAST_ROUNDS = 7
TOLERANCE = 0.03
METRICS = {"cpu_ms_step": "CPU a step", "bytes_step": "bytes a step"}
SIZES = {"W1": 4_000, "W2": 10, "W3": 1_000, "W4": 2_000}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """New over old, all rounds: `low` to `high` holds the true median with at least 95 % confidence."""

    median: float
    low: float
    high: float

    @property
    def word(self) -> str:
        if self.low > 1 + TOLERANCE:
            return "worse"
        return "better" if self.high < 1 - TOLERANCE else "no change shown"


def interval(ratios: Sequence[float], confidence: float = 0.95) -> Verdict:
    """Return the median of paired ratios and the narrowest pair of order statistics that covers it.

    Raises:
        ValueError: There are too few ratios for that confidence.
    """
    ordered, n = sorted(ratios), len(ratios)
    for k in range(n // 2, -1, -1):
        covered = 1 - 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        if covered >= confidence:
            return Verdict(median=statistics.median(ordered), low=ordered[k], high=ordered[n - 1 - k])
    raise ValueError(f"{n} rounds cannot give a {confidence:.0%} interval; at least 6 are needed")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.regress", description="Two builds, in turn, by CPU and bytes."
    )
    parser.add_argument("old", help="a checkout's directory, or a git revision of this one")
    parser.add_argument("new", help="the same; `.` is the working tree")
    parser.add_argument("--rounds", type=int, default=9, help=f"at least {LEAST_ROUNDS} (default: 9)")
    parser.add_argument("--works", default="W1,W4", help=f"comma list of {', '.join(SIZES)} (default: W1,W4)")
    parser.add_argument("--stores", default="sqlite,pg", help="comma list of sqlite, pg")
    parser.add_argument("--fail", action="store_true", help="exit 1 when a figure is worse")
    return parser.parse_args()


def main() -> int:
    """Print the table; exit 2 on too few rounds, 1 with `--fail` when a figure is worse, else 0."""
    args = arguments()
    if args.rounds < LEAST_ROUNDS:
        note(f"{args.rounds} rounds are too few to tell a change from noise; give at least {LEAST_ROUNDS}")
        return 2
    paths.ensure()
    os.environ.setdefault("TENUTO_BENCH_QUIET_S", "5")
    with ExitStack() as stack:
        builds = {side: _build(stack, side, asked) for side, asked in (("old", args.old), ("new", args.new))}
        server = stack.enter_context(postgres.running()) if "pg" in args.stores.split(",") else None
        rows = _measure(builds, server, args)
    verdicts = {key: interval(ratios) for key, ratios in _ratios(rows).items() if len(ratios) >= LEAST_ROUNDS}
    print(_table(verdicts, rows))
    missing = len(set(args.works.split(","))) * len(set(args.stores.split(","))) * len(METRICS) - len(
        verdicts
    )
    if missing > 0:
        note(f"{missing} figures have too few rounds; see the rows that failed above")
    worse = any(verdict.word == "worse" for verdict in verdicts.values())
    return 1 if args.fail and (worse or missing > 0) else 0


def _measure(builds: dict[str, Path], server: postgres.Server | None, args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for number in range(args.rounds):
        sides = ("old", "new") if number % 2 == 0 else ("new", "old")
        for store in args.stores.split(","):
            entry = next(e for e in ENTRIES if e.name == f"tenuto-{store}")
            for work in args.works.split(","):
                for side in sides:
                    row = run_stage(
                        replace(entry, name=f"{entry.name}-{side}"),
                        work,
                        SIZES[work],
                        server,
                        interpreter=builds[side],
                    )
                    row |= {"side": side, "store": store, "round": number}
                    rows.append(row)
                    _append(row)
    return rows


def _append(row: Row) -> None:
    with (paths.HOME / "regress.jsonl").open("a") as file:
        file.write(json.dumps({"at": time.time(), **row}) + "\n")
    cpu = (
        f"{row['client_cpu_ms_step']:.4f} ms client CPU a step"
        if "client_cpu_ms_step" in row
        else row.get("failed", "")
    )
    note(f"bench: round {row['round'] + 1} {row['store']} {row['work']} {row['side']}: {cpu}")


def _value(row: Row, metric: str) -> float | None:
    if metric == "cpu_ms_step":
        client = row.get("client_cpu_ms_step")
        return None if client is None else client + row["server_cpu_ms_step"]
    return row.get(metric)


def _ratios(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[float]]:
    """New over old of each round, by store, work and metric."""
    found: dict[tuple[str, str, str], list[float]] = {}
    by_key = {(r["store"], r["work"], r["round"], r["side"]): r for r in rows}
    for (store, work, number, side), new in by_key.items():
        old = by_key.get((store, work, number, "old"))
        if side != "new" or old is None:
            continue
        for metric in METRICS:
            before, after = _value(old, metric), _value(new, metric)
            if before and after:
                found.setdefault((store, work, metric), []).append(after / before)
    return found


def _table(verdicts: dict[tuple[str, str, str], Verdict], rows: Sequence[Row]) -> str:
    body: list[list[str]] = []
    for (store, work, metric), verdict in verdicts.items():
        own = [r for r in rows if (r["store"], r["work"]) == (store, work)]
        middles = [
            figure(
                statistics.median(
                    v for r in own if r["side"] == side and (v := _value(r, metric)) is not None
                )
            )
            for side in ("old", "new")
        ]
        spread = f"{verdict.median:.3f} ({verdict.low:.3f}–{verdict.high:.3f})"
        body.append([store, work, METRICS[metric], *middles, spread, verdict.word])
    return table(["store", "work", "figure", "old", "new", "new ÷ old, 95 % interval", "verdict"], body)


def _build(stack: ExitStack, side: str, asked: str) -> Path:
    """Install a checkout, not editable, into an environment of its own, and return its interpreter."""
    source = Path(asked).resolve() if (Path(asked) / "pyproject.toml").exists() else _worktree(stack, asked)
    home = paths.ENVIRONMENTS / f"regress-{side}"
    shutil.rmtree(home, ignore_errors=True)
    spec = environments.Spec(requirements=(f"{source}[{environments.TENUTO_EXTRAS}]",))
    return environments.ensure(f"regress-{side}", spec)


def _worktree(stack: ExitStack, revision: str) -> Path:
    """Export a revision to a temporary directory: nothing in the checkout moves."""
    where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenuto-regress-")))
    archive = subprocess.run(["git", "archive", revision], cwd=paths.ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        raise SystemExit(
            f"{revision!r} is neither a checkout nor a revision: {archive.stderr.decode().strip()}"
        )
    subprocess.run(["tar", "-x", "-C", str(where)], input=archive.stdout, check=True)
    return where


if __name__ == "__main__":
    sys.exit(main())
