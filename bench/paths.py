"""Where the benchmark keeps what it makes: everything lives under one directory that is not committed."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("TENUTO_BENCH_DIR", ROOT / ".bench")).resolve()
ENVIRONMENTS = HOME / "envs"
DATA = HOME / "data"
LOGS = HOME / "logs"
ROWS = HOME / "rows.jsonl"
RESULTS = ROOT / "bench" / "RESULTS.md"
PLOTS = ROOT / "bench" / "plots"


def ensure() -> None:
    """Make every directory exist before the first process needs it."""
    for directory in (ENVIRONMENTS, DATA, LOGS):
        directory.mkdir(parents=True, exist_ok=True)
