"""Wrapped keys."""

from __future__ import annotations

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.data_keys import DataKeyRow


class DataKeys:
    """The side of the store that keeps wrapped keys."""

    tables: Tables

    async def data_keys(self) -> list[DataKeyRow]:
        """Return all keys in the order they were made, destroyed ones included."""
        return [copied(row) for row in self.tables.data_keys.values()]

    async def add_data_key(self, row: DataKeyRow) -> bool:
        """Keep a key; `False` when the namespace has an `index` key already."""
        kept = self.tables.data_keys
        if row.use == "index" and any(k.ns == row.ns and k.use == "index" and not k.destroyed_at for k in kept.values()):
            return False
        kept[row.id] = msgspec.structs.replace(row, created_at=self.tables.clock())
        return True

    async def rewrap_data_key(self, key: str, wrapped: bytes, master: str) -> bool:
        """Replace a key's wrapping; `False` when there is no such key or it was destroyed."""
        row = self.tables.data_keys.get(key)
        if row is None or row.destroyed_at:
            return False
        row.wrapped, row.master = wrapped, master
        return True

    async def destroy_data_keys(self, ns: str) -> int:
        """Forget the keys of a namespace; return how many."""
        gone = [row for row in self.tables.data_keys.values() if row.ns == ns and not row.destroyed_at]
        for row in gone:
            row.wrapped, row.destroyed_at = b"", self.tables.clock()
        return len(gone)
