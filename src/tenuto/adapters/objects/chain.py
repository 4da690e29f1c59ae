"""A depot that took the place of others, which keep what they have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tenuto.ports.artifacts import Depot


class DepotChain:
    """Puts into the first depot, and reads wherever the bytes are.

    Args:
        depots: The one in force, then former ones, the latest first.
    """

    def __init__(self, depots: Sequence[Depot]) -> None:
        self._depots = depots
        self.url = depots[0].url

    async def keep(self, ns: str, place: str, file: Path) -> None:
        """Put the bytes of a file at a place of the depot in force."""
        await self._depots[0].keep(ns, place, file)

    async def read(self, ns: str, place: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return bytes of a place from the first depot that has them."""
        for depot in self._depots[:-1]:
            if await depot.has(place):
                break
        else:
            depot = self._depots[-1]
        async for piece in depot.read(ns, place, size, start, stop):
            yield piece

    async def has(self, place: str) -> bool:
        """Return whether any depot has bytes at a place."""
        for depot in self._depots:
            if await depot.has(place):
                return True
        return False

    async def drop(self, places: Sequence[str]) -> None:
        """Delete the bytes at places, from every depot."""
        for depot in self._depots:
            await depot.drop(places)
