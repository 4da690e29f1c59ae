"""Putting, reading and clearing artifacts: a store that knows them together with the depot that has their bytes.

Content comes and goes in pieces; nothing here holds more than a few of them. It is spooled to the disk first, since its
digest, which is its name, is known at its end only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from tenuto.errors import ArtifactMissing, Corrupt, Invalid, Unavailable
from tenuto.ports.artifacts import MAX_BYTES, ArtifactRow, Depot, DepotFailed
from tenuto.ports.store import Store

try:
    import fcntl
except ImportError:  # no locks of files here; what is spooled is cleared by its age alone
    fcntl = None

log = logging.getLogger("tenuto.artifacts")
PIECE = 1 << 20
PLACES_AT_ONCE = 500
TRIES = 5
DEFAULT_TYPE = "application/octet-stream"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(?:[ \t]*;[\x20-\x7e]{1,100})?")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class ArtifactTooLarge(Invalid):
    """The content is longer than artifacts may be."""

    code = "artifact.too_large"


class ArtifactRefused(Invalid):
    """The content is not what was announced, or its media type is none."""

    code = "artifact.refused"


class ArtifactsOff(Unavailable):
    """This process keeps no artifacts."""

    code = "artifact.off"


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an artifact.

    Attributes:
        media_type: As whoever put this content first said.
        created_at: Milliseconds by the store's clock.
    """

    digest: str
    size: int
    media_type: str
    created_at: int
    cursor: str = ""


class _Body(msgspec.Struct, omit_defaults=True):
    digest: str
    media_type: str = DEFAULT_TYPE


class Shelf:
    """The artifacts of an installation.

    Args:
        depot: Where bytes are; `None` refuses to put any.
        spool: Directory that content goes through; made when needed.
        named: Whether places may tell the digest of what is there.
        max_bytes: Longest content.
    """

    def __init__(
        self, store: Store, depot: Depot | None = None, *, spool: Path | None = None, named: bool = True,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._store = store
        self._depot = depot
        self._spool = spool or Path(tempfile.gettempdir()) / "tenuto-spool"
        self._named = named
        self.max_bytes = max_bytes

    @property
    def depot(self) -> Depot:
        """Where bytes are.

        Raises:
            ArtifactsOff: Nowhere.
        """
        if self._depot is None:
            raise ArtifactsOff("this process was started without a place for artifacts")
        return self._depot

    async def put(
        self, ns: str, content: AsyncIterable[bytes], *, media_type: str = "", digest: str = ""
    ) -> Artifact:
        """Store content under its digest, durable when this returns; the same again changes nothing.

        Whatever names the digest in a journal, a message or a stored value keeps it; until then it stays for a day.

        Args:
            media_type: Empty is that of plain bytes. Of content that is known, the first one said stands.
            digest: What the content must have; empty takes it as it is.

        Raises:
            ArtifactTooLarge: It is longer than `max_bytes`.
            ArtifactRefused: It has another digest, or the media type is none.
            DepotFailed: The bytes could not be put.
        """
        if media_type and not _MEDIA.fullmatch(media_type):
            raise ArtifactRefused(f"{media_type[:80]!r} is no media type, such as 'text/plain' or 'image/png'")
        file = await asyncio.to_thread(_spooled, self._spool)
        try:
            found, size = await self._take(file, content)
            if digest and digest != found:
                raise ArtifactRefused(f"the content has the digest {found}, not {digest}; nothing was stored")
            return await self._keep(ns, _Body(found, media_type or DEFAULT_TYPE), size, Path(file.name))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(file.name)
            file.close()

    async def find(self, ns: str, digest: str) -> Artifact | None:
        """Return what is known of an artifact, or `None`."""
        row = await self._store.artifact(ns, digest) if _DIGEST.fullmatch(digest) else None
        return _artifact(row) if row is not None else None

    async def open(self, ns: str, digest: str, start: int = 0, stop: int | None = None) -> tuple[Artifact, AsyncIterator[bytes]]:
        """Return an artifact and its bytes in pieces; the last piece of a whole one comes only if all of it is right.

        Args:
            stop: The byte after the last; `None` is the end.

        Raises:
            ArtifactMissing: Nothing has this digest, or its bytes are gone.
        """
        row = await self._store.artifact(ns, digest) if _DIGEST.fullmatch(digest) else None
        if row is None:
            raise ArtifactMissing(f"there is no artifact {digest[:80]}; it may have been cleared away", digest=digest)
        if not await self.depot.has(row.place):
            raise ArtifactMissing(
                f"the bytes of the artifact {digest} are not in {self.depot.url}; if they were moved, name the former place "
                "in artifacts.former", code="artifact.lost", digest=digest,
            )
        stop = row.size if stop is None else min(stop, row.size)
        pieces = self.depot.read(ns, row.place, row.size, start, stop)
        whole = start == 0 and stop == row.size
        return _artifact(row), _checked(pieces, digest) if whole else pieces

    async def list(self, ns: str, *, after: str = "", limit: int = 100) -> list[Artifact]:
        """Return artifacts, newest first."""
        return [_artifact(row) for row in await self._store.list_artifacts(ns, after=after, limit=limit)]

    async def clear(self, before: int) -> int:
        """Delete bytes that are nobody's, and what was being put since before a time (ms); return how many.

        Repeats are harmless; several processes may do it at once.
        """
        if self._depot is None:
            return 0
        await asyncio.to_thread(self._clear_spool, before)
        total = 0
        while places := await self._store.stale_places(before, PLACES_AT_ONCE):
            await self._depot.drop(places)
            await self._store.forget_places(places)
            total += len(places)
        return total

    # --- inside -----------------------------------------------------------------------------------------------

    async def _take(self, file: Any, content: AsyncIterable[bytes]) -> tuple[str, int]:
        size, digest, buffer = 0, sha256(), bytearray()
        async for piece in content:
            size += len(piece)
            if size > self.max_bytes:
                raise ArtifactTooLarge(f"the content is over {self.max_bytes:,} bytes, the limit (artifacts.max_bytes)")
            buffer += piece
            if len(buffer) >= PIECE:
                taken, buffer = bytes(buffer), bytearray()
                await asyncio.to_thread(_write, file, digest, taken)
        await asyncio.to_thread(_write, file, digest, bytes(buffer))
        file.flush()
        return "sha256:" + digest.hexdigest(), size

    async def _keep(self, ns: str, body: _Body, size: int, file: Path) -> Artifact:
        known = await self._store.renew_artifact(ns, body.digest)
        if known is not None and await self.depot.has(known.place):
            return _artifact(known)
        for _ in range(TRIES):
            place = self._place(ns, body.digest)
            await self._store.begin_artifact(place)
            await self.depot.keep(ns, place, file)
            row = ArtifactRow(ns=ns, name=body.digest, size=size, place=place, body=msgspec.json.encode(body))
            stands = await self._store.put_artifact(row, lost=known.place if known is not None else "")
            if stands is not None:
                return _artifact(stands)
            log.warning("an artifact of %d bytes took so long to store that its place was given up; trying again", size)
        raise DepotFailed(f"an artifact of {size:,} bytes took too long to store, {TRIES} times")

    def _place(self, ns: str, digest: str) -> str:
        """Return a place that was never used before."""
        plain = ns if _PLAIN.fullmatch(ns) else "x-" + sha256(ns.encode()).hexdigest()[:32]
        name = digest.partition(":")[2] if self._named else secrets.token_hex(32)
        return f"{plain}/{name[:2]}/{name}.{secrets.token_hex(8)}"

    def _clear_spool(self, before: int) -> None:
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._spool):
                with suppress(FileNotFoundError, BlockingIOError):
                    if entry.stat(follow_symlinks=False).st_mtime * 1000 < before:
                        _unlink_unused(entry.path)


