"""A depot that is lost with its process, for tests and trials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tenuto.ports.artifacts import BytesMissing


class MemoryDepot:
    """Bytes in a dictionary."""

    url = "memory:"

    def __init__(self) -> None:
        """Start with nothing."""
        self._bytes: dict[str, bytes] = {}

    async def keep(self, ns: str, place: str, file: Path) -> None:
        """Put the bytes of a file at a place."""
        self._bytes[place] = await asyncio.to_thread(file.read_bytes)

    async def read(self, ns: str, place: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return bytes of a place."""
        found = self._bytes.get(place)
        if found is None or len(found) < stop:
            raise BytesMissing(f"the depot has nothing at {place}")
        yield found[start:stop]

    async def has(self, place: str) -> bool:
        """Return whether bytes are at a place."""
        return place in self._bytes

    async def drop(self, places: Sequence[str]) -> None:
        """Delete the bytes at places."""
        for place in places:
            self._bytes.pop(place, None)
