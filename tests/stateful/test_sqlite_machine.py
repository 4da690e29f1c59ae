"""Random histories: the SQLite store answers as the memory store does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.ports.store import Store
from tenuto.testing.conformance.machine import StoreMachine


class SqliteMachine(StoreMachine):
    """A file of its own for every history."""

    def make_store(self) -> Store:
        """Return a store on a new file."""
        self.folder = Path(tempfile.mkdtemp())
        return SqliteStore(self.folder / "runs.db", clock=self.clock)

    def teardown(self) -> None:
        """Close and remove the file."""
        super().teardown()
        shutil.rmtree(self.folder)


TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
