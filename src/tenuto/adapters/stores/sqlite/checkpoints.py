"""Checkpoints of graphs that run elsewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.checkpoints import CheckpointRow, Place, Saved, ValueRow, WriteRow

_LAST = "\U0010ffff"


class Checkpoints(Part):
    """The checkpoints' side of the store."""

    async def put_checkpoints(self, ns: str, saved: Saved) -> None:
        """Store checkpoints, values and writes in one transaction; repeats are harmless."""
        values = [(ns, v.thread, v.space, v.channel, v.version, v.body) for v in saved.values]
        writes = [
            (ns, w.thread, w.space, w.id, w.task, w.n, w.path, w.channel, w.body) for w in saved.writes
        ]
        rows = [
            (ns, row.thread, row.space, row.id, row.parent, row.run, _text(row.refs), row.body, row.meta)
            for row in saved.checkpoints
        ]

        def put(tx: Tx) -> None:
            sql.changes(tx.db, "checkpoint_value_put", values)
            sql.changes(tx.db, "checkpoint_write_put", writes)
            sql.changes(tx.db, "checkpoint_put", rows)

        await self.parts.writer.run(put)

    async def checkpoints(
        self, ns: str, *, thread: str | None = None, space: str | None = None, id: str = "", before: str = "",
        after: Place | None = None, limit: int = 100,
    ) -> Saved:  # fmt: skip
        """Return checkpoints, largest id first, with their values and writes, all of one moment."""
        name = "checkpoint_list" if thread is None or space is None else "checkpoint_of_thread"
        last = (after[2], after[0], after[1]) if after is not None else (None, None, None)
        asked = (ns, thread, space, id, id or _LAST, before or None, *last, limit)

        def read(db: sqlite3.Connection) -> Saved:
            with sql.one_moment(db):
                page = Saved(checkpoints=[_row(found) for found in sql.rows(db, name, *asked)])
                values: dict[tuple[str, str, str, str], ValueRow] = {}
                for row in page.checkpoints:
                    for channel, version in row.refs:
                        key = (row.thread, row.space, channel, version)
                        found = sql.first(db, "checkpoint_value", ns, *key) if key not in values else None
                        if found is not None:
                            values[key] = ValueRow(
                                thread=row.thread, space=row.space, channel=channel, version=version, body=found[0]
                            )
                    page.writes += [_write(row, *found) for found in sql.rows(db, "checkpoint_writes", ns, *row.place)]
            page.values += values.values()
            return page

        return await self.parts.readers.run(read)

    async def drop_checkpoints(
        self, ns: str, *, threads: Sequence[str] = (), runs: Sequence[str] = (), places: Sequence[Place] = (),
    ) -> int:  # fmt: skip
        """Delete checkpoints with their writes, and values no checkpoint is left to refer to, in one transaction."""

        def drop(tx: Tx) -> int:
            found = sql.rows(tx.db, "checkpoint_doomed", ns, _text(threads), _text(runs), _text(places))
            sql.changes(tx.db, "checkpoint_drop", [(ns, *place) for place in found])
            sql.changes(tx.db, "checkpoint_write_drop", [(ns, *place) for place in found])
            sql.changes(tx.db, "checkpoint_thread_write_drop", [(ns, thread) for thread in threads])
            touched = {place[0] for place in found} | set(threads)
            sql.changes(tx.db, "checkpoint_value_drop", [(ns, thread) for thread in touched])
            return len(found)

        return await self.parts.writer.run(drop)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _row(found: tuple[str, str, str, str, str, str, bytes, bytes]) -> CheckpointRow:
    thread, space, checkpoint, parent, run, refs, body, meta = found
    return CheckpointRow(
        thread=thread, space=space, id=checkpoint, parent=parent, run=run, body=body, meta=meta,
        refs=msgspec.json.decode(refs, type=tuple[tuple[str, str], ...]),
    )  # fmt: skip


def _write(row: CheckpointRow, task: str, n: int, path: str, channel: str, body: bytes) -> WriteRow:
    return WriteRow(
        thread=row.thread, space=row.space, id=row.id, task=task, n=n, path=path, channel=channel, body=body
    )
