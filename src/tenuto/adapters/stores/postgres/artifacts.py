"""Artifacts whose bytes a depot has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.artifacts import ArtifactRow

_LAST = (2**62, "")


class Artifacts(Part):
    """The artifacts' side of the store."""

    async def begin_artifact(self, place: str) -> None:
        """Note that bytes are about to be put at a place."""
        await self.parts.pool.fetch("place_begin", place)

    async def put_artifact(self, row: ArtifactRow, *, lost: str = "") -> ArtifactRow | None:
        """Make bytes known; an artifact that is known stands. `None` when the place was given up."""
        found = await self.parts.pool.fetch(
            "artifact_put", row.ns, row.name, row.size, row.place, row.body, lost or None
        )
        return _row(row.ns, found[0]) if found else None

    async def renew_artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact and take back that nothing uses it."""
        found = await self.parts.pool.fetch("artifact_renew", ns, name)
        return _row(ns, found[0]) if found else None

    async def artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact."""
        found = await self.parts.pool.fetch("artifact", ns, name)
        return _row(ns, found[0]) if found else None

    async def list_artifacts(self, ns: str, *, after: str = "", limit: int = 100) -> list[ArtifactRow]:
        """Return artifacts, newest first."""
        at, _, name = after.partition(":")
        last = (int(at), name) if after else _LAST
        return [_row(ns, found) for found in await self.parts.pool.fetch("artifact_list", ns, *last, limit)]

    async def stale_places(self, before: int, limit: int = 1000) -> list[str]:
        """Give up places begun before a time; return places that are nobody's."""
        return [found["place"] for found in await self.parts.pool.fetch("place_stale", before, limit)]

    async def forget_places(self, places: Sequence[str]) -> None:
        """Forget places whose bytes are deleted."""
        await self.parts.pool.fetch("place_forget", list(places))


def _row(ns: str, found: Any) -> ArtifactRow:
    return ArtifactRow(
        ns=ns, name=found["name"], size=found["size"], place=found["place"], body=found["body"],
        created_at=found["created_at"],
    )  # fmt: skip
