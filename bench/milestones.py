"""The targets the engine is held to, each against the probe and the best peer of the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.rows import Rows, figure, median, table


@dataclass(frozen=True, kw_only=True)
class Milestone:
    """One row of the target table. `lower` means that less is better."""

    what: str
    work: str
    key: str
    tenuto: str
    limit: float
    lower: bool = True
    n: int | None = None

    def value(self, rows: Rows, peer: str) -> float | None:
        n = self.n if any(r["n"] == self.n for r in rows.of(peer, self.work)) else None
        return median(rows.of(peer, self.work, n), self.key)

    def met(self, value: float) -> bool:
        return value <= self.limit if self.lower else value >= self.limit

    @property
    def sign(self) -> str:
        return "≤" if self.lower else "≥"


MILESTONES = (
    Milestone(
        what="3-step runs/s, Postgres", work="W1", key="runs_s", tenuto="tenuto-pg", limit=5_000, lower=False
    ),
    Milestone(
        what="3-step runs/s, SQLite FULL",
        work="W1",
        key="runs_s",
        tenuto="tenuto-sqlite",
        limit=5_000,
        lower=False,
    ),
    Milestone(
        what="ms a hop, one run alone, p50, Postgres", work="W2", key="p50_ms", tenuto="tenuto-pg", limit=0.9
    ),
    Milestone(
        what="ms a hop, one run alone, p50, SQLite",
        work="W2",
        key="p50_ms",
        tenuto="tenuto-sqlite",
        limit=0.9,
    ),
    Milestone(
        what="1,000 parallel steps and join, s, Postgres",
        work="W3",
        key="wall_s",
        tenuto="tenuto-pg",
        limit=0.15,
        n=1_000,
    ),
    Milestone(
        what="1,000 parallel steps and join, s, SQLite",
        work="W3",
        key="wall_s",
        tenuto="tenuto-sqlite",
        limit=0.15,
        n=1_000,
    ),
    Milestone(
        what="CPU a step at the end over the start, Postgres",
        work="W4",
        key="cpu_last_over_first",
        tenuto="tenuto-pg",
        limit=1.1,
    ),
    Milestone(
        what="CPU a step at the end over the start, SQLite",
        work="W4",
        key="cpu_last_over_first",
        tenuto="tenuto-sqlite",
        limit=1.1,
    ),
    Milestone(what="bytes a step, Postgres", work="W1", key="bytes_step", tenuto="tenuto-pg", limit=700),
    Milestone(what="bytes a step, SQLite", work="W1", key="bytes_step", tenuto="tenuto-sqlite", limit=700),
    Milestone(
        what="Python CPU a step, ms, Postgres",
        work="W1",
        key="client_cpu_ms_step",
        tenuto="tenuto-pg",
        limit=0.06,
    ),
    Milestone(
        what="Python CPU a step, ms, SQLite",
        work="W1",
        key="client_cpu_ms_step",
        tenuto="tenuto-sqlite",
        limit=0.06,
    ),
    Milestone(
        what="KB of memory a parked run, Postgres", work="W5", key="kb_run", tenuto="tenuto-pg", limit=0.05
    ),
    Milestone(
        what="KB of memory a parked run, SQLite", work="W5", key="kb_run", tenuto="tenuto-sqlite", limit=0.05
    ),
)

CLI_LIMITS = {"tenuto --help": 2.5, "tenuto run list": 6.0}
DBOS_TIMES = 30.0


def section(rows: Rows) -> str:
    """The table of targets; a target whose work was not run is left out."""
    body = [line for goal in MILESTONES if (line := _line(rows, goal))]
    body += [*_beside_dbos(rows), *_cli(rows)]
    if not body:
        return "Tenuto was not part of this run.\n"
    return table(
        ["measure", "Tenuto", "milestone", "met", "Tenuto ÷ probe", "best peer on the same store"], body
    )


def _line(rows: Rows, goal: Milestone) -> list[str] | None:
    value = goal.value(rows, goal.tenuto)
    if value is None:
        return None
    store = goal.tenuto.split("-")[1]
    probe = rows.ratio(rows.of(goal.tenuto, goal.work, goal.n), f"probe-{store}", goal.key)
    return [
        goal.what,
        figure(value),
        f"{goal.sign} {figure(goal.limit)}",
        "yes" if goal.met(value) else "**no**",
        figure(probe),
        _best_peer(rows, goal, store),
    ]


def _best_peer(rows: Rows, goal: Milestone, store: str) -> str:
    def same_store(peer: str) -> bool:
        return not peer.startswith(("tenuto", "probe")) and peer.endswith("-sqlite") == (store == "sqlite")

    values = {
        peer: value
        for peer in dict.fromkeys(r["peer"] for r in rows.measured if same_store(r["peer"]))
        if (value := goal.value(rows, peer)) is not None
    }
    if not values:
        return "–"
    choose: Callable[..., str] = min if goal.lower else max
    best = choose(values, key=lambda peer: values[peer])
    return f"{best} {figure(values[best])}"


def _beside_dbos(rows: Rows) -> list[list[str]]:
    times = rows.ratio(rows.of("tenuto-pg", "W1"), "dbos-pg", "runs_s")
    if times is None:
        return []
    met = "yes" if times >= DBOS_TIMES else "**no**"
    return [
        ["3-step runs/s, Postgres, times DBOS", f"{figure(times)}×", f"≥ {DBOS_TIMES:.0f}×", met, "–", "–"]
    ]


def _cli(rows: Rows) -> list[list[str]]:
    base = median([r for r in rows.cli if r["work"] == "python -c pass"], "median_ms")
    lines: list[list[str]] = []
    for label, limit in CLI_LIMITS.items():
        taken = median([r for r in rows.cli if r["work"] == label and r["exit"] == 0], "median_ms")
        if base and taken:
            met = "yes" if taken / base <= limit else "**no**"
            lines.append(
                [f"`{label}` over `python -c pass`", f"{figure(taken / base)}×", f"≤ {limit}×", met, "–", "–"]
            )
    return lines