def _spooled(directory: Path) -> Any:
    """Return a new file with a name, which nobody clears away while it is open; whoever asked for it deletes it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        file = tempfile.NamedTemporaryFile(dir=directory, prefix="new-", delete=False)  # noqa: SIM115 (its user closes it)
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):  # else it was cleared away before it was locked
            return file
        file.close()


def _unlink_unused(path: str) -> None:
    """Delete a file that nobody holds; it is held meanwhile, so that nobody begins to use it."""
    with open(path, "rb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


async def pieces_of(file: Path) -> AsyncGenerator[bytes]:
    """Yield a file's bytes in pieces."""
    source = await asyncio.to_thread(file.open, "rb")
    try:
        while piece := await asyncio.to_thread(source.read, PIECE):
            yield piece
    finally:
        source.close()


def is_digest(text: str) -> bool:
    """Return whether a text is a digest of content."""
    return _DIGEST.fullmatch(text) is not None


async def _checked(pieces: AsyncIterator[bytes], digest: str) -> AsyncGenerator[bytes]:
    """Yield pieces, the last only when all have the digest together.

    Raises:
        Corrupt: They have another one.
    """
    hashed, held = sha256(), b""
    async for piece in pieces:
        if held:
            yield held
        hashed.update(piece)
        held = piece
    if "sha256:" + hashed.hexdigest() != digest:
        raise Corrupt(f"the stored bytes of the artifact {digest} were altered", digest=digest)
    if held:
        yield held


def _artifact(row: ArtifactRow) -> Artifact:
    body = msgspec.json.decode(row.body, type=_Body)
    return Artifact(
        digest=body.digest, size=row.size, media_type=body.media_type, created_at=row.created_at, cursor=row.cursor
    )


def _write(file: Any, digest: Any, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)
