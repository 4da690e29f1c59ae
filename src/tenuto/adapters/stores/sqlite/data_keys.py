"""Wrapped keys."""

from __future__ import annotations

import asyncio

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.connection import Connect
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.data_keys import DataKeyRow


class DataKeys(Part):
    """The side of the store that keeps wrapped keys."""

    async def data_keys(self) -> list[DataKeyRow]:
        """Return all keys in the order they were made, destroyed ones included."""
        found = await self.parts.readers.rows("data_keys")
        return [
            DataKeyRow(id=key, ns=ns, use=use, wrapped=wrapped, master=master, created_at=created, destroyed_at=gone)
            for key, ns, use, wrapped, master, created, gone in found
        ]

    async def add_data_key(self, row: DataKeyRow) -> bool:
        """Keep a key; `False` when the namespace has an `index` key already."""
        return await self.parts.writer.run(
            lambda tx: sql.change(tx.db, "data_key_add", row.id, row.ns, row.use, row.wrapped, row.master, tx.now) > 0
        )

    async def rewrap_data_key(self, key: str, wrapped: bytes, master: str) -> bool:
        """Replace a key's wrapping; `False` when there is no such key or it was destroyed."""
        return await self.parts.writer.run(lambda tx: sql.change(tx.db, "data_key_rewrap", key, wrapped, master) > 0)

    async def destroy_data_keys(self, ns: str) -> int:
        """Forget the keys of a namespace; their bytes are overwritten in the file, and the log is emptied of them."""

        def destroy(tx: Tx) -> int:
            sql.first(tx.db, "overwrite_deleted")
            return sql.change(tx.db, "data_key_destroy", ns, tx.now)

        gone = await self.parts.writer.run(destroy)
        await asyncio.to_thread(_empty_log, self.parts.connect)
        return gone


def _empty_log(connect: Connect) -> None:
    db = connect()
    try:
        sql.first(db, "checkpoint_truncate")
    finally:
        db.close()
