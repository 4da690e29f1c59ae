"""The PostgreSQL store passes the suite of all stores."""

from __future__ import annotations

import pytest

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.testing.conformance.store import MakeStore, StoreSuite


@pytest.mark.postgres
class TestPostgresStore(StoreSuite):
    """The store on a server."""

    @pytest.fixture
    def make_store(self, postgres_url: str) -> MakeStore:
        """Stores on one database."""
        return lambda: PostgresStore(postgres_url)
