"""What a store keeps of the keys that seal its contents: the keys themselves only wrapped, never in the clear."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class DataKeyRow(msgspec.Struct, kw_only=True):
    """A key that seals what a namespace stores.

    Attributes:
        id: 16 hexadecimal digits, unlike any other key's.
        ns: The namespace it serves; empty for what belongs to all of them.
        use: `data` seals; the newest seals what is written. `index` makes names that can be compared without being
            read; a namespace has one at a time.
        wrapped: The key, sealed by a master key; empty once destroyed.
        master: Id of that master key.
        destroyed_at: When it was destroyed; 0 = it was not.
    """

    id: str
    ns: str
    use: Literal["data", "index"]
    wrapped: bytes
    master: str
    created_at: int = 0
    destroyed_at: int = 0


class DataKeys(Protocol):
    """The part of a store that keeps wrapped keys."""

    async def data_keys(self) -> list[DataKeyRow]:
        """Return all keys in the order they were made, destroyed ones included."""
        ...

    async def add_data_key(self, row: DataKeyRow) -> bool:
        """Keep a key, dated by the store's clock; `False` when the namespace has an `index` key already."""
        ...

    async def rewrap_data_key(self, key: str, wrapped: bytes, master: str) -> bool:
        """Replace a key's wrapping; `False` when there is no such key or it was destroyed."""
        ...

    async def destroy_data_keys(self, ns: str) -> int:
        """Forget the keys of a namespace, and see that their bytes leave the store's files; return how many."""
        ...
