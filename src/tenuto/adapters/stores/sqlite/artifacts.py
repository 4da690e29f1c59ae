"""Artifacts whose bytes a depot has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.artifacts import ArtifactRow

_LAST = (2**62, "")


class Artifacts(Part):
    """The artifacts' side of the store."""

    async def begin_artifact(self, place: str) -> None:
        """Note that bytes are about to be put at a place."""
        await self.parts.writer.run(lambda tx: sql.change(tx.db, "place_begin", place, tx.now))

    async def put_artifact(self, row: ArtifactRow, *, lost: str = "") -> ArtifactRow | None:
        """Make bytes known; an artifact that is known stands. `None` when the place was given up."""

        def put(tx: Tx) -> ArtifactRow | None:
            if not sql.change(tx.db, "place_end", row.place):
                return None
            was = sql.first(tx.db, "artifact", row.ns, row.name)
            if was is not None and was[2] != lost:
                sql.change(tx.db, "place_drop", row.place)
                sql.change(tx.db, "artifact_renew", row.ns, row.name)
                return _row(row.ns, was)
            if was is not None:
                sql.change(tx.db, "place_drop", lost)
            sql.change(tx.db, "artifact_put", row.ns, row.name, row.size, row.place, row.body, tx.now)
            return msgspec.structs.replace(row, created_at=tx.now)

        return await self.parts.writer.run(put)

    async def renew_artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact and take back that nothing uses it."""

        def renew(tx: Tx) -> ArtifactRow | None:
            sql.change(tx.db, "artifact_renew", ns, name)
            found = sql.first(tx.db, "artifact", ns, name)
            return _row(ns, found) if found is not None else None

        return await self.parts.writer.run(renew)

    async def artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact."""
        found = await self.parts.readers.rows("artifact", ns, name)
        return _row(ns, found[0]) if found else None

    async def list_artifacts(self, ns: str, *, after: str = "", limit: int = 100) -> list[ArtifactRow]:
        """Return artifacts, newest first."""
        at, _, name = after.partition(":")
        last = (int(at), name) if after else _LAST
        return [_row(ns, found) for found in await self.parts.readers.rows("artifact_list", ns, *last, limit)]

    async def stale_places(self, before: int, limit: int = 1000) -> list[str]:
        """Give up places begun before a time; return places that are nobody's."""

        def give_up(tx: Tx) -> list[str]:
            sql.change(tx.db, "place_give_up", before)
            return [found[0] for found in sql.rows(tx.db, "place_stale", limit)]

        return await self.parts.writer.run(give_up)

    async def forget_places(self, places: Sequence[str]) -> None:
        """Forget places whose bytes are deleted."""
        named = msgspec.json.encode(list(places)).decode()
        await self.parts.writer.run(lambda tx: sql.change(tx.db, "place_forget", named))


def _row(ns: str, found: tuple[Any, ...]) -> ArtifactRow:
    name, size, place, body, created_at = found
    return ArtifactRow(ns=ns, name=name, size=size, place=place, body=body, created_at=created_at)
