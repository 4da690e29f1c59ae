"""Wrapped keys."""

from __future__ import annotations

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.data_keys import DataKeyRow


class DataKeys(Part):
    """The side of the store that keeps wrapped keys."""

    async def data_keys(self) -> list[DataKeyRow]:
        """Return all keys in the order they were made, destroyed ones included."""
        return [DataKeyRow(**dict(row)) for row in await self.parts.pool.fetch("data_keys")]

    async def add_data_key(self, row: DataKeyRow) -> bool:
        """Keep a key; `False` when the namespace has an `index` key already."""
        return bool(await self.parts.pool.value("data_key_add", row.id, row.ns, row.use, row.wrapped, row.master))

    async def rewrap_data_key(self, key: str, wrapped: bytes, master: str) -> bool:
        """Replace a key's wrapping; `False` when there is no such key or it was destroyed."""
        return bool(await self.parts.pool.value("data_key_rewrap", key, wrapped, master))

    async def destroy_data_keys(self, ns: str) -> int:
        """Forget the keys of a namespace; the server drops the old rows' bytes when it next vacuums the table."""
        return int(await self.parts.pool.value("data_key_destroy", ns))
