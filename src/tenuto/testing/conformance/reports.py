"""What processes tell each other of what is outside: a row each, that ends with them, and wishes to look again."""

from __future__ import annotations

import asyncio

from tenuto.ports.services import ReportRow
from tenuto.ports.store import Store
from tenuto.testing.conformance import kit


class ReportSuite:
    """What a store keeps of what processes reported."""

    async def test_a_report_is_read_by_every_process(self, store: Store, second_store: Store) -> None:
        """It comes back as it was put, with when it ends; a later one of the same process replaces it."""
        assert await store.reports() == []
        before = await store.now()
        await store.put_report(ReportRow(process="b", role="api", services=b'["a"]', answered=7), kit.LONG_MS)
        await second_store.put_report(ReportRow(process="a", role="worker"), kit.LONG_MS)
        await second_store.put_report(ReportRow(process="b", role="worker", services=b'["b"]', answered=2**41), kit.LONG_MS)
        first, second = await store.reports()
        assert (first.process, first.role, first.services, first.answered) == ("a", "worker", b"[]", 0)
        assert (second.process, second.role, second.services, second.answered) == ("b", "worker", b'["b"]', 2**41)
        assert first.until >= before + kit.LONG_MS

    async def test_a_report_ends_with_its_process(self, store: Store, second_store: Store) -> None:
        """Dropped at once, or with its time; dropping what is not there does no harm."""
        await store.put_report(ReportRow(process="ended", role="worker"), 0)
        await store.put_report(ReportRow(process="left", role="worker"), kit.LONG_MS)
        await store.put_report(ReportRow(process="stays", role="worker"), kit.LONG_MS)
        await second_store.drop_report("left")
        await second_store.drop_report("nobody")
        assert [row.process for row in await store.reports()] == ["stays"]

    async def test_a_wish_to_look_reaches_every_process(self, store: Store, second_store: Store) -> None:
        """Its number is above that of every earlier one, also of those asked at the same moment elsewhere."""
        assert await store.asked_look() == 0
        first = await store.ask_look()
        assert 0 < first == await second_store.asked_look()
        asked = await asyncio.gather(*(one.ask_look() for one in (store, second_store) for _ in range(4)))
        assert len(set(asked)) == 8
        assert min(asked) > first
        assert await store.asked_look() == await second_store.asked_look() == max(asked)
