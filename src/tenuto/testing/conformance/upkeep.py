"""Upkeep: what nobody needs goes, and nothing else."""

from __future__ import annotations

from typing import Literal

import pytest

from tenuto.errors import KeyReused
from tenuto.ports.data_keys import DataKeyRow
from tenuto.ports.store import OutboxRow, Store, TaskRow
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import Journal

LATER = 2**50


def _blob(n: int) -> str:
    return f"sha256:{n:064x}"


async def _all_references(store: Store, limit: int = 2) -> list[bytes]:
    found, after = await store.references("", limit)
    while after:
        more, after = await store.references(after, limit)
        found += more
    return found


class UpkeepSuite:
    """Forgetting groups, keys and blobs."""

    def kept_as(self, store: Store, digest: str) -> str:
        """Return the name under which the store keeps a value; one that hides digests says so here."""
        return digest

    async def test_the_tail_is_pruned_behind_every_projection(self, store: Store, second_store: Store) -> None:
        """Old groups go once all projections are past them; the newest stays, and readers further on miss nothing."""
        journal = await kit.created(store)
        for _ in range(9):
            await journal.write(store)
        (writer,) = await store.tail_heads()
        assert await store.prune_tail(0) == 0
        assert await store.prune_tail(0) == 0, "nobody follows, so nobody is past anything"
        await store.project_steps("a", [], {writer: 10})
        await store.project_steps("b", [], {writer: 4})
        assert await store.prune_tail(kit.LONG_MS) == 0, "its newest group is not that old"
        assert await store.prune_tail(0) == 4
        assert [group.n for group in await store.tail({})] == [5, 6, 7, 8, 9, 10]
        await store.project_steps("b", [], {writer: 10})
        assert await second_store.prune_tail(0, 2) == 2
        assert await second_store.prune_tail(0) == 3
        assert await store.prune_tail(0) == 0
        assert [group.n for group in await store.tail({})] == [10] == list((await store.tail_heads()).values())
        await journal.write(store)
        assert [(group.n, group.runs) for group in await store.tail({writer: 10})] == [(11, ((journal.id, journal.seq),))]
        assert await store.tail_heads() == {writer: 11}

    async def test_a_group_newer_than_the_last_look_stays(self, store: Store) -> None:
        """What was committed since the last call is kept, though every projection is past it."""
        journal = await kit.created(store)
        (writer,) = await store.tail_heads()
        await store.project_steps("a", [], {writer: 100})
        assert await store.prune_tail(0) == 0
        for _ in range(3):
            await journal.write(store)
        assert await store.prune_tail(0) == 1
        assert [group.n for group in await store.tail({})] == [2, 3, 4]
        assert await store.prune_tail(0) == 2

    async def test_old_keys_are_forgotten(self, store: Store) -> None:
        """A key used before the time makes a new run; a younger one keeps its run. Runs stay."""
        first, second, third = Journal(), Journal(), Journal()
        assert (await store.create_once(first.creation(), "k", "body"))[1]
        assert await store.prune_keys(await store.now() - kit.LONG_MS) == 0
        assert await store.create_once(second.creation(), "k", "body") == (first.id, False)
        with pytest.raises(KeyReused):
            await store.create_once(third.creation(), "k", "other")
        for n in range(3):
            assert (await store.create_once(Journal().creation(), f"k{n}", "body"))[1]
        assert await store.prune_keys(LATER, 3) == 3
        assert await store.prune_keys(LATER, 3) == 1
        assert await store.create_once(third.creation(), "k", "other") == (third.id, True)
        assert await store.get_run(first.id) is not None

    async def test_ids_of_runs_in_order(self, store: Store) -> None:
        """Pages over all namespaces name every run once."""
        runs = [(await kit.created(store, ns)).id for ns in ("a", "b", "a", "c", "b")]
        found: list[str] = []
        while page := await store.run_ids(found[-1] if found else "", 2):
            found += page
        assert found == sorted(runs)

    async def test_texts_that_name_blobs(self, store: Store) -> None:
        """Records, messages read or not, and tasks are shown; what names none need not be."""
        journal = await kit.owned(store, "w")
        await store.send(journal.id, "k", b'{"v":"%b"}' % _blob(1).encode())
        await journal.write(store, journal.next(
            outbox=[OutboxRow(ns="default", target="x", key="k", kind="send", body=_blob(2).encode())],
            tasks=[TaskRow(id="t", ns="default", run_id=journal.id, step="s", attempt=1, handler="h", body=_blob(3).encode())],
        ))  # fmt: skip
        others = [await kit.created(store, digest=_blob(10 + n)) for n in range(5)]
        found = b"|".join(await _all_references(store))
        for n in (1, 2, 3, 10, 11, 12, 13, 14):
            assert self.kept_as(store, _blob(n)).encode() in found
        assert len(others) == 5 and self.kept_as(store, _blob(4)).encode() not in found

    async def test_an_empty_store_names_nothing(self, store: Store) -> None:
        """Walking references ends at once, and there is nothing to sweep."""
        assert await _all_references(store) == []
        assert await store.list_blobs() == []
        assert await store.sweep_blobs([], [], LATER) == 0

    async def test_blobs_go_when_unused_twice(self, store: Store, second_store: Store) -> None:
        """A blob goes if it was unused in an earlier call and still is; used or stored again meanwhile, it stays."""
        await store.put_blobs([(_blob(n), b"%d" % n) for n in range(6)])
        names = [self.kept_as(store, _blob(n)) for n in range(10)]
        ordered = sorted(names[:6])
        assert await store.list_blobs("", 4) == ordered[:4]
        assert await store.list_blobs(ordered[3]) == ordered[4:]
        assert await store.sweep_blobs([names[0]], names[1:6], LATER) == 0, "only a second look may delete"
        assert await store.sweep_blobs([], [names[5]], await store.now() - kit.LONG_MS) == 0, "not unused for so long"
        await second_store.put_blobs([(_blob(1), b"1")])
        journal = await kit.created(store)
        other = await kit.created(store)
        await store.commit([
            journal.next(blobs=[(_blob(2), b"2"), (_blob(9), b"9")]), other.next(blobs=[(_blob(2), b"2"), (_blob(9), b"9")])
        ])  # fmt: skip
        assert await store.sweep_blobs([names[3]], [names[n] for n in (0, 1, 2, 4, 5)], LATER) == 2
        assert await store.list_blobs() == sorted(names[n] for n in (0, 1, 2, 3, 9))
        assert await store.sweep_blobs([], [names[0], names[3]], LATER) == 1, "one was used in between"
        assert await store.list_blobs() == sorted(names[n] for n in (1, 2, 3, 9))

    async def test_keys_are_kept_wrapped(self, store: Store, second_store: Store) -> None:
        """Keys come back in order; a namespace has one index key; a key is rewrapped until it is destroyed for good."""
        known = len(await store.data_keys())

        def key(name: str, use: Literal["data", "index"] = "data") -> DataKeyRow:
            return DataKeyRow(id=name * 16, ns="keys", use=use, wrapped=name.encode(), master="m")

        assert await store.add_data_key(key("b", "index"))
        assert await store.add_data_key(key("a"))
        assert not await second_store.add_data_key(key("c", "index"))
        assert await second_store.add_data_key(key("d"))
        rows = (await second_store.data_keys())[known:]
        assert [(row.id[0], row.use, row.wrapped, row.master) for row in rows] == [
            ("b", "index", b"b", "m"), ("a", "data", b"a", "m"), ("d", "data", b"d", "m")
        ]  # fmt: skip
        assert abs(rows[0].created_at - await store.now()) < kit.LONG_MS
        assert await store.rewrap_data_key("a" * 16, b"again", "n")
        assert not await store.rewrap_data_key("x" * 16, b"again", "n")
        assert await store.destroy_data_keys("keys") == 3
        assert await second_store.destroy_data_keys("keys") == 0
        assert not await store.rewrap_data_key("a" * 16, b"again", "n")
        rows = (await second_store.data_keys())[known:]
        assert all(row.wrapped == b"" and row.destroyed_at for row in rows)
        assert await store.add_data_key(key("e", "index")), "the old index key is no more"
