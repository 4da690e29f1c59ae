"""Artifacts: bytes of any size under the digest of their content. A store knows of them, a depot has their bytes.

Bytes are put at a place that was never used before, and only then made known. So no two writers ever share a place, and
who deletes one deletes nobody else's bytes, however late that happens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tenuto.errors import StepError, Unavailable

MAX_BYTES = 5 * 2**30
"""Longest artifact, unless somebody says otherwise."""


class ArtifactRow(msgspec.Struct, kw_only=True, frozen=True):
    """What a store knows of an artifact.

    Attributes:
        name: The digest of its content, `sha256:` and 64 hex digits; what stands for it where names are sealed.
        place: Where the depot has its bytes.
        body: Opaque to the store: digest and media type.
        created_at: When it became known, by the store's clock.
    """

    ns: str
    name: str
    size: int
    place: str
    body: bytes
    created_at: int = 0

    @property
    def cursor(self) -> str:
        """Return the position in lists."""
        return f"{self.created_at}:{self.name}"


class ArtifactTable(Protocol):
    """The part of a store that knows artifacts."""

    async def begin_artifact(self, place: str) -> None:
        """Note that bytes are about to be put at a place."""
        ...

    async def put_artifact(self, row: ArtifactRow, *, lost: str = "") -> ArtifactRow | None:
        """Make bytes known that are whole at the place they were begun at, and return what stands now.

        An artifact of this name that is known stands, and is used from now on: the place given is then nobody's.

        Args:
            lost: Place of the known artifact whose bytes are gone; the one given is put in its stead.

        Returns:
            `None` when the place was given up meanwhile, and with it the bytes: put them elsewhere.
        """
        ...

    async def renew_artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact and take back that nothing uses it, or `None` when it is not known."""
        ...

    async def artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact, or `None` when it is not known."""
        ...

    async def list_artifacts(self, ns: str, *, after: str = "", limit: int = 100) -> list[ArtifactRow]:
        """Return artifacts, newest first.

        Args:
            after: Cursor of the last row of the page before.
        """
        ...

    async def stale_places(self, before: int, limit: int = 1000) -> list[str]:
        """Give up places that were begun before a time and never became known; return places that are nobody's."""
        ...

    async def forget_places(self, places: Sequence[str]) -> None:
        """Forget places whose bytes are deleted."""
        ...


class DepotFailed(StepError):
    """The depot of artifacts could not be reached, is full, or did not do what was asked."""

    code = "artifact.depot"


class DepotUnavailable(Unavailable):
    """The depot of artifacts cannot be used as it is set up."""

    code = "artifact.unavailable"


class BytesMissing(DepotFailed):
    """The depot does not have the bytes at this place."""

    code = "artifact.bytes_missing"
    retryable = False


class Depot(Protocol):
    """Where bytes are. A place is relative: several names joined by `/`, each plain."""

    url: str

    async def keep(self, ns: str, place: str, file: Path) -> None:
        """Put the bytes of a file at a place, whole and durable when this returns; the file stays.

        Raises:
            DepotFailed: They may be there, in part or whole, until the place is dropped.
        """
        ...

    def read(self, ns: str, place: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return the bytes from `start` to before `stop`, in pieces.

        Args:
            size: Of everything at the place.

        Raises:
            BytesMissing: Nothing is there, or less than that.
            DepotFailed: The depot could not be read.
        """
        ...

    async def has(self, place: str) -> bool:
        """Return whether bytes are at a place."""
        ...

    async def drop(self, places: Sequence[str]) -> None:
        """Delete the bytes at places; where nothing is, nothing happens."""
        ...
