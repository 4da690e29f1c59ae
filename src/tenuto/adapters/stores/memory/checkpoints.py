"""Checkpoints of graphs that run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.checkpoints import Place, Saved, ValueRow


class Checkpoints:
    """The checkpoints' side of the store."""

    tables: Tables

    async def put_checkpoints(self, ns: str, saved: Saved) -> None:
        """Store checkpoints, values and writes; repeats are harmless."""
        for value in saved.values:
            self.tables.values[ns, value.thread, value.space, value.channel, value.version] = value
        for write in saved.writes:
            of_checkpoint = self.tables.writes.setdefault((ns, write.thread, write.space, write.id), {})
            if write.n < 0 or (write.task, write.n) not in of_checkpoint:
                of_checkpoint[write.task, write.n] = write
        for row in saved.checkpoints:
            self.tables.checkpoints[ns, *row.place] = copied(row)

    async def checkpoints(
        self, ns: str, *, thread: str | None = None, space: str | None = None, id: str = "", before: str = "",
        after: Place | None = None, limit: int = 100,
    ) -> Saved:  # fmt: skip
        """Return checkpoints, largest id first, with their values and writes."""
        last = (after[2], after[0], after[1]) if after is not None else None
        found = [
            row for (of, *_), row in self.tables.checkpoints.items()
            if of == ns and thread in (None, row.thread) and space in (None, row.space) and id in ("", row.id)
            and (not before or row.id < before) and (last is None or (row.id, row.thread, row.space) < last)
        ]  # fmt: skip
        found.sort(key=lambda row: (row.id, row.thread, row.space), reverse=True)
        page = Saved(checkpoints=[copied(row) for row in found[:limit]])
        values: dict[tuple[str, str, str, str], ValueRow] = {}
        for row in page.checkpoints:
            for channel, version in row.refs:
                value = self.tables.values.get((ns, row.thread, row.space, channel, version))
                if value is not None:
                    values[row.thread, row.space, channel, version] = value
            writes = self.tables.writes.get((ns, *row.place), {}).values()
            page.writes += sorted(writes, key=lambda write: (write.path, write.task, write.n))
        page.values += values.values()
        return page

    async def drop_checkpoints(
        self, ns: str, *, threads: Sequence[str] = (), runs: Sequence[str] = (), places: Sequence[Place] = (),
    ) -> int:  # fmt: skip
        """Delete checkpoints with their writes, and values no checkpoint is left to refer to."""
        tables = self.tables
        gone = [
            key for key, row in tables.checkpoints.items()
            if key[0] == ns and (row.thread in threads or (row.run and row.run in runs) or row.place in places)
        ]  # fmt: skip
        for key in gone:
            del tables.checkpoints[key]
            tables.writes.pop(key, None)
        for key in [key for key in tables.writes if key[0] == ns and key[1] in threads]:
            del tables.writes[key]
        touched = {key[1] for key in gone} | set(threads)
        live = {
            (of, thread, space, *ref)
            for (of, thread, space, _), row in tables.checkpoints.items()
            for ref in row.refs
        }
        for key in [key for key in tables.values if key[0] == ns and key[1] in touched and key not in live]:
            del tables.values[key]
        return len(gone)
