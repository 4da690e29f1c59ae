"""The memory store passes the suite of all stores."""

from __future__ import annotations

import pytest

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.testing.conformance.store import MakeStore, StoreSuite


class TestMemoryStore(StoreSuite):
    """The store without a disk."""

    durable = False

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Views of one set of tables."""
        return MemoryStore().view
