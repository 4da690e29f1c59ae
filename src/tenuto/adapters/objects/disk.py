"""A depot in a directory: one file a place, put there by a link, so that nobody ever sees a part of it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tenuto.ports.artifacts import BytesMissing, DepotFailed

PIECE = 1 << 20


class DiskDepot:
    """Files below a directory, readable by their owner alone.

    Args:
        root: Made when something is put there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"file://{root.absolute()}"

    async def keep(self, ns: str, place: str, file: Path) -> None:
        """Put the bytes of a file at a place, synced with the directories that lead there."""
        await asyncio.to_thread(self._keep, place, file)

    async def read(self, ns: str, place: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return bytes of a place in pieces."""
        try:
            file = await asyncio.to_thread((self.root / place).open, "rb")
        except FileNotFoundError:
            raise BytesMissing(f"the directory {self.root} has no {place}") from None
        except OSError as error:
            raise DepotFailed(f"{place} in the directory {self.root} cannot be read: {error.strerror}") from error
        try:
            await asyncio.to_thread(file.seek, start)
            left = stop - start
            while left:
                try:
                    piece = await asyncio.to_thread(file.read, min(PIECE, left))
                except OSError as error:
                    raise DepotFailed(f"{place} in {self.root} cannot be read: {error.strerror}") from error
                if not piece:
                    raise BytesMissing(f"{place} in the directory {self.root} ends too early")
                left -= len(piece)
                yield piece
        finally:
            file.close()

    async def has(self, place: str) -> bool:
        """Return whether a file is at a place."""
        return await asyncio.to_thread((self.root / place).is_file)

    async def drop(self, places: Sequence[str]) -> None:
        """Delete the files at places."""
        await asyncio.to_thread(self._drop, places)

    def _keep(self, place: str, file: Path) -> None:
        target = self.root / place
        try:
            made = _make(target.parent)
            part = target.with_name(f"{target.name}.part")
            try:
                os.link(file, part)
            except OSError:  # another disk, or one that knows no links
                shutil.copyfile(file, part)
            _sync(part)
            part.replace(target)
            for directory in (target.parent, *made):
                _sync(directory)
        except OSError as error:
            raise DepotFailed(f"{place} cannot be put into the directory {self.root}: {error.strerror}") from error

    def _drop(self, places: Sequence[str]) -> None:
        for place in places:
            for path in (self.root / place, self.root / f"{place}.part"):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise DepotFailed(f"{path} cannot be deleted: {error.strerror}") from error


def _make(directory: Path) -> list[Path]:
    """Make a directory and what leads there; return the directories that have a new entry by that."""
    missing: list[Path] = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    return [one.parent for one in missing]


def _sync(path: Path) -> None:
    found = os.open(path, os.O_RDONLY)
    try:
        os.fsync(found)
    finally:
        os.close(found)
