"""Checkpoints of graphs that run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.checkpoints import CheckpointRow, Place, Saved, ValueRow, WriteRow

_LAST = "\U0010ffff"
_VALUE = ("thread", "space", "channel", "version", "body")
_WRITE = ("thread", "space", "id", "task", "n", "path", "channel", "body")
_CHECKPOINT = ("thread", "space", "id", "parent", "run")


class Checkpoints(Part):
    """The checkpoints' side of the store."""

    async def put_checkpoints(self, ns: str, saved: Saved) -> None:
        """Store checkpoints, values and writes in one statement; repeats are harmless."""
        rows = saved.checkpoints
        refs = [msgspec.json.encode(row.refs).decode() for row in rows]
        await self.parts.pool.fetch(
            "checkpoints_put", ns, *_columns(saved.values, _VALUE), *_columns(saved.writes, _WRITE),
            *_columns(rows, _CHECKPOINT), refs, [row.body for row in rows], [row.meta for row in rows],
        )  # fmt: skip

    async def checkpoints(
        self, ns: str, *, thread: str | None = None, space: str | None = None, id: str = "", before: str = "",
        after: Place | None = None, limit: int = 100,
    ) -> Saved:  # fmt: skip
        """Return checkpoints, largest id first, with their values and writes, all of one moment."""
        name = "checkpoint_list" if thread is None or space is None else "checkpoint_of_thread"
        last = (after[2], after[0], after[1]) if after is not None else (None, None, None)
        found = await self.parts.pool.fetch(name, ns, thread, space, id, id or _LAST, before or None, *last, limit)
        page = Saved(
            checkpoints=[_checkpoint(row) for row in found if row["part"] == 0],
            values=[_value(row) for row in found if row["part"] == 1],
            writes=[_write(row) for row in found if row["part"] == 2],
        )
        page.checkpoints.sort(key=lambda row: (row.id, row.thread, row.space), reverse=True)
        page.writes.sort(key=lambda write: (write.path, write.task, write.n))
        return page

    async def drop_checkpoints(
        self, ns: str, *, threads: Sequence[str] = (), runs: Sequence[str] = (), places: Sequence[Place] = (),
    ) -> int:  # fmt: skip
        """Delete checkpoints with their writes, and values no checkpoint is left to refer to, in one statement."""
        named = [[place[at] for place in places] for at in range(3)]
        return await self.parts.pool.value("checkpoints_drop", ns, list(threads), list(runs), *named)


def _columns(rows: Sequence[msgspec.Struct], names: Sequence[str]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in names]


def _checkpoint(row: Any) -> CheckpointRow:
    return CheckpointRow(
        thread=row["thread"], space=row["space"], id=row["id"], parent=row["a"], run=row["b"], body=row["body"],
        meta=row["meta"], refs=msgspec.json.decode(row["c"], type=tuple[tuple[str, str], ...]),
    )  # fmt: skip


def _value(row: Any) -> ValueRow:
    return ValueRow(
        thread=row["thread"], space=row["space"], channel=row["a"], version=row["b"], body=row["body"]
    )


def _write(row: Any) -> WriteRow:
    return WriteRow(
        thread=row["thread"], space=row["space"], id=row["id"], task=row["a"], path=row["b"], channel=row["c"],
        n=row["n"], body=row["body"],
    )  # fmt: skip
