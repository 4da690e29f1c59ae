"""Artifacts a store knows of: one of each content, no bytes without an owner, nothing used is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from tenuto.domain.base.values import blob_digest
from tenuto.ports.artifacts import ArtifactRow
from tenuto.ports.store import Store
from tenuto.testing.conformance import kit

LATER = 2**60


def _digest(n: int) -> str:
    return f"sha256:{n:064x}"


def _row(n: int, place: str, *, ns: str = "default") -> ArtifactRow:
    return ArtifactRow(ns=ns, name=_digest(n), size=100 + n, place=place, body=b'{"n":%d}' % n)


async def _put(store: Store, n: int, place: str, *, ns: str = "default", lost: str = "") -> ArtifactRow | None:
    await store.begin_artifact(place)
    return await store.put_artifact(_row(n, place, ns=ns), lost=lost)


async def _texts(store: Store) -> bytes:
    found: list[bytes] = []
    place = ""
    while True:
        texts, place = await store.references(place, 2)
        found += texts
        if not place:
            return b"|".join(found)


class ArtifactSuite:
    """Knowing, finding, listing and forgetting artifacts."""

    async def test_an_artifact_is_known_everywhere_in_its_namespace(self, store: Store, second_store: Store) -> None:
        """What was put comes back to every process with the store's time, and in no other namespace."""
        before = await store.now()
        put = await _put(store, 1, "a/1")
        found = await second_store.artifact("default", _digest(1))
        assert put is not None and found is not None
        assert (found.size, found.place, found.body) == (101, "a/1", b'{"n":1}')
        assert before <= found.created_at <= await store.now()
        assert found == put
        assert await store.artifact("other", _digest(1)) is None
        assert await store.artifact("default", _digest(2)) is None
        assert await store.stale_places(LATER) == []

    async def test_of_one_content_one_place_is_kept(self, store: Store, second_store: Store) -> None:
        """A second one of the same content gets the place of the first, and its own is nobody's; other namespaces differ."""
        await _put(store, 1, "a/1")
        again = await _put(second_store, 1, "a/2")
        assert again is not None and again.place == "a/1"
        elsewhere = await _put(store, 1, "b/1", ns="other")
        assert elsewhere is not None and elsewhere.place == "b/1"
        assert await store.stale_places(0) == ["a/2"]
        await store.forget_places(["a/2"])
        assert await second_store.stale_places(0) == []

    async def test_many_writers_of_one_content_agree(self, store: Store, second_store: Store) -> None:
        """However many put the same at once, all are told one place, and every other is nobody's."""
        each = [_put(at, 1, f"a/{n}") for n, at in enumerate((store, second_store) * 8)]
        places = {row.place for row in await asyncio.gather(*each) if row is not None}
        assert len(places) == 1
        assert set(await store.stale_places(0)) == {f"a/{n}" for n in range(16)} - places

    async def test_a_place_that_was_given_up_is_not_made_known(self, store: Store, second_store: Store) -> None:
        """Whoever fills a place for too long, or never began, is told so, and nothing is known of it."""
        await store.begin_artifact("a/1")
        assert await second_store.stale_places(1) == [], "not begun so long ago"
        assert await second_store.stale_places(LATER) == ["a/1"]
        assert await store.put_artifact(_row(1, "a/1")) is None
        await second_store.forget_places(["a/1"])
        assert await store.put_artifact(_row(1, "a/1")) is None
        assert await store.put_artifact(_row(2, "a/2")) is None
        assert await store.artifact("default", _digest(1)) is None

    async def test_places_being_filled_are_not_forgotten(self, store: Store) -> None:
        """Only places that were given up can be forgotten."""
        await store.begin_artifact("a/1")
        await store.forget_places(["a/1"])
        assert await store.put_artifact(_row(1, "a/1")) is not None

    async def test_lost_bytes_are_replaced_once(self, store: Store) -> None:
        """A place whose bytes are gone gives way to another; who comes later with the same complaint does not."""
        await _put(store, 1, "a/1")
        healed = await _put(store, 1, "a/2", lost="a/1")
        assert healed is not None and healed.place == "a/2"
        late = await _put(store, 1, "a/3", lost="a/1")
        assert late is not None and late.place == "a/2"
        assert sorted(await store.stale_places(0)) == ["a/1", "a/3"]

    async def test_the_list_is_newest_first(self, store: Store) -> None:
        """Pages name every artifact of the namespace once."""
        for n in range(5):
            await _put(store, n, f"a/{n}")
        await _put(store, 9, "b/9", ns="other")
        whole = await store.list_artifacts("default")
        assert sorted((row.created_at for row in whole), reverse=True) == [row.created_at for row in whole]
        assert {row.place for row in whole} == {f"a/{n}" for n in range(5)}
        paged, after = list[str](), ""
        while page := await store.list_artifacts("default", after=after, limit=2):
            paged += [row.place for row in page]
            after = page[-1].cursor
        assert paged == [row.place for row in whole]

    async def test_artifacts_go_when_unused_twice(self, store: Store, second_store: Store) -> None:
        """As values do: used, renewed or put again between two looks, an artifact stays; else its place is nobody's."""
        rows = [await _put(store, n, f"a/{n}") for n in range(5)]
        names = [row.name for row in rows if row is not None]
        assert await store.list_blobs() == sorted(names)
        assert await store.list_blobs(sorted(names)[2]) == sorted(names)[3:]
        assert await store.sweep_blobs([], names, LATER) == 0, "only a second look may delete"
        assert await store.sweep_blobs([names[0]], [], LATER) == 0
        renewed = await second_store.renew_artifact("default", _digest(1))
        assert renewed is not None and renewed.place == "a/1"
        await _put(second_store, 2, "b/2")
        assert await store.sweep_blobs([], names[3:], await store.now() - kit.LONG_MS) == 0, "not unused for so long"
        assert await store.sweep_blobs([], names, LATER) == 2
        assert sorted(await store.stale_places(0)) == ["a/3", "a/4", "b/2"]
        assert {row.place for row in await store.list_artifacts("default")} == {"a/0", "a/1", "a/2"}
        assert await store.renew_artifact("default", _digest(3)) is None
        back = await _put(store, 3, "c/3")
        assert back is not None and back.place == "c/3"

    @pytest.mark.parametrize("stored", [True, False])
    async def test_values_that_name_artifacts_are_references(self, store: Store, stored: bool) -> None:
        """What a stored value names counts, for a record that is too long stands in one."""
        put = [await _put(store, n, f"a/{n}") for n in range(7)]
        for row in put[:5]:
            assert row is not None
            body = b'{"in": "%b"}' % _digest(put.index(row)).encode()
            if stored:
                await store.put_blobs([(blob_digest(body), body)])
        texts = await _texts(store)
        for n, row in enumerate(put):
            assert row is not None
            assert (row.name.encode() in texts) == (stored and n < 5)
