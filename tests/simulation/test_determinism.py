"""The same seed is the same history, to the last byte, in any process."""

from __future__ import annotations

import os
import subprocess
import sys

from tenuto.testing.simulation import run_seed

CODE = "from tenuto.testing.simulation import run_seed; print(*(run_seed(s).digest for s in (3, 4)))"


def test_a_seed_lived_twice_is_the_same_history():
    first, second = run_seed(5), run_seed(5)
    assert first.trace == second.trace
    assert first.digest == second.digest
    assert first.digest != run_seed(6).digest


def test_another_process_with_another_hash_seed_lives_the_same_history():
    found = {
        subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{run_seed(3).digest} {run_seed(4).digest}\n"}
