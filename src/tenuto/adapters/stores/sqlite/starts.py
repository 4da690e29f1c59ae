"""How often runs were started within a minute."""

from __future__ import annotations

import sqlite3

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import id_text
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.starts import WINDOW_MS, Turn


class Starts(Part):
    """The side of the store that counts starts."""

    async def take_start(self, ns: str, caller: str, tier: str, id: str, limit: int) -> Turn:
        """Count a start if its window has room."""

        def take(tx: Tx) -> Turn:
            sql.change(tx.db, "starts_forget", tx.now - WINDOW_MS)
            found = dict(sql.rows(tx.db, "starts", ns, caller, tier))
            if id in found:
                return Turn(True, len(found))
            if len(found) >= limit:
                first = sorted(found.values())[len(found) - limit] if limit else tx.now
                return Turn(False, len(found), first + WINDOW_MS - tx.now)
            sql.change(tx.db, "start_put", ns, caller, tier, id, tx.now)
            return Turn(True, len(found) + 1)

        return await self.parts.writer.run(take)

    async def return_start(self, ns: str, caller: str, tier: str, id: str) -> None:
        """Count a start no longer."""

        def drop(tx: Tx) -> None:
            sql.change(tx.db, "start_drop", ns, caller, tier, id)

        await self.parts.writer.run(drop)

    async def business_run(self, ns: str, key: str) -> str | None:
        """Return the unfinished run with a business key."""

        def read(db: sqlite3.Connection) -> str | None:
            row = sql.first(db, "business_run", ns, key)
            return id_text(row[0]) if row is not None else None

        return await self.parts.readers.run(read)
