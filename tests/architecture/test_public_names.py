"""The names programs rely on, frozen: adding one is a decision, removing one is a breaking change."""

from __future__ import annotations

import subprocess
import sys

import tenuto

PUBLIC = [
    "App", "Budget", "Context", "Definition", "Engine", "Permanent", "Retry", "RunEnded", "StepError", "SyncContext",
    "TenutoError", "WorkerOptions", "__version__", "run",
]  # fmt: skip


def test_the_package_exports_these_names_and_no_others():
    assert sorted(tenuto.__all__) == sorted(PUBLIC)


def test_every_public_name_loads():
    for name in PUBLIC:
        assert getattr(tenuto, name) is not None


def test_public_names_are_documented():
    undocumented = [name for name in PUBLIC if name != "__version__" and not getattr(tenuto, name).__doc__]
    assert not undocumented


def test_importing_the_package_loads_nothing_else():
    program = "import sys, tenuto; print(*(m for m in sys.modules if m.startswith(('tenuto.', 'msgspec', 'pydantic'))))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert loaded.split() == []
