"""The SQLite store passes the suite of all stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.testing.conformance.store import MakeStore, StoreSuite


class TestSqliteStore(StoreSuite):
    """The store in one file."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        """Stores on one file."""
        return lambda: SqliteStore(tmp_path / "deep" / "runs.db")
