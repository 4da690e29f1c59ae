"""Artifacts whose bytes a depot has."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.ports.artifacts import ArtifactRow


class Artifacts:
    """The artifacts' side of the store."""

    tables: Tables

    async def begin_artifact(self, place: str) -> None:
        """Note that bytes are about to be put at a place."""
        self.tables.places[place] = self.tables.clock()

    async def put_artifact(self, row: ArtifactRow, *, lost: str = "") -> ArtifactRow | None:
        """Make bytes known; an artifact that is known stands. `None` when the place was given up."""
        tables, key = self.tables, (row.ns, row.name)
        if not tables.places.get(row.place):
            return None
        del tables.places[row.place]
        known = tables.artifacts.get(key)
        tables.unused_artifacts.pop(key, None)
        if known is not None and known.place != lost:
            tables.places[row.place] = 0
            return known
        if known is not None:
            tables.places[lost] = 0
        tables.artifacts[key] = replace(row, created_at=tables.clock())
        return tables.artifacts[key]

    async def renew_artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact and take back that nothing uses it."""
        self.tables.unused_artifacts.pop((ns, name), None)
        return self.tables.artifacts.get((ns, name))

    async def artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact."""
        return self.tables.artifacts.get((ns, name))

    async def list_artifacts(self, ns: str, *, after: str = "", limit: int = 100) -> list[ArtifactRow]:
        """Return artifacts, newest first."""
        at, _, name = after.partition(":")
        found = [
            row for row in self.tables.artifacts.values()
            if row.ns == ns and (not after or (row.created_at, row.name) < (int(at), name))
        ]  # fmt: skip
        return sorted(found, key=lambda row: (row.created_at, row.name), reverse=True)[:limit]

    async def stale_places(self, before: int, limit: int = 1000) -> list[str]:
        """Give up places begun before a time; return places that are nobody's."""
        places = self.tables.places
        for place in [place for place, since in places.items() if 0 < since < before]:
            places[place] = 0
        return [place for place, since in places.items() if not since][:limit]

    async def forget_places(self, places: Sequence[str]) -> None:
        """Forget places whose bytes are deleted."""
        for place in places:
            if not self.tables.places.get(place, 1):
                del self.tables.places[place]
