"""How many seeds the simulation tests live through: `--seeds 10000` for a soak."""

from __future__ import annotations

import pytest

SEEDS = 300
PART = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a soak ask for more."""
    parser.addoption("--seeds", type=int, default=SEEDS, help=f"simulated histories to live through ({SEEDS})")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Divide the seeds into parts that several processes can share."""
    if "seeds" in metafunc.fixturenames:
        count = int(metafunc.config.getoption("--seeds", SEEDS) or SEEDS)
        parts = [range(first, min(count, first + PART)) for first in range(0, count, PART)]
        metafunc.parametrize("seeds", parts, ids=lambda part: f"{part[0]}..{part[-1]}")
