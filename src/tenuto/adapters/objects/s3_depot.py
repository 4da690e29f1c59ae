"""A depot in a bucket of an S3-compatible server: one object a place, below a prefix."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.store import S3Store

from tenuto.adapters.objects.s3 import S3Bucket
from tenuto.ports.artifacts import BytesMissing, DepotFailed, DepotUnavailable
from tenuto.ports.objects import ObjectsFailed, ObjectsNotSetUp, ObjectsRefused

PIECE = 1 << 20
PART = 8 << 20
MOST_PARTS = 9_000
DAY_S = 86_400.0
FRESH_S = 60.0
"""How long keys are used before they are read again."""


class S3Depot:
    """Objects of a bucket.

    Args:
        prefix: In front of every place, without slashes at its ends; empty is the whole bucket.
    """

    def __init__(self, bucket: S3Bucket, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket.bucket}/{prefix}"
        self._store: S3Store | None = None
        self._opened = 0.0

    async def keep(self, ns: str, place: str, file: Path) -> None:
        """Put the bytes of a file at a place, long ones in parts that become one object at the end."""
        size = (await asyncio.to_thread(file.stat)).st_size
        part = max(PART, -(-size // MOST_PARTS))
        with self._errors("PUT", place):
            await obstore.put_async(
                self._open(), self._prefix + place, file, use_multipart=size > part, chunk_size=part, max_concurrency=4
            )

    async def read(self, ns: str, place: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return bytes of a place in pieces."""
        if start == stop:
            if not await self.has(place):
                raise BytesMissing(f"{self.url} has no {place}")
            return
        left = stop - start
        with self._errors("GET", place):
            found = await obstore.get_async(self._open(), self._prefix + place, options={"range": (start, stop)})
            async for piece in found.stream(min_chunk_size=PIECE):
                left -= len(piece)
                yield bytes(piece)
        if left:
            raise BytesMissing(f"{place} in {self.url} ends too early")

    async def has(self, place: str) -> bool:
        """Return whether an object is at a place."""
        try:
            with self._errors("HEAD", place):
                await obstore.head_async(self._open(), self._prefix + place)
        except BytesMissing:
            return False
        return True

    async def drop(self, places: Sequence[str]) -> None:
        """Delete the objects at places."""
        for place in places:
            try:
                with self._errors("DELETE", place):
                    await obstore.delete_async(self._open(), self._prefix + place)
            except BytesMissing:
                continue

    def _open(self) -> S3Store:
        if self._store is None or time.monotonic() - self._opened > FRESH_S:
            self._store, self._opened = self._bucket.open(DAY_S), time.monotonic()
        return self._store

    @contextmanager
    def _errors(self, verb: str, place: str) -> Generator[None]:
        try:
            with self._bucket.errors(verb, self._prefix + place):
                yield
        except FileNotFoundError:
            raise BytesMissing(f"{self.url} has no {place}") from None
        except (ObjectsNotSetUp, ObjectsRefused) as error:
            raise DepotUnavailable(f"the depot of artifacts refuses: {error.message}") from error
        except ObjectsFailed as error:
            raise DepotFailed(f"the depot of artifacts fails: {error.message}") from error
