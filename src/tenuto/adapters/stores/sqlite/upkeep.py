"""Forgetting what nobody needs any more."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.sqlite import rows, sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx

_MOVING = "-"
_BLOBS = "sha256:"
_digests = re.compile(rb"sha256:[0-9a-f]{64}").findall
_moving = ("moving_outbox", "moving_task", "moving_inbox", "moving_cache")


class Upkeep(Part):
    """The upkeep side of the store."""

    async def prune_tail(self, keep_ms: int, limit: int = 10_000) -> int:
        """Forget groups that every projection is past and that were the newest `keep_ms` ago; return how many."""

        def prune(tx: Tx) -> int:
            gone = 0
            for writer, mark, seen, newest in sql.rows(tx.db, "tail_old", tx.now - keep_ms):
                gone += sql.change(tx.db, "tail_drop", writer, min(mark, seen, newest - 1), limit - gone)
                if gone >= limit:
                    break
                sql.change(tx.db, "tail_mark", writer, newest, tx.now)
            return gone

        return await self.parts.writer.run(prune)

    async def prune_keys(self, before: int, limit: int = 10_000) -> int:
        """Forget idempotency keys used before a time; return how many."""
        return await self.parts.writer.run(lambda tx: sql.change(tx.db, "keys_drop", before, limit))

    async def references(self, after: str = "", limit: int = 200) -> tuple[list[bytes], str]:
        """Return texts that may name blobs and where to go on: what is under way, then journals, then values."""
        run = stored_id(after) or b""

        def read(db: sqlite3.Connection) -> tuple[list[bytes], str]:
            with sql.one_moment(db):
                if not after:
                    return [row[0] for name in _moving for row in sql.rows(db, name)], _MOVING
                if after.startswith(_BLOBS):
                    # One value at a time: each may be long, and only the names in it matter.
                    naming = [(digest, b",".join(_digests(body))) for digest, body in sql.each(db, "blobs_naming", after, limit)]
                    return [names for _, names in naming], naming[-1][0] if len(naming) == limit else ""
                runs = sql.rows(db, "run_ids", run, limit)
                found = sql.rows(db, "naming", runs[0][0], runs[-1][0]) if runs else []
            return [row[0] for row in found], rows.id_text(runs[-1][0]) if len(runs) == limit else _BLOBS

        return await self.parts.readers.run(read)

    async def list_blobs(self, after: str = "", limit: int = 10_000) -> list[str]:
        """Return digests greater than `after`, in order."""
        return [row[0] for row in await self.parts.readers.rows("blob_list", after, limit)]

    async def sweep_blobs(self, used: Sequence[str], unused: Sequence[str], before: int) -> int:
        """Note which blobs are used and which are not; delete those unused since before a time, return how many."""
        kept, left = (msgspec.json.encode(list(digests)).decode() for digests in (used, unused))

        def sweep(tx: Tx) -> int:
            sql.change(tx.db, "blob_used", kept)
            gone = sql.change(tx.db, "blob_drop", left, before)
            sql.change(tx.db, "blob_orphan", left, tx.now)
            sql.change(tx.db, "artifact_used", kept)
            sql.change(tx.db, "artifact_doomed", left, before)
            gone += sql.change(tx.db, "artifact_drop", left, before)
            sql.change(tx.db, "artifact_orphan", left, tx.now)
            return gone

        return await self.parts.writer.run(sweep)
