"""Draws the report's pictures as SVG. matplotlib lives in the bench environment only."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt

from bench.catalog import WORKS
from bench.rows import Rows, median

BARS = {
    "W1": ("runs_s", "3-step runs a second (more is better)"),
    "W2": ("p50_ms", "ms a hop, p50 (less is better)"),
    "W3": ("wall_s", "seconds for the fan-out and join (less is better)"),
    "W5": ("kb_run", "KB of memory a parked run (less is better)"),
    "W6": ("runs_s", "runs a second from a cold backlog (more is better)"),
}
COLOURS = {"tenuto": "#0b6e4f", "probe": "#9a9a9a"}
PEER_COLOUR = "#c9762b"


def draw(rows: Rows, directory: Path) -> dict[str, str]:
    """Draw what was measured and return, by work, each picture's path relative to the report."""
    directory.mkdir(parents=True, exist_ok=True)
    plt.rcParams |= {
        "svg.hashsalt": "tenuto",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    drawn: dict[str, str] = {}
    for work, (key, label) in BARS.items():
        if _bars(rows, work, key, label, directory / f"{work}.svg"):
            drawn[work] = f"{directory.name}/{work}.svg"
    if _growth(rows, directory / "W4.svg"):
        drawn["W4"] = f"{directory.name}/W4.svg"
    return drawn


def _colour(peer: str) -> str:
    return COLOURS.get(peer.split("-")[0], PEER_COLOUR)


def _bars(rows: Rows, work: str, key: str, label: str, path: Path) -> bool:
    bars = []
    for (peer, n), own in rows.series(work).items():
        values = [r[key] for r in own if r.get(key)]
        if values:
            bars.append((f"{peer} ({n:,})", peer, max(median(own, key) or 0, 1e-3), min(values), max(values)))
    if not bars:
        return False
    bars.sort(key=lambda bar: bar[2])
    figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(bars) + 1))
    middles = [bar[2] for bar in bars]
    spread = [
        [max(0.0, m - b[3]) for m, b in zip(middles, bars, strict=True)],
        [max(0.0, b[4] - m) for m, b in zip(middles, bars, strict=True)],
    ]
    axes.barh(
        [b[0] for b in bars], middles, xerr=spread, color=[_colour(b[1]) for b in bars], ecolor="#444444"
    )
    axes.set_xscale("log")
    axes.set_xlabel(f"{label}; logarithmic")
    axes.set_title(f"{work}: {WORKS[work]}", loc="left")
    _save(figure, path)
    return True


def _growth(rows: Rows, path: Path) -> bool:
    curves = {
        series: own[-1]["wall_curve_ms"]
        for series, own in rows.series("W4").items()
        if own[-1]["wall_curve_ms"]
    }
    if not curves:
        return False
    figure, axes = plt.subplots(figsize=(7.5, 4))
    for (peer, n), curve in curves.items():
        share = [(i + 0.5) / len(curve) * n for i in range(len(curve))]
        width = 2.2 if peer.startswith("tenuto") else 1.1
        axes.plot(
            share, curve, label=peer, linewidth=width, linestyle="--" if peer.startswith("probe") else "-"
        )
    axes.set_yscale("log")
    axes.set_xlabel("step of the run")
    axes.set_ylabel("ms a step; logarithmic")
    axes.set_title(f"W4: {WORKS['W4']} (flat is good)", loc="left")
    axes.legend(fontsize=7, ncols=2)
    _save(figure, path)
    return True


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
