"""Reads the raw rows of one suite and answers medians, spreads and same-round ratios about them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Rows:
    """The rows of one suite, failed and unsupported ones kept apart."""

    def __init__(self, rows: Iterable[Row]) -> None:
        every = list(rows)
        self.machine: Row = next((r for r in every if r["peer"] == "machine"), {})
        self.cli = [r for r in every if r["peer"] == "cli"]
        self.failed = [r for r in every if "failed" in r]
        self.unsupported = [r for r in every if "unsupported" in r]
        stages = [r for r in every if r["peer"] not in ("machine", "cli", "limits")]
        self.measured = [r for r in stages if "failed" not in r and "unsupported" not in r]
        self.n_rounds = len({r["round"] for r in stages})

    @classmethod
    def load(cls, path: Path, suite: str | None) -> Rows:
        """Read the suite asked for, or the last one.

        Raises:
            ValueError: There is no such suite in the file.
        """
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        wanted = suite or (rows[-1]["suite"] if rows else None)
        chosen = [r for r in rows if r["suite"] == wanted]
        if not chosen:
            raise ValueError(f"no rows of suite {wanted!r} in {path}; run `python -m bench.run` first")
        return cls(chosen)

    def series(self, work: str) -> dict[tuple[str, int], list[Row]]:
        """Rows of a work by (peer, size), in the order first seen."""
        found: dict[tuple[str, int], list[Row]] = {}
        for row in self.measured:
            if row["work"] == work:
                found.setdefault((row["peer"], row["n"]), []).append(row)
        return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1])))

    def of(self, peer: str, work: str, n: int | None = None) -> list[Row]:
        return [r for r in self.measured if r["peer"] == peer and r["work"] == work and n in (None, r["n"])]

    def beside(self, row: Row, peer: str) -> Row | None:
        """The other peer's row of the same work and round: of the same size if there is one, else of any."""
        rows = [r for r in self.of(peer, row["work"]) if r["round"] == row["round"]]
        return next((r for r in rows if r["n"] == row["n"]), rows[0] if rows else None)

    def ratio(self, rows: Iterable[Row], peer: str, key: str) -> float | None:
        """Median over the rounds of (these rows' figure / the other peer's figure of the same round)."""
        pairs = [(r, self.beside(r, peer)) for r in rows]
        values = [r[key] / other[key] for r, other in pairs if other and other.get(key)]
        return statistics.median(values) if values else None


def figure(value: float | None) -> str:
    if value is None:
        return "–"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.4f}"


def median(rows: Iterable[Row], key: str) -> float | None:
    values = [r[key] for r in rows if r.get(key) is not None]
    return statistics.median(values) if values else None


def spread(rows: Iterable[Row], key: str) -> str:
    """`median (least–most)`, or the median alone where there is one value."""
    values = [r[key] for r in rows if r.get(key) is not None]
    if not values:
        return "–"
    middle = figure(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({figure(min(values))}–{figure(max(values))})"


def derived(rows: Iterable[Row], make: Callable[[Row], float | None]) -> float | None:
    values = [v for v in map(make, rows) if v is not None]
    return statistics.median(values) if values else None


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cells) + " |" for cells in body]
    return "\n".join(lines)
