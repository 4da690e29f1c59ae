"""A depot around another one, in which every piece of an artifact is sealed.

A file becomes pieces of one length, each sealed by itself, so that a part can be read without the rest. A piece opens
only at its place, in its position, among as many as there are: none can be exchanged, moved, repeated or left out.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tenuto.adapters.stores.sealed.envelope import OVERHEAD
from tenuto.adapters.stores.sealed.store import SealedStore
from tenuto.errors import Corrupt
from tenuto.ports.artifacts import Depot

try:
    import fcntl
except ImportError:  # no locks of files here
    fcntl = None

PIECE = 1 << 18
SEALED = PIECE + OVERHEAD


class SealedDepot:
    """Seals on the way in and opens on the way out.

    Args:
        inner: Where the bytes are.
        store: Whose keys are used.
    """

    def __init__(self, inner: Depot, store: SealedStore) -> None:
        self.inner = inner
        self.url = inner.url
        self._store = store

    async def keep(self, ns: str, place: str, file: Path) -> None:
        """Put the sealed bytes of a file at a place."""
        await self._store.ring.ready([ns])
        sealed = await asyncio.to_thread(_made, file.parent)
        try:
            await asyncio.to_thread(self._seal, ns, place, file, sealed)
            await self.inner.keep(ns, place, Path(sealed.name))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(sealed.name)
            sealed.close()

    async def read(self, ns: str, place: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return bytes of a place in pieces.

        Raises:
            Corrupt: They are not what was sealed for this place.
            Shredded: Their key was destroyed.
        """
        if not self._store.ring.has(ns):
            await self._store.ring.refresh()
        count = _count(size)
        at, last = start // PIECE, max(start // PIECE, -(-stop // PIECE) - 1)
        whole = size + count * OVERHEAD
        buffer = bytearray()
        async for piece in self.inner.read(ns, place, whole, at * SEALED, min((last + 1) * SEALED, whole)):
            buffer += piece
            while at <= last and len(buffer) >= (SEALED if at < count - 1 else whole - at * SEALED):
                length = SEALED if at < count - 1 else whole - at * SEALED
                one, buffer = bytes(buffer[:length]), buffer[length:]
                text = await self._opened(ns, one, place, at, count)
                begin = at * PIECE
                at += 1
                if shown := text[max(0, start - begin) : stop - begin]:
                    yield shown
        if at <= last or buffer:
            raise Corrupt(f"{place} does not have the length it was sealed with")

    async def has(self, place: str) -> bool:
        """Return whether bytes are at a place."""
        return await self.inner.has(place)

    async def drop(self, places: Sequence[str]) -> None:
        """Delete the bytes at places."""
        await self.inner.drop(places)

    def _seal(self, ns: str, place: str, file: Path, out: Any) -> None:
        count = _count(file.stat().st_size)
        with file.open("rb") as source:
            for at in range(count):
                out.write(self._store._envelopes.seal_piece(ns, source.read(PIECE), "artifact", place, at, count))
        out.flush()

    async def _opened(self, ns: str, sealed: bytes, place: str, at: int, count: int) -> bytes:
        return await self._store._opened(
            lambda: self._store._envelopes.open(sealed, "artifact", place, at, count, ns=ns)
        )


def _made(directory: Path) -> Any:
    """Return a new file that is locked while it is open, as those beside it."""
    file = tempfile.NamedTemporaryFile(dir=directory, prefix="sealed-", delete=False)  # noqa: SIM115 (its user closes it)
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _count(size: int) -> int:
    """Return how many pieces a file has; an empty one has a piece, too, so that it cannot be exchanged either."""
    return max(1, -(-size // PIECE))
