"""Where the tags of workflows have been: every move with who made it, and the overlay that led to the version, if one did."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from tenuto.ports.lists import WorkflowRow

MoveKind = Literal["publish", "tag", "patch", "undo", "redo"]


class TagMove(msgspec.Struct, kw_only=True):
    """A tag was let point at another version.

    Attributes:
        former: Version it pointed at before; empty when the tag was new.
        author: `person`, `agent` or `optimizer`, for patches; `by` names it.
        ops: For patches: the overlay, operations that make the version of the former one.
        n: Counts the moves of the tag from 1; set by the store, like `at`, in ms by its clock.
    """

    ns: str
    name: str
    tag: str
    digest: str
    former: str
    kind: MoveKind
    by: str = ""
    author: str = "person"
    reason: str = ""
    ops: bytes = b""
    evidence: bytes = b""
    n: int = 0
    at: int = 0


class Lineage(Protocol):
    """The part of a store that moves tags and remembers it."""

    async def move_tag(self, move: TagMove, version: WorkflowRow | None = None) -> bool:
        """Let a tag point at a version, if it still points at `former`, and remember the move.

        Args:
            version: Stored in the same transaction, if it is new and the tag is moved.

        Returns:
            Whether the tag was moved; else nothing has changed.
        """
        ...

    async def tag_moves(self, ns: str, name: str, tag: str | None = None) -> list[TagMove]:
        """Return the moves of a workflow's tags, or of one, in the order of tags and moves."""
        ...
