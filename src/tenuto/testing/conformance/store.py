"""The suite every store must pass.

Subclass `StoreSuite` in a test module and override its fixture `make_store`, which says how to make a store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest

from tenuto.ports.store import Store
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.artifacts import ArtifactSuite
from tenuto.testing.conformance.cache import BoundsSuite, CacheSuite, FlightSuite
from tenuto.testing.conformance.checkpoints import CheckpointSuite
from tenuto.testing.conformance.definitions import DefinitionSuite
from tenuto.testing.conformance.findings import FindingSuite
from tenuto.testing.conformance.funds import FundsSuite
from tenuto.testing.conformance.journal import JournalSuite
from tenuto.testing.conformance.lists import ListSuite
from tenuto.testing.conformance.messages import MessageSuite
from tenuto.testing.conformance.notifications import NotificationSuite
from tenuto.testing.conformance.ownership import OwnershipSuite
from tenuto.testing.conformance.proposals import PluginSuite, ProposalSuite
from tenuto.testing.conformance.races import RaceSuite
from tenuto.testing.conformance.reports import ReportSuite
from tenuto.testing.conformance.starts import StartSuite
from tenuto.testing.conformance.upkeep import UpkeepSuite
from tenuto.testing.conformance.usage import UsageSuite

MakeStore = Callable[[], Store]


class StoreSuite(
    JournalSuite, ArtifactSuite, FundsSuite, OwnershipSuite, MessageSuite, ListSuite, DefinitionSuite, UpkeepSuite,
    CheckpointSuite, RaceSuite, UsageSuite, ReportSuite, FindingSuite, StartSuite,
    ProposalSuite, PluginSuite,
    CacheSuite, BoundsSuite, FlightSuite,
    NotificationSuite,
):  # fmt: skip
    """What a store promises, as tests. A subclass provides the fixture `make_store`."""

    durable: ClassVar[bool] = True

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Return what makes a store, not yet open, always on the same database of the test's own."""
        raise NotImplementedError("a subclass of StoreSuite provides the fixture make_store")

    @pytest.fixture
    async def store(self, make_store: MakeStore) -> AsyncIterator[Store]:
        """An open store."""
        opened = make_store()
        await opened.open()
        yield opened
        await opened.close()

    @pytest.fixture
    async def second_store(self, make_store: MakeStore, store: Store) -> AsyncIterator[Store]:
        """Another open store on the same database, as another process would have."""
        opened = make_store()
        await opened.open()
        yield opened
        await opened.close()

    async def test_opening_again_changes_nothing(self, store: Store) -> None:
        """`open` is idempotent, and afterwards every schema step is applied and the store is well."""
        await store.open()
        assert all(applied for _, applied in await store.migrations())
        assert store.health() == ""
        assert (await store.stats())["backend"]

    async def test_what_was_committed_outlives_the_process(self, make_store: MakeStore) -> None:
        """Another process that opens the database later finds every acknowledged record and row."""
        if not self.durable:
            pytest.skip("this store keeps nothing on purpose")
        first = make_store()
        await first.open()
        journal = await kit.created(first, goal="remember")
        await first.send(journal.id, "k", b"1")
        await first.close()
        later = make_store()
        await later.open()
        try:
            assert len(await later.records(journal.id)) == 1
            row = await later.get_run(journal.id)
            assert row is not None and row.goal == "remember" and row.inbox_seq == 1
            assert [message.key for message in await later.inbox(journal.id)] == ["k"]
        finally:
            await later.close()
