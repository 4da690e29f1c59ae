"""What a store keeps for graphs that run elsewhere and save their state here: checkpoints, their values and writes.

Texts are keys and stay readable; every `body` and `meta` is opaque to the store, so that a store that seals what it
keeps can seal them. Values stand apart from checkpoints, so that a value that many checkpoints share is kept once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

Place = tuple[str, str, str]
"""Thread, space and id of a checkpoint."""


class CheckpointRow(msgspec.Struct, kw_only=True):
    """A saved state of a thread.

    Attributes:
        space: Part of the thread, such as a subgraph; empty for the graph itself.
        id: Grows with time within a thread and space; compared by code point.
        parent: The checkpoint it follows; empty for the first.
        run: The run that saved it, so that the checkpoints of a run can be dropped; may be empty.
        refs: Channel and version of each value that belongs to it.
    """

    thread: str
    space: str
    id: str
    parent: str = ""
    run: str = ""
    refs: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    meta: bytes = b""

    @property
    def place(self) -> Place:
        """Return what names it."""
        return self.thread, self.space, self.id


class ValueRow(msgspec.Struct, kw_only=True, frozen=True):
    """The value of a channel at a version."""

    thread: str
    space: str
    channel: str
    version: str
    body: bytes


class WriteRow(msgspec.Struct, kw_only=True, frozen=True):
    """Something a task wrote after a checkpoint, before there was a next one.

    Attributes:
        id: The checkpoint, which may itself be saved later than its writes.
        n: Position among the task's writes; of a negative one the last write counts, of others the first.
    """

    thread: str
    space: str
    id: str
    task: str
    n: int
    path: str
    channel: str
    body: bytes


class Saved(msgspec.Struct, kw_only=True):
    """Checkpoints with their values and writes; values that several share stand here once."""

    checkpoints: list[CheckpointRow] = []
    values: list[ValueRow] = []
    writes: list[WriteRow] = []


class Checkpoints(Protocol):
    """The part of a store that keeps checkpoints."""

    async def put_checkpoints(self, ns: str, saved: Saved) -> None:
        """Store all of it in one transaction; repeats are harmless. Each key may occur once in a call.

        A checkpoint or value that exists is replaced.
        """
        ...

    async def checkpoints(
        self, ns: str, *, thread: str | None = None, space: str | None = None, id: str = "", before: str = "",
        after: Place | None = None, limit: int = 100,
    ) -> Saved:
        """Return checkpoints, largest id first, and at one moment with them their values, and their writes by path, task and `n`.

        Args:
            before: Only checkpoints with a smaller id.
            after: The last checkpoint of the page before.
        """
        ...

    async def drop_checkpoints(
        self, ns: str, *, threads: Sequence[str] = (), runs: Sequence[str] = (), places: Sequence[Place] = (),
    ) -> int:
        """Delete checkpoints with their writes in one transaction, and values no checkpoint is left to refer to.

        Args:
            threads: All of these, with writes whose checkpoint never came.
            runs: All that these saved.

        Returns:
            How many checkpoints there were.
        """
        ...
