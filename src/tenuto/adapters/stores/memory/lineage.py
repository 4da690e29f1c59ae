"""Tags and where they have been."""

from __future__ import annotations

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow


def moved(tables: Tables, move: TagMove, version: WorkflowRow | None) -> bool:
    """Let a tag point at a version, if it still points at `former`, and remember the move."""
    tag = (move.ns, move.name, move.tag)
    if tables.tags.get(tag, "") != move.former:
        return False
    if version is not None:
        tables.add_workflow(version)
    tables.tags[tag] = move.digest
    moves = tables.tag_moves.setdefault(tag, [])
    moves.append(msgspec.structs.replace(move, n=len(moves) + 1, at=tables.clock()))
    return True


class Lineage:
    """The side of the store that moves tags."""

    tables: Tables

    async def move_tag(self, move: TagMove, version: WorkflowRow | None = None) -> bool:
        """Let a tag point at a version, if it still points at `former`, and remember the move."""
        return moved(self.tables, move, version)

    async def tag_moves(self, ns: str, name: str, tag: str | None = None) -> list[TagMove]:
        """Return the moves of a workflow's tags, or of one, in the order of tags and moves."""
        tables = self.tables
        keys = sorted(key for key in tables.tag_moves if key[:2] == (ns, name) and tag in (None, key[2]))
        return [copied(move) for key in keys for move in tables.tag_moves[key]]
