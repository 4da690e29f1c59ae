"""Tags and where they have been."""

from __future__ import annotations

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow


def moved(tx: Tx, move: TagMove, version: WorkflowRow | None) -> bool:
    """Let a tag point at a version within a transaction, if it still points at `former`, and remember the move."""
    place = (move.ns, move.name, move.tag)
    now = sql.first(tx.db, "tag_at", *place)
    if (now[0] if now is not None else "") != move.former:
        return False
    if version is not None:
        created_at = version.created_at or tx.now
        sql.change(tx.db, "workflow_add", version.ns, version.name, version.digest, version.body, created_at)
    sql.change(tx.db, "tag_set", *place, move.digest)
    sql.change(
        tx.db, "tag_moved", *place, move.digest, move.former, move.kind, move.by, move.author, move.reason, move.ops,
        move.evidence, tx.now,
    )
    return True


class Lineage(Part):
    """The side of the store that moves tags."""

    async def move_tag(self, move: TagMove, version: WorkflowRow | None = None) -> bool:
        """Let a tag point at a version, if it still points at `former`, and remember the move."""
        return await self.parts.writer.run(lambda tx: moved(tx, move, version))

    async def tag_moves(self, ns: str, name: str, tag: str | None = None) -> list[TagMove]:
        """Return the moves of a workflow's tags, or of one, in the order of tags and moves."""
        names = ("tag", "n", "digest", "former", "kind", "by", "author", "reason", "ops", "evidence", "at")
        found = await self.parts.readers.rows("tag_moves", ns, name, tag)
        return [TagMove(ns=ns, name=name, **dict(zip(names, row, strict=True))) for row in found]
