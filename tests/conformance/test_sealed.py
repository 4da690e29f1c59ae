"""A store that seals what it stores passes the suite of all stores, on each of them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import cast

import pytest

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.adapters.stores.sealed import Masters, SealedStore
from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.ports.store import Store
from tenuto.testing.conformance.store import MakeStore, StoreSuite


@pytest.fixture
def masters(monkeypatch: pytest.MonkeyPatch) -> Masters:
    """One master key, in the environment."""
    monkeypatch.setenv("TENUTO_TEST_KEY", base64.b64encode(bytes(range(32))).decode())
    return Masters(["env:TENUTO_TEST_KEY"])


class SealedSuite(StoreSuite):
    """Values are kept under names that do not tell their digests."""

    def kept_as(self, store: Store, digest: str) -> str:
        """Return the name under which the store keeps a value."""
        return cast("SealedStore", store).name("default", digest)


class TestSealedMemoryStore(SealedSuite):
    """Sealed, without a disk."""

    durable = False

    @pytest.fixture
    def make_store(self, masters: Masters) -> MakeStore:
        """Views of one set of tables."""
        inner = MemoryStore()
        return lambda: cast("Store", SealedStore(inner.view(), masters))


class TestSealedSqliteStore(SealedSuite):
    """Sealed, in one file."""

    @pytest.fixture
    def make_store(self, tmp_path: Path, masters: Masters) -> MakeStore:
        """Stores on one file."""
        return lambda: cast("Store", SealedStore(SqliteStore(tmp_path / "runs.db"), masters))


@pytest.mark.postgres
class TestSealedPostgresStore(SealedSuite):
    """Sealed, on a server."""

    @pytest.fixture
    def make_store(self, postgres_url: str, masters: Masters) -> MakeStore:
        """Stores on one database."""
        return lambda: cast("Store", SealedStore(PostgresStore(postgres_url), masters))
