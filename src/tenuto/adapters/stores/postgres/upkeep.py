"""Forgetting what nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.parts import Part

_MOVING = "-"
_BLOBS = "sha256:"


class Upkeep(Part):
    """The upkeep side of the store."""

    async def prune_tail(self, keep_ms: int, limit: int = 10_000) -> int:
        """Forget groups that every projection is past and that were the newest `keep_ms` ago; return how many."""
        return await self.parts.pool.value("prune_tail", keep_ms, limit)

    async def prune_keys(self, before: int, limit: int = 10_000) -> int:
        """Forget idempotency keys used before a time; return how many."""
        return await self.parts.pool.value("prune_keys", before, limit)

    async def references(self, after: str = "", limit: int = 200) -> tuple[list[bytes], str]:
        """Return texts that may name blobs and where to go on: what is under way, then journals, then values."""
        if not after:
            return [row["body"] for row in await self.parts.pool.fetch("moving")], _MOVING
        if after.startswith(_BLOBS):
            values = await self.parts.pool.fetch("blobs_naming", after, limit)
            return [row["body"] for row in values], values[-1]["digest"] if len(values) == limit else ""
        found = await self.parts.pool.fetch("run_ids", after if rows.is_id(after) else None, limit)
        runs = [str(row["id"]) for row in found]
        bodies = [row["body"] for row in await self.parts.pool.fetch("naming", runs)]
        return bodies, runs[-1] if len(runs) == limit else _BLOBS

    async def list_blobs(self, after: str = "", limit: int = 10_000) -> list[str]:
        """Return digests greater than `after`, in order."""
        return [row["digest"] for row in await self.parts.pool.fetch("list_blobs", after, limit)]

    async def sweep_blobs(self, used: Sequence[str], unused: Sequence[str], before: int) -> int:
        """Note which blobs are used and which are not; delete those unused since before a time, return how many."""
        return await self.parts.pool.value("sweep_blobs", sorted(used), sorted(unused), before)
