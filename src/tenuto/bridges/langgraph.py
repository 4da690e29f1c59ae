"""LangGraph on a Tenuto store: a checkpointer that saves threads beside the journals, by the same URL.

Every save is one transaction and is on the disk when it returns. Nothing is pickled, and a value whose type may not
be rebuilt is refused when it is saved, not when somebody needs it.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from tenuto.bridges import langgraph_rows as rows
from tenuto.bridges.langgraph_rows import Config
from tenuto.bridges.line import Line, Work
from tenuto.errors import InvalidSettings
from tenuto.ports.checkpoints import Place, Saved, ValueRow
from tenuto.ports.store import Store
from tenuto.wiring import open_store, refuse_sealed

try:
    from langgraph.checkpoint.base import (
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        get_checkpoint_id,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
except ImportError as error:
    raise ImportError("LangGraph is not installed; install the extra: pip install 'tenuto[langgraph]'") from error

STRATEGIES = ("keep_latest", "delete")
_PAGE = 100
_DELTAS = "counters_since_delta_snapshot"


async def _opened(url: str, master_keys: Sequence[str]) -> Store:
    store = open_store(url, master_keys=master_keys)
    await store.open()
    await refuse_sealed(store, master_keys)
    return store


class TenutoSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph graphs in a Tenuto store. For any thread and any event loop.

    It connects when it is first used. `with` and `async with` close it at the end; so does `close()`.

    Args:
        url: `sqlite:///path.db`, `postgresql://user@host/db` or `memory:`, as everywhere in Tenuto.
        ns: Namespace; savers of different namespaces see nothing of each other.
        types: Classes of your own that states hold (pydantic models, dataclasses, enums). Plain data, dates and
            LangChain's messages need not be named; any other type is refused.
        serde: Another serializer instead of LangGraph's own in its strict form; `types` does not count then.
        master_keys: `env:NAME` or `file:PATH` of the keys of an encrypted database, the one in force first.

    Raises:
        InvalidSettings: The URL names no store, or the serializer falls back to pickle.
    """

    def __init__(
        self, url: str, *, ns: str = "default", types: Iterable[type] = (), serde: SerializerProtocol | None = None,
        master_keys: Sequence[str] = (),
    ) -> None:
        """Remember where to save; nothing is connected yet."""
        if serde is None:
            named = [(cls.__module__, cls.__name__) for cls in types]
            serde = JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=named or None)
        rows.refuse_pickle(serde)
        super().__init__(serde=serde)
        open_store(url)  # a URL that names no store is refused here, not at the first save
        self.ns = ns
        self._line = Line(partial(_opened, url, master_keys))

    def close(self) -> None:
        """Finish what was accepted and disconnect; the saver cannot be used afterwards."""
        self._line.close()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Close at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """Return a version that is larger, and another one on every branch of a thread."""
        last = int(str(current).split(".")[0]) if current is not None else 0
        return f"{last + 1:032}.{secrets.token_hex(8)}"

    # --- saving -----------------------------------------------------------------------------------------------

    def put(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> Config:
        """Save a checkpoint with the values that are new at it, in one transaction.

        Raises:
            TypeRefused: A value has a type that may not be rebuilt.
        """
        place, saved = rows.checkpoint(self.serde, config, checkpoint, metadata, new_versions)
        self._line.now(lambda store: store.put_checkpoints(self.ns, saved))
        return rows.config_of(place)

    async def aput(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> Config:
        """Do as `put`."""
        place, saved = rows.checkpoint(self.serde, config, checkpoint, metadata, new_versions)
        await self._line.soon(lambda store: store.put_checkpoints(self.ns, saved))
        return rows.config_of(place)

    def put_writes(
        self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task wrote after a checkpoint, in one transaction.

        Raises:
            TypeRefused: A value has a type that may not be rebuilt.
        """
        saved = rows.writes(self.serde, config, writes, task_id, task_path)
        self._line.now(lambda store: store.put_checkpoints(self.ns, saved))

    async def aput_writes(
        self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Do as `put_writes`."""
        saved = rows.writes(self.serde, config, writes, task_id, task_path)
        await self._line.soon(lambda store: store.put_checkpoints(self.ns, saved))

    # --- reading ----------------------------------------------------------------------------------------------

    def get_tuple(self, config: Config) -> CheckpointTuple | None:
        """Return the checkpoint a config names, or the newest of its thread."""
        where = _where(config, space="")
        saved = self._line.now(lambda store: store.checkpoints(self.ns, **where, limit=1))
        return next(rows.tuples(self.serde, saved), None)

    async def aget_tuple(self, config: Config) -> CheckpointTuple | None:
        """Do as `get_tuple`."""
        where = _where(config, space="")
        saved = await self._line.soon(lambda store: store.checkpoints(self.ns, **where, limit=1))
        return next(rows.tuples(self.serde, saved), None)

    def list(
        self, config: Config | None, *, filter: dict[str, Any] | None = None, before: Config | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:  # fmt: skip
        """Return the checkpoints that match, newest first; pages are read as they are needed."""
        pages = _Pages(config, filter, before, limit)
        while pages.more:
            saved = self._line.now(pages.read(self.ns))
            yield from pages.match(rows.tuples(self.serde, saved), saved)

    async def alist(
        self, config: Config | None, *, filter: dict[str, Any] | None = None, before: Config | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:  # fmt: skip
        """Do as `list`."""
        pages = _Pages(config, filter, before, limit)
        while pages.more:
            saved = await self._line.soon(pages.read(self.ns))
            for found in pages.match(rows.tuples(self.serde, saved), saved):
                yield found

    # --- threads ----------------------------------------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Delete all that was saved of a thread, in one transaction."""
        self._line.now(lambda store: store.drop_checkpoints(self.ns, threads=[thread_id]))

    async def adelete_thread(self, thread_id: str) -> None:
        """Do as `delete_thread`."""
        await self._line.soon(lambda store: store.drop_checkpoints(self.ns, threads=[thread_id]))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete all that runs saved, in one transaction; a `DeltaChannel` of a thread that goes on may need it."""
        self._line.now(lambda store: store.drop_checkpoints(self.ns, runs=run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do as `delete_for_runs`."""
        await self._line.soon(lambda store: store.drop_checkpoints(self.ns, runs=run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread whole, in one transaction; copying again is harmless."""
        self._line.now(lambda store: _copy(store, self.ns, source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do as `copy_thread`."""
        await self._line.soon(lambda store: _copy(store, self.ns, source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete threads, or all but the newest checkpoint of each space with the ancestors it is rebuilt from.

        Raises:
            InvalidSettings: The strategy is not known.
        """
        _known(strategy)
        for thread in thread_ids:
            doomed = [] if strategy == "delete" else self._old(builtins.list(self.list(_thread(thread))))
            self._line.now(lambda store, doomed=doomed, thread=thread: _drop(store, self.ns, strategy, thread, doomed))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do as `prune`."""
        _known(strategy)
        for thread in thread_ids:
            doomed: builtins.list[Place] = []
            if strategy == "keep_latest":
                doomed = self._old([found async for found in self.alist(_thread(thread))])
            await self._line.soon(
                lambda store, doomed=doomed, thread=thread: _drop(store, self.ns, strategy, thread, doomed)
            )

    def _old(self, found: builtins.list[CheckpointTuple]) -> builtins.list[Place]:
        """Return the checkpoints that neither are the newest of their space nor hold what the newest is rebuilt from."""
        by_place = {rows.place_of(item.config): item for item in found}
        kept: set[Place] = set()
        spaces: set[str] = set()
        for place, item in by_place.items():  # newest first
            if place[1] in spaces:
                continue
            spaces.add(place[1])
            kept.add(place)
            wanted = {*item.metadata.get(_DELTAS, {})} - item.checkpoint["channel_values"].keys()
            while wanted and item.parent_config is not None:
                parent = by_place.get(rows.place_of(item.parent_config))
                if parent is None:
                    break
                item = parent
                kept.add(rows.place_of(item.config))
                wanted -= item.checkpoint["channel_values"].keys()
        return [place for place in by_place if place not in kept]


class _Pages:
    """A list that is read page by page, until enough has matched."""

    def __init__(
        self, config: Config | None, filter: dict[str, Any] | None, before: Config | None, limit: int | None
    ) -> None:
        self._where = _where(config) if config else {}
        self._before = (get_checkpoint_id(before) or "") if before else ""
        self._filter = filter or {}
        self._left = limit
        self._after: Place | None = None
        self.more = limit is None or limit > 0

    def read(self, ns: str) -> Work[Saved]:
        """Return the work of reading the next page."""
        size = _PAGE if self._left is None or self._filter else min(self._left, _PAGE)
        where: dict[str, Any] = {**self._where, "before": self._before, "after": self._after, "limit": size}

        def read(store: Store) -> Coroutine[Any, Any, Saved]:
            return store.checkpoints(ns, **where)

        return read

    def match(self, found: Iterator[CheckpointTuple], saved: Saved) -> Iterator[CheckpointTuple]:
        """Return what matches of a page that was read."""
        self._after = saved.checkpoints[-1].place if saved.checkpoints else None
        self.more = self._after is not None
        for item in found:
            metadata = cast("dict[str, Any]", item.metadata)
            if all(metadata.get(key) == value for key, value in self._filter.items()):
                yield item
                if self._left is not None:
                    self._left -= 1
                    if self._left == 0:
                        self.more = False
                        return


async def _copy(store: Store, ns: str, source: str, target: str) -> None:
    whole = Saved()
    after: Place | None = None
    values: dict[tuple[str, str, str], ValueRow] = {}
    while (page := await store.checkpoints(ns, thread=source, after=after, limit=_PAGE)).checkpoints:
        after = page.checkpoints[-1].place
        replace = msgspec.structs.replace
        whole.checkpoints += [replace(row, thread=target) for row in page.checkpoints]
        whole.writes += [replace(row, thread=target) for row in page.writes]
        values.update({(row.space, row.channel, row.version): replace(row, thread=target) for row in page.values})
    whole.values += values.values()
    await store.put_checkpoints(ns, whole)


async def _drop(store: Store, ns: str, strategy: str, thread: str, places: Sequence[Place]) -> None:
    threads = [thread] if strategy == "delete" else []
    await store.drop_checkpoints(ns, threads=threads, places=places)


def _known(strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise InvalidSettings(f"{strategy!r} is no strategy for pruning; use {' or '.join(STRATEGIES)}")


def _where(config: Config, *, space: str | None = None) -> dict[str, Any]:
    given = config["configurable"]
    return {
        "thread": str(given["thread_id"]), "space": given.get("checkpoint_ns", space),
        "id": get_checkpoint_id(config) or "",
    }  # fmt: skip


def _thread(thread: str) -> Config:
    return {"configurable": {"thread_id": thread}}
