"""The data keys of all namespaces as one process knows them: made when first needed, read again every second."""

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenuto.adapters.stores.sealed.masters import KEY_BYTES, Masters
from tenuto.errors import InvalidSettings
from tenuto.ports.data_keys import DataKeyRow, DataKeys

log = logging.getLogger("tenuto.encryption")
FRESH_S = 1.0
EVERYBODY = ""
"""The namespace of what belongs to all: workflow definitions, which outlive any tenant."""


class DataKey:
    """A key that can be used.

    Attributes:
        aead: Seals and opens; `None` once destroyed, or while its master key is unknown.
    """

    __slots__ = ("_secret", "aead", "destroyed_at", "id", "ns", "trouble")

    def __init__(self, row: DataKeyRow, secret: bytes, trouble: str = "") -> None:
        self.id, self.ns, self.destroyed_at, self.trouble = row.id, row.ns, row.destroyed_at, trouble
        self._secret = secret
        self.aead = AESGCM(secret) if secret else None

    def digest(self, purpose: bytes, data: bytes) -> bytes:
        """Return 32 bytes that only this key makes of some data, different for each purpose."""
        return hmac.digest(self._secret, purpose + b"\0" + data, "sha256")


class KeyRing:
    """Keys by id and by namespace. Its contents change at `refresh` only, so sealing and opening never wait."""

    def __init__(self, store: DataKeys, masters: Masters) -> None:
        """Know no key yet."""
        self._store = store
        self._masters = masters
        self._keys: dict[str, DataKey] = {}
        self._data: dict[str, DataKey] = {}
        self._index: dict[str, DataKey] = {}
        self._read_at = -FRESH_S

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._keys)

    def key(self, key: str) -> DataKey | None:
        """Return a key by its id."""
        return self._keys.get(key)

    def data(self, ns: str) -> DataKey:
        """Return the key that seals what a namespace writes now; `ready` has been awaited for it."""
        return self._data[ns]

    def index(self, ns: str) -> DataKey:
        """Return the key of a namespace's names; `ready` has been awaited for it."""
        return self._index[ns]

    def namespaces(self) -> list[str]:
        """Return the namespaces with living keys."""
        return [ns for ns in self._index if ns != EVERYBODY]

    @property
    def master(self) -> str:
        """Return the id of the master key in force."""
        return self._masters.current

    def troubles(self) -> list[str]:
        """Return why keys cannot be opened, for those that should be."""
        return [key.trouble for key in self._keys.values() if key.trouble]

    def has(self, ns: str) -> bool:
        """Return whether anything readable can have been stored in a namespace."""
        return ns in self._index

    async def ready(self, namespaces: Iterable[str]) -> None:
        """See that each namespace has keys, and that a key another process made a second ago is known here."""
        if time.monotonic() - self._read_at > FRESH_S:
            await self.refresh()
        for ns in namespaces:
            if ns not in self._data or ns not in self._index:
                await self._create(ns)

    async def rotate(self, ns: str) -> str:
        """Make a new key that seals what a namespace writes from now on; return its id."""
        await self.ready([ns])
        return await self._add(ns, "data")

    async def rewrap(self) -> int:
        """Wrap all living keys with the master key in force; return how many were not."""
        count = 0
        for row in await self._store.data_keys():
            if not row.destroyed_at and row.master != self._masters.current:
                self._masters.wrap(row, self._masters.unwrap(row))
                count += await self._store.rewrap_data_key(row.id, row.wrapped, row.master)
        return count

    async def refresh(self) -> None:
        """Read all keys again."""
        keys: dict[str, DataKey] = {}
        data: dict[str, DataKey] = {}
        index: dict[str, DataKey] = {}
        for row in await self._store.data_keys():
            known = self._keys.get(row.id)
            if known is None or known.destroyed_at != row.destroyed_at or known.trouble:
                known = self._opened(row)
            keys[row.id] = known
            if known.aead is not None:
                (data if row.use == "data" else index)[row.ns] = known
        self._keys, self._data, self._index = keys, data, index
        self._read_at = time.monotonic()

    def _opened(self, row: DataKeyRow) -> DataKey:
        if row.destroyed_at:
            return DataKey(row, b"")
        try:
            return DataKey(row, self._masters.unwrap(row))
        except InvalidSettings as error:
            log.error("%s", error.message)
            return DataKey(row, b"", error.message)

    async def _create(self, ns: str) -> None:
        """Make a namespace's first keys; of several processes that do so at once, all use the same index key."""
        troubled = next((key for key in self._keys.values() if key.ns == ns and key.trouble), None)
        if troubled is not None:
            raise InvalidSettings(troubled.trouble)
        await self._add(ns, "index")
        if ns not in self._data:
            await self._add(ns, "data")

    async def _add(self, ns: str, use: str) -> str:
        row = DataKeyRow(id=os.urandom(8).hex(), ns=ns, use="data" if use == "data" else "index", wrapped=b"", master="")
        self._masters.wrap(row, os.urandom(KEY_BYTES))
        await self._store.add_data_key(row)
        await self.refresh()
        return row.id
