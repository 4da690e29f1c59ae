"""Tags and where they have been."""

from __future__ import annotations

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow


class Lineage(Part):
    """The side of the store that moves tags."""

    async def move_tag(self, move: TagMove, version: WorkflowRow | None = None) -> bool:
        """Let a tag point at a version, if it still points at `former`, and remember the move."""
        body, created_at = (version.body, version.created_at) if version is not None else (None, 0)
        return bool(
            await self.parts.pool.value(
                "move_tag", move.ns, move.name, move.tag, move.digest, move.former, move.kind, move.by, move.author,
                move.reason, move.ops, move.evidence, body, created_at,
            )
        )

    async def tag_moves(self, ns: str, name: str, tag: str | None = None) -> list[TagMove]:
        """Return the moves of a workflow's tags, or of one, in the order of tags and moves."""
        return [TagMove(**dict(row)) for row in await self.parts.pool.fetch("tag_moves", ns, name, tag)]
