"""Writes the report from raw rows: `python -m bench.report [--suite ID] [--results FILE]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import milestones, paths, plots
from bench.catalog import ENTRIES, WORKS
from bench.rows import Row, Rows, derived, figure, median, spread, table

Cell = Callable[[list[Row]], str]

STORES = {entry.name: entry.store for entry in ENTRIES}
ONE_ROW = {"pg": "pg_1row_ps", "sqlite": "sqlite_full_1row_ps", "own": "fdatasync_ps"}


def _spread(key: str) -> Cell:
    return lambda rows: spread(rows, key)


def _median(key: str) -> Cell:
    return lambda rows: figure(median(rows, key))


def columns(rows: Rows, work: str) -> dict[str, Cell]:
    """Heading to cell, for the table of one work."""
    cpu = {
        "client CPU ms/step": _spread("client_cpu_ms_step"),
        "db or server CPU ms/step": _median("server_cpu_ms_step"),
    }
    rate = {"÷ probe": _beside_probe(rows, "runs_s"), **cpu}
    return {
        "W1": {
            "runs/s": _spread("runs_s"),
            "steps/s": _median("steps_s"),
            **rate,
            "commits/run": _median("commits_run"),
            "bytes/step": _spread("bytes_step"),
            "steps/s ÷ store's 1-row rate": _beside_limit(lambda row, limit: row["steps_s"] / limit),
        },
        "W2": {
            "p50 ms": _spread("p50_ms"),
            "p99 ms": _spread("p99_ms"),
            "p50 ÷ probe": _beside_probe(rows, "p50_ms"),
            **cpu,
            "p50 ÷ one durable row": _beside_limit(lambda row, limit: row["p50_ms"] * limit / 1e3),
        },
        "W3": {
            "wall s": _spread("wall_s"),
            "steps/s": _median("steps_s"),
            "wall ÷ probe": _beside_probe(rows, "wall_s"),
            **cpu,
            "bytes/step": _median("bytes_step"),
        },
        "W4": {
            "CPU last ÷ first": _spread("cpu_last_over_first"),
            "wall first ms": _median("first_ms"),
            "wall last ms": _median("last_ms"),
            "wall last ÷ first": _median("last_over_first"),
            **cpu,
            "bytes/step": _median("bytes_step"),
        },
        "W5": {
            "RSS before MB": _median("rss_before_mb"),
            "RSS with them MB": _median("rss_mb"),
            "KB each": _spread("kb_run"),
            "own server KB each": _median("server_kb_run"),
            "bytes stored each": _median("bytes_run"),
            "wall s, settling included": _median("wall_s"),
        },
        "W6": {"runs/s": _spread("runs_s"), **rate},
        "W7": {"runs/s": _spread("runs_s"), "accepted/s": _spread("accepted_s"), **cpu},
    }[work]


def _beside_probe(rows: Rows, key: str) -> Cell:
    def cell(own: list[Row]) -> str:
        store = STORES.get(own[0]["peer"], "own")
        return figure(rows.ratio(own, f"probe-{store}", key))

    return cell


def _beside_limit(make: Callable[[Row, float], float]) -> Cell:
    def one(row: Row) -> float | None:
        limit = row.get("limits", {}).get(ONE_ROW[STORES.get(row["peer"], "own")])
        return make(row, limit) if limit else None

    return lambda rows: figure(derived(rows, one))


def work_table(rows: Rows, work: str) -> str:
    shown = columns(rows, work)
    body = [
        [peer, f"{n:,}", *(cell(own) for cell in shown.values())]
        for (peer, n), own in rows.series(work).items()
    ]
    return table(["peer", "n", *shown], body) if body else ""


def machine_section(rows: Rows) -> str:
    machine = rows.machine
    if not machine:
        return "The machine was not recorded.\n"
    postgres = ", ".join(f"{k} {v}" for k, v in machine["postgres"].items())
    lines = [
        f"- {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['system']}",
        f"- Python {machine['python']}, SQLite {machine['sqlite']} (WAL, FULL for Tenuto and the probe)",
        f"- PostgreSQL: {postgres}; loopback TCP, sharing the cores with the client",
        f"- Tenuto at commit {machine['commit'] or 'unknown'}; {rows.n_rounds} interleaved rounds",
    ]
    for environment, packages in machine["versions"].items():
        if packages:
            lines.append(f"- `{environment}`: " + ", ".join(f"{k} {v}" for k, v in sorted(packages.items())))
    settings = {r["peer"]: r["settings"] for r in rows.measured if r.get("settings") and r["work"] == "W1"}
    lines += [
        f"- settings of {p}: " + ", ".join(f"{k} {v}" for k, v in s.items())
        for p, s in sorted(settings.items())
    ]
    return "\n".join(lines)


def limits_table(rows: Rows) -> str:
    found: dict[str, list[Row]] = {}
    for row in rows.measured:
        for key, value in row.get("limits", {}).items():
            found.setdefault(key, []).append({key: value})
    return table(["limit, a second", "median (least–most)"], [[k, spread(v, k)] for k, v in found.items()])


def cli_table(rows: Rows) -> str:
    base = median([r for r in rows.cli if r["work"] == "python -c pass"], "median_ms")
    body: list[list[str]] = []
    for label in dict.fromkeys(r["work"] for r in rows.cli):
        own = [r for r in rows.cli if r["work"] == label]
        middle = median(own, "median_ms")
        times = f"{figure(middle / base)}×" if middle and base else "–"
        exits = ", ".join(sorted({str(r["exit"]) for r in own}))
        body.append([f"`{label}`", spread(own, "median_ms"), times, exits])
    return table(["command", "ms", "over `python -c pass`", "exit"], body)


def noise_table(rows: Rows) -> str:
    peers = dict.fromkeys(r["peer"] for r in rows.measured)
    return table(
        ["peer", *WORKS],
        [[p, *(spread(rows.of(p, work), "other_cores") for work in WORKS)] for p in sorted(peers)],
    )


def missing_section(rows: Rows) -> Iterable[str]:
    """What has no figure, and why: a peer left out silently would flatter the rest."""
    for title, key in (("Failed", "failed"), ("Not supported by the peer", "unsupported")):
        lines = dict.fromkeys(f"- {r['peer']} {r['work']}: {r[key]}" for r in getattr(rows, key))
        if lines:
            yield f"## {title}\n\n" + "\n".join(lines)


def render(rows: Rows, pictures: dict[str, str]) -> str:
    parts = [
        "# Results",
        "Made by `python -m bench.run`; how to read it: `bench/README.md`.",
        machine_section(rows),
    ]
    parts += ["## Targets", milestones.section(rows)]
    for work, title in WORKS.items():
        if body := work_table(rows, work):
            parts += [f"## {work}: {title}", body]
            if work in pictures:
                parts.append(f"![{title}]({pictures[work]})")
    if rows.cli:
        parts += ["## CLI start-up", cli_table(rows)]
    parts += ["## Limits of the machine", limits_table(rows)]
    parts += ["## Cores used by other programs during a run", noise_table(rows), *missing_section(rows)]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the report and its plots; exit 2 when there is nothing to report."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.report", description="Tables and plots from raw rows."
    )
    parser.add_argument("--rows", type=Path, default=paths.ROWS)
    parser.add_argument("--suite", help="default: the last one")
    parser.add_argument("--results", type=Path, default=paths.RESULTS)
    args = parser.parse_args()
    try:
        rows = Rows.load(args.rows, args.suite)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    args.results.parent.mkdir(parents=True, exist_ok=True)
    pictures = plots.draw(rows, args.results.parent / "plots")
    args.results.write_text(render(rows, pictures))
    print(f"bench: wrote {args.results}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
