"""Between what LangGraph saves and the rows of a store: serialised by LangGraph's own serializer, never pickled."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from tenuto.errors import Invalid, InvalidSettings
from tenuto.ports.checkpoints import CheckpointRow, Place, Saved, ValueRow, WriteRow

try:
    from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple, get_checkpoint_metadata
    from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
except ImportError as error:
    raise ImportError("LangGraph is not installed; install the extra: pip install 'tenuto[langgraph]'") from error

Config = Any
"""A LangGraph `RunnableConfig`."""
_EMPTY = b"empty\0"


class TypeRefused(Invalid):
    """A value has a type that a checkpoint may not hold; nothing was saved."""

    code = "checkpoint.type_refused"


def refuse_pickle(serde: Any) -> None:
    """Refuse a serializer that builds objects from any bytes.

    Raises:
        InvalidSettings: It, or the one within it, falls back to pickle.
    """
    while serde is not None:
        if getattr(serde, "pickle_fallback", False):
            raise InvalidSettings(
                "the serializer falls back to pickle, which runs code from stored bytes; use "
                "JsonPlusSerializer(pickle_fallback=False) and name your own classes in `types`"
            )
        serde = getattr(serde, "serde", None)


# --- configs ---------------------------------------------------------------------------------------------------


def place_of(config: Config) -> Place:
    """Return what names the checkpoint of a config."""
    given = config["configurable"]
    return str(given["thread_id"]), str(given.get("checkpoint_ns", "")), str(given["checkpoint_id"])


def config_of(place: Place) -> Config:
    """Return a config that names a checkpoint."""
    thread, space, checkpoint = place
    return {"configurable": {"thread_id": thread, "checkpoint_ns": space, "checkpoint_id": checkpoint}}


# --- to rows ---------------------------------------------------------------------------------------------------


def checkpoint(
    serde: Any, config: Config, state: Any, metadata: Any, new_versions: Mapping[str, Any]
) -> tuple[Place, Saved]:
    """Return the rows of a checkpoint: itself, and the values that are new at it.

    Raises:
        TypeRefused: A value has a type that may not be rebuilt.
    """
    given = config["configurable"]
    thread, space = str(given["thread_id"]), str(given.get("checkpoint_ns", ""))
    values: dict[str, Any] = state["channel_values"]
    versions: dict[str, Any] = state["channel_versions"]
    meta = cast("dict[str, Any]", get_checkpoint_metadata(config, metadata))
    row = CheckpointRow(
        thread=thread, space=space, id=state["id"], parent=given.get("checkpoint_id") or "",
        run=str(meta.get("run_id") or ""), meta=_dump(serde, meta),
        body=_dump(serde, {key: value for key, value in state.items() if key != "channel_values"}),
        refs=tuple((channel, _text(version)) for channel, version in versions.items()),
    )  # fmt: skip
    fresh = [
        ValueRow(
            thread=thread, space=space, channel=channel, version=_text(version),
            body=_dump(serde, values[channel]) if channel in values else _EMPTY,
        )
        for channel, version in new_versions.items()
    ]  # fmt: skip
    return row.place, Saved(checkpoints=[row], values=fresh)


def writes(serde: Any, config: Config, written: Sequence[tuple[str, Any]], task: str, path: str) -> Saved:
    """Return the rows of what a task wrote.

    Raises:
        TypeRefused: A value has a type that may not be rebuilt.
    """
    thread, space, of = place_of(config)
    found: dict[int, WriteRow] = {}
    for at, (channel, value) in enumerate(written):
        n = WRITES_IDX_MAP.get(channel, at)
        found[n] = WriteRow(
            thread=thread, space=space, id=of, task=task, n=n, path=path, channel=channel, body=_dump(serde, value)
        )
    return Saved(writes=list(found.values()))


# --- from rows -------------------------------------------------------------------------------------------------


def tuples(serde: Any, saved: Saved) -> Iterator[CheckpointTuple]:
    """Return checkpoints as LangGraph wants them, in the order of the rows.

    Raises:
        TypeRefused: A value has a type that may not be rebuilt any more.
    """
    values = {(row.thread, row.space, row.channel, row.version): row.body for row in saved.values}
    pending: dict[Place, list[tuple[str, str, Any]]] = {}
    for write in saved.writes:
        of_checkpoint = pending.setdefault((write.thread, write.space, write.id), [])
        of_checkpoint.append((write.task, write.channel, _load(serde, write.body)))
    for row in saved.checkpoints:
        found = {ref[0]: values.get((row.thread, row.space, *ref), _EMPTY) for ref in row.refs}
        present = {channel: _load(serde, body) for channel, body in found.items() if body != _EMPTY}
        yield CheckpointTuple(
            config=config_of(row.place),
            checkpoint=cast("Any", {**_load(serde, row.body), "channel_values": present}),
            metadata=_load(serde, row.meta),
            parent_config=config_of((row.thread, row.space, row.parent)) if row.parent else None,
            pending_writes=pending.get(row.place, []),
        )


# --- values ----------------------------------------------------------------------------------------------------


def _text(version: str | int | float) -> str:
    return msgspec.json.encode(version).decode()


def _dump(serde: Any, value: Any) -> bytes:
    """Return the kind and the bytes of a value that can be loaded again; found out now, not when it is needed."""
    kind, body = serde.dumps_typed(value)
    packed = kind.encode() + b"\0" + body
    _load(serde, packed)
    return packed


def _load(serde: Any, packed: bytes) -> Any:
    kind, _, body = packed.partition(b"\0")
    with _refusals() as refused:
        value = serde.loads_typed((kind.decode(), body))
    if refused:
        names = ", ".join(sorted(set(refused)))
        last = refused[0].rpartition(".")[2]
        raise TypeRefused(
            f"a checkpoint may not hold a value of type {names}: only plain data and the types that were named are "
            f"rebuilt; name it: TenutoSaver(url, types=[{last}])"
        )
    return value


_hearing = threading.local()


@contextmanager
def _refusals() -> Generator[list[str]]:
    """Collect the types that the serializer refuses to rebuild on this thread; it only tells its listeners."""
    refused: list[str] = []
    _hearing.refused = refused
    try:
        yield refused
    finally:
        _hearing.refused = None


def _hear(event: SerdeEvent) -> None:
    refused: list[str] | None = getattr(_hearing, "refused", None)
    if refused is not None and event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
        refused.append(f"{event['module']}.{event['name']}")


register_serde_event_listener(_hear)
