"""Artifacts in a step's code: what it puts is recorded, so that a later attempt finds it and does not put it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Mapping
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from tenuto.errors import Permanent
from tenuto.runtime.artifacts import Artifact, Shelf, pieces_of
from tenuto.runtime.tools.call import Journaled

MOST_AT_ONCE = 32 * 2**20
Content = bytes | str | Path | AsyncIterable[bytes]
Reference = str | Mapping[str, Any]


class ArtifactReference(Permanent):
    """What was given names no artifact, or one that is too long to be read at once."""

    code = "artifact.reference"


class StepArtifacts:
    """The artifacts of an installation, for one step."""

    def __init__(self, ctx: Journaled, shelf: Shelf, ns: str) -> None:
        """Serve the step of this context."""
        self._ctx = ctx
        self._shelf = shelf
        self._ns = ns

    async def put(
        self, content: Content, *, name: str = "", media_type: str = "", key: str | None = None
    ) -> dict[str, Any]:
        """Store content once and for all and return what stands for it: `{artifact, size, media_type, name?}`.

        The journal names it from now on, so it lives as long as the run, and as any other run it is handed to.

        Args:
            content: A file is read in pieces; so is what comes from elsewhere.
            name: For people; its ending gives the media type where none is said.
            key: Identity of the call, as of `ctx.call`.
        """
        kind = media_type or guess_type(name or (content.name if isinstance(content, Path) else ""))[0] or ""
        if not kind and isinstance(content, str):
            kind = "text/plain; charset=utf-8"

        async def make(_key: str) -> dict[str, Any]:
            found = await self._shelf.put(self._ns, _pieces(content), media_type=kind)
            return _reference(found, name)

        return await self._ctx.perform("artifact", name or "artifact", {"name": name, "media_type": kind}, make, key=key)

    async def read(self, artifact: Reference, *, most: int = MOST_AT_ONCE) -> bytes:
        """Return all of an artifact.

        Args:
            artifact: Its digest, or what `put` returned.

        Raises:
            ArtifactMissing: There is no such artifact.
            ArtifactReference: It is longer than `most` bytes; use `open` or `save`.
        """
        found, pieces = await self._shelf.open(self._ns, digest_in(artifact))
        if found.size > most:
            raise ArtifactReference(f"{found.digest} has {found.size:,} bytes; at most {most:,} are read at once")
        return b"".join([piece async for piece in pieces])

    async def open(self, artifact: Reference) -> AsyncIterator[bytes]:
        """Return an artifact in pieces.

        Raises:
            ArtifactMissing: There is no such artifact.
        """
        return (await self._shelf.open(self._ns, digest_in(artifact)))[1]

    async def save(self, artifact: Reference, path: Path | str) -> int:
        """Write an artifact to a file of this machine and return its length; the file is whole or not there.

        Raises:
            ArtifactMissing: There is no such artifact.
        """
        found, pieces = await self._shelf.open(self._ns, digest_in(artifact))
        part = Path(f"{path}.part")
        file = await asyncio.to_thread(part.open, "wb")
        try:
            with file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(part.replace, path)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return found.size


class SyncStepArtifacts:
    """The same for a step written as a plain function."""

    def __init__(self, inner: StepArtifacts, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        """Run everything on the worker's loop."""
        self._inner = inner
        self._run = run

    def put(self, content: bytes | str | Path, **kwargs: Any) -> dict[str, Any]:
        """See `StepArtifacts.put`."""
        return self._run(self._inner.put(content, **kwargs))

    def read(self, artifact: Reference, **kwargs: Any) -> bytes:
        """See `StepArtifacts.read`."""
        return self._run(self._inner.read(artifact, **kwargs))

    def save(self, artifact: Reference, path: Path | str) -> int:
        """See `StepArtifacts.save`."""
        return self._run(self._inner.save(artifact, path))


def digest_in(artifact: Reference) -> str:
    """Return the digest of what stands for an artifact.

    Raises:
        ArtifactReference: It names none.
    """
    found = artifact if isinstance(artifact, str) else artifact.get("artifact")
    if not isinstance(found, str):
        raise ArtifactReference("an artifact is named by its digest, or by what `ctx.artifacts.put` returned")
    return found


def _reference(found: Artifact, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"artifact": found.digest, "size": found.size, "media_type": found.media_type}
    return {**made, "name": name} if name else made


def _pieces(content: Content) -> AsyncIterable[bytes]:
    if isinstance(content, Path):
        return pieces_of(content)
    if isinstance(content, str):
        return _once(content.encode())
    return _once(content) if isinstance(content, bytes) else content


async def _once(content: bytes) -> AsyncGenerator[bytes]:
    yield content
