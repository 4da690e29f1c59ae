"""`examples/adaptive` plays its eight chapters over HTTP and the command line, and every promise in them holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "examples" / "adaptive"
CHAPTERS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the story to leave everything in."""
    return tmp_path_factory.mktemp("adaptive")


@pytest.fixture(scope="module")
def told(place: Path) -> subprocess.CompletedProcess[str]:
    """The story, told once."""
    return subprocess.run(
        [sys.executable, str(FOLDER), "--place", str(place)], cwd=place, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )


def test_every_chapter_is_told_in_order_and_every_promise_held(told: subprocess.CompletedProcess[str]) -> None:
    assert told.returncode == 0, told.stdout + told.stderr
    chapters = re.findall(r"^  (\d)  \S", told.stdout, re.MULTILINE)
    assert [int(n) for n in chapters] == list(range(1, CHAPTERS + 1))
    for number, part in enumerate(re.split(r"^  \d  \S.*$", told.stdout, flags=re.MULTILINE)[1:], 1):
        assert "✓" in part, f"chapter {number} promises nothing:\n{part}"


def test_it_leaves_its_run_and_no_server(told: subprocess.CompletedProcess[str], place: Path) -> None:
    """The database is there to be looked at; the note of the server goes when the server ends."""
    assert (place / ".tenuto" / "tenuto.db").exists(), told.stderr
    assert not (place / ".tenuto" / "server.json").exists()
