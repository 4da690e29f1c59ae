"""A minute of chaos on each store: real processes, real kills. The full measure is `make soak`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 100


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_nothing_is_lost_doubled_or_wrong(store: str, tmp_path: Path):
    report = tmp_path / "report.json"
    seed = os.environ.get("TENUTO_TEST_SEED", "1")
    command = [
        sys.executable, "-m", "tenuto", "chaos", "--runs", "60", "--workers", "3", "--store", store,
        "--seconds", str(SECONDS), "--seed", seed, "--report", str(report),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS + 100, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    found = json.loads(report.read_text())
    assert found["ok"] and found["counts"], found["problems"]
    assert found["runs"] >= 60
    assert found["faults"]["SIGKILL"] >= 2
    assert found["faults"]["SIGSTOP"] >= 1
    assert found["events"]["LeaseTaken"] > 0
    assert found["story"]
