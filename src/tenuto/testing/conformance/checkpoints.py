"""Checkpoints of graphs that run elsewhere: whole or not at all, and nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

from tenuto.ports.checkpoints import CheckpointRow, Place, Saved, ValueRow, WriteRow
from tenuto.ports.store import Store


def _state(id: str, *, thread: str = "t", space: str = "", parent: str = "", run: str = "", **channels: str) -> Saved:
    """Return a checkpoint whose channels have the versions given, with the values that are new at it."""
    return Saved(
        checkpoints=[CheckpointRow(
            thread=thread, space=space, id=id, parent=parent, run=run, refs=tuple(channels.items()),
            body=f"body {id}".encode(), meta=b"\x00\xff",
        )],
        values=[
            ValueRow(thread=thread, space=space, channel=channel, version=version, body=f"{channel}@{version}".encode())
            for channel, version in channels.items() if version == id
        ],
    )  # fmt: skip


def _write(id: str, task: str, n: int, body: str, *, thread: str = "t", space: str = "", path: str = "") -> WriteRow:
    return WriteRow(
        thread=thread, space=space, id=id, task=task, n=n, path=path, channel=f"c{n}", body=body.encode()
    )


async def _fill(store: Store, ns: str = "default", *, thread: str = "t", space: str = "") -> None:
    for id, versions in {"1": {"a": "1", "b": "1"}, "2": {"a": "1", "b": "2"}, "3": {"a": "3", "b": "2"}}.items():
        parent = str(int(id) - 1) if id != "1" else ""
        await store.put_checkpoints(ns, _state(id, thread=thread, space=space, parent=parent, run=f"r{id}", **versions))
        await store.put_checkpoints(ns, Saved(writes=[_write(id, "task", 0, f"w{id}", thread=thread, space=space)]))


async def _ids(store: Store, ns: str = "default", **where: Any) -> list[str]:
    return [row.id for row in (await store.checkpoints(ns, **where)).checkpoints]


async def _places(store: Store, ns: str = "default", **where: Any) -> list[Place]:
    return [row.place for row in (await store.checkpoints(ns, **where)).checkpoints]


class CheckpointSuite:
    """Saving, finding and dropping checkpoints."""

    async def test_a_checkpoint_comes_back_whole(self, store: Store, second_store: Store) -> None:
        """Another process finds the checkpoint with the values it refers to and its writes, byte by byte."""
        await _fill(store)
        newest = await second_store.checkpoints("default", thread="t", space="", limit=1)
        (row,) = newest.checkpoints
        assert (row.place, row.parent, row.run) == (("t", "", "3"), "2", "r3")
        assert (row.body, row.meta) == (b"body 3", b"\x00\xff")
        assert sorted(row.refs) == [("a", "3"), ("b", "2")]
        assert {(value.channel, value.version): value.body for value in newest.values} == {("a", "3"): b"a@3", ("b", "2"): b"b@2"}
        assert newest.writes == [_write("3", "task", 0, "w3")]
        older = await second_store.checkpoints("default", thread="t", space="", id="2")
        assert [found.place for found in older.checkpoints] == [("t", "", "2")]
        assert {value.body for value in older.values} == {b"a@1", b"b@2"}

    async def test_a_page_names_a_shared_value_once(self, store: Store) -> None:
        """However many checkpoints of a page refer to a value, it is read once."""
        await _fill(store)
        page = await store.checkpoints("default", thread="t", space="")
        assert [row.id for row in page.checkpoints] == ["3", "2", "1"]
        assert sorted(value.body for value in page.values) == [b"a@1", b"a@3", b"b@1", b"b@2"]
        assert sorted(write.body for write in page.writes) == [b"w1", b"w2", b"w3"]

    async def test_checkpoints_are_found_by_what_names_them(self, store: Store) -> None:
        """Thread, space, id and what came before filter together; namespaces see nothing of each other."""
        await _fill(store)
        await _fill(store, thread="u")
        await _fill(store, space="child:1")
        await _fill(store, "other")
        assert await _ids(store, thread="t", space="") == ["3", "2", "1"]
        assert await _ids(store, thread="t", space="", before="3", limit=1) == ["2"]
        assert await _ids(store, thread="t", space="", id="2", before="2") == []
        assert len(await _ids(store, thread="t")) == 6
        assert len(await _ids(store)) == 9
        assert await _ids(store, space="child:1") == ["3", "2", "1"]
        assert await _ids(store, "third") == []
        assert await _ids(store, thread="missing", space="") == []

    async def test_pages_follow_each_other(self, store: Store) -> None:
        """Page by page everything comes once, largest id first, also where ids are the same."""
        await _fill(store)
        await _fill(store, thread="u")
        await _fill(store, space="s")
        found: list[Place] = []
        while page := await _places(store, after=found[-1] if found else None, limit=2):
            found += page
        assert len(found) == len(set(found)) == 9
        assert [place[2] for place in found] == ["3"] * 3 + ["2"] * 3 + ["1"] * 3

    async def test_ids_are_compared_by_code_point(self, store: Store) -> None:
        """Case and signs count as they are, in every language of a database."""
        for id in ("a", "B", "-c", "Z", "é"):
            await store.put_checkpoints("default", _state(id))
        assert await _ids(store, thread="t", space="") == ["é", "a", "Z", "B", "-c"]

    async def test_saved_again_the_newer_counts(self, store: Store) -> None:
        """A checkpoint that is saved again is replaced; saving the same again changes nothing."""
        await _fill(store)
        again = _state("3", run="r9", a="3")
        await store.put_checkpoints("default", again)
        await store.put_checkpoints("default", again)
        page = await store.checkpoints("default", thread="t", space="", limit=1)
        assert [(row.run, row.parent, row.refs) for row in page.checkpoints] == [("r9", "", (("a", "3"),))]

    async def test_the_first_write_of_a_place_counts(self, store: Store) -> None:
        """A write repeated by a later attempt is left out; of special writes, with negative numbers, the last counts."""
        await store.put_checkpoints("default", _state("1"))
        for turn in ("one", "two"):
            await store.put_checkpoints("default", Saved(writes=[_write("1", "task", n, turn) for n in (0, -1)]))
        page = await store.checkpoints("default", thread="t", space="", id="1")
        assert [(write.n, write.body) for write in page.writes] == [(-1, b"two"), (0, b"one")]

    async def test_writes_come_in_the_order_of_tasks(self, store: Store) -> None:
        """By path, then task, then number; a write may be there before its checkpoint."""
        writes = [_write("1", "b", 1, "4", path="p1"), _write("1", "b", 0, "3", path="p1"), _write("1", "z", 0, "2", path="p0"),
                  _write("1", "y", 0, "1"), _write("1", "c", 0, "5", path="p1")]  # fmt: skip
        await store.put_checkpoints("default", Saved(writes=writes))
        assert (await store.checkpoints("default", thread="t", space="")).writes == []
        await store.put_checkpoints("default", _state("1"))
        page = await store.checkpoints("default", thread="t", space="", id="1")
        assert [write.body for write in page.writes] == [b"1", b"2", b"3", b"4", b"5"]

    async def test_dropping_a_thread_leaves_nothing_of_it(self, store: Store) -> None:
        """All its spaces, values and writes go, and nothing else."""
        await _fill(store)
        await _fill(store, space="s")
        await _fill(store, thread="u")
        await _fill(store, "other")
        await store.put_checkpoints("default", Saved(writes=[_write("9", "task", 0, "early")]))
        assert await store.drop_checkpoints("default", threads=["t", "missing"]) == 6
        assert await store.drop_checkpoints("default", threads=["t"]) == 0
        assert await _ids(store) == ["3", "2", "1"]
        assert len(await _ids(store, "other")) == 3
        await store.put_checkpoints("default", _state("9", a="1", b="2"))
        left = await store.checkpoints("default", thread="t", space="")
        assert (left.values, left.writes) == ([], [])

    async def test_dropping_some_keeps_what_others_refer_to(self, store: Store) -> None:
        """Values go with the last checkpoint that refers to them, writes with theirs."""
        await _fill(store)
        assert await store.drop_checkpoints("default", places=[("t", "", "1"), ("t", "", "2"), ("t", "", "7")]) == 2
        page = await store.checkpoints("default", thread="t", space="")
        assert [row.id for row in page.checkpoints] == ["3"]
        assert sorted(value.body for value in page.values) == [b"a@3", b"b@2"]
        assert [write.body for write in page.writes] == [b"w3"]
        await store.put_checkpoints("default", Saved(checkpoints=_state("1", a="1", b="1").checkpoints))
        assert (await store.checkpoints("default", thread="t", space="", id="1")).values == []

    async def test_dropping_what_runs_saved(self, store: Store) -> None:
        """Every checkpoint of a run goes, in all threads and spaces; an empty run names none."""
        await _fill(store)
        await _fill(store, thread="u")
        await _fill(store, space="s")
        await store.put_checkpoints("default", _state("4"))
        assert await store.drop_checkpoints("default", runs=["r2", "", "missing"]) == 3
        assert await _ids(store, thread="t", space="") == ["4", "3", "1"]
        assert await store.drop_checkpoints("default") == 0

    async def test_a_state_is_never_seen_in_parts(self, store: Store, second_store: Store) -> None:
        """A reader beside a writer finds every checkpoint with all its values, or not at all."""
        channels = [f"c{n}" for n in range(20)]

        async def write() -> None:
            for n in range(10):
                await store.put_checkpoints("default", _state(str(n), **dict.fromkeys(channels, str(n))))
                if n:
                    await store.drop_checkpoints("default", places=[("t", "", str(n - 1))])

        writing = asyncio.get_running_loop().create_task(write())
        seen = 0
        while not (writing.done() and seen):
            page = await second_store.checkpoints("default", thread="t", space="", limit=1)
            for row in page.checkpoints:
                seen += 1
                assert len(page.values) == len(channels), f"checkpoint {row.id} came with {len(page.values)} values"
            await asyncio.sleep(0)
        await writing
