"""Starts within a minute: never more than the limit, whoever counts, and nothing counts twice."""

from __future__ import annotations

import asyncio

from tenuto.ports.starts import WINDOW_MS
from tenuto.ports.store import Store
from tenuto.testing.conformance import kit


class StartSuite:
    """How a store counts starts."""

    async def test_no_more_starts_than_the_limit_are_taken(self, store: Store, second_store: Store) -> None:
        """Two processes that ask at once share one window; who is refused learns when there may be room."""
        asked = [
            (store, second_store)[n % 2].take_start("default", "ann", "heavy", f"run{n}", 5) for n in range(40)
        ]
        turns = await asyncio.gather(*asked)
        taken = [turn for turn in turns if turn.taken]
        assert sorted(turn.count for turn in taken) == [1, 2, 3, 4, 5]
        refused = [turn for turn in turns if not turn.taken]
        assert len(refused) == 35
        assert all(turn.count == 5 and 0 < turn.wait_ms <= WINDOW_MS for turn in refused)

    async def test_windows_are_apart_by_namespace_caller_and_tier(self, store: Store) -> None:
        """What one counts is nothing to another."""
        for place in (("default", "ann", "heavy"), ("other", "ann", "heavy"), ("default", "bob", "heavy"),
                      ("default", "ann", "simple")):  # fmt: skip
            assert (await store.take_start(*place, "one", 1)).taken
            assert not (await store.take_start(*place, "two", 1)).taken

    async def test_an_id_counts_once(self, store: Store, second_store: Store) -> None:
        """A request that is sent again because its answer was lost takes no second place, even in a full window."""
        assert (await store.take_start("default", "ann", "heavy", "one", 2)).count == 1
        assert (await second_store.take_start("default", "ann", "heavy", "one", 2)).count == 1
        assert (await store.take_start("default", "ann", "heavy", "two", 2)).count == 2
        again = await second_store.take_start("default", "ann", "heavy", "one", 2)
        assert (again.taken, again.count) == (True, 2)

    async def test_a_start_that_began_nothing_is_given_back(self, store: Store, second_store: Store) -> None:
        """Its place is free at once; giving back what does not count changes nothing."""
        await store.take_start("default", "ann", "heavy", "one", 1)
        await second_store.return_start("default", "ann", "heavy", "one")
        await second_store.return_start("default", "ann", "heavy", "one")
        assert (await store.take_start("default", "ann", "heavy", "two", 1)).taken
        assert not (await store.take_start("default", "ann", "heavy", "three", 1)).taken

    async def test_a_lower_limit_waits_for_as_many_as_are_too_many(self, store: Store) -> None:
        """The wait is until one more fits under the limit of now, not until the oldest is forgotten."""
        for n in range(4):
            await store.take_start("default", "ann", "heavy", f"run{n}", 4)
        turn = await store.take_start("default", "ann", "heavy", "more", 1)
        assert (turn.taken, turn.count) == (False, 4)
        assert 0 < turn.wait_ms <= WINDOW_MS

    async def test_a_business_key_names_its_unfinished_run(self, store: Store) -> None:
        """Nobody else's, and none that has ended."""
        run = (await kit.created(store, business_key="order-1")).id
        assert await store.business_run("default", "order-1") == run
        assert await store.business_run("other", "order-1") is None
        assert await store.business_run("default", "order-2") is None
