"""Optimizers that were added while everything runs, and where the search for improvements by itself stands."""

from __future__ import annotations

from typing import Protocol

import msgspec

from tenuto.ports.optimizers import Statistics
from tenuto.ports.proposals import Proposals


class OptimizerRow(msgspec.Struct, kw_only=True):
    """A plug-in as it is kept.

    Attributes:
        digest: Of its module, and `size` in bytes.
        failures: Times in a row that it gave no usable answer; `error` says what happened last.
        quarantined_at: Since when it is not asked any more because of that; 0 while it is.
        added_at: In ms by the store's clock; set by the store, like `quarantined_at`.
    """

    ns: str
    name: str
    digest: str
    size: int
    enabled: bool = True
    failures: int = 0
    error: str = ""
    by: str = ""
    added_at: int = 0
    quarantined_at: int = 0


class LookRow(msgspec.Struct, kw_only=True):
    """How far the runs of a workflow have been looked at.

    Attributes:
        version: The version that was looked at.
        mark: When the newest ended run of it was created that counted, in ms by the store's clock.
    """

    ns: str
    workflow: str
    version: str
    mark: int = 0


class Optimizing(Proposals, Protocol):
    """The part of a store that optimizers need: proposals, plug-ins, and what runs of a version have shown."""

    async def put_optimizer(self, row: OptimizerRow, module: bytes) -> OptimizerRow:
        """Keep a plug-in under its name and return what is there now.

        The same module again changes nothing; another one replaces the former and begins without failures.
        """
        ...

    async def optimizers(self, ns: str) -> list[OptimizerRow]:
        """Return the plug-ins of a namespace by name."""
        ...

    async def optimizer_module(self, ns: str, name: str) -> bytes | None:
        """Return the bytes of a plug-in."""
        ...

    async def drop_optimizer(self, ns: str, name: str) -> bool:
        """Forget a plug-in; `False` when there is none of that name."""
        ...

    async def enable_optimizer(self, ns: str, name: str, enabled: bool) -> bool:
        """Let a plug-in be asked, its failures forgotten, or not; `False` when there is none of that name."""
        ...

    async def note_optimizer(self, ns: str, name: str, digest: str, error: str, most: int) -> OptimizerRow | None:
        """Note what came of asking a plug-in: an empty `error` ends its failures, another one counts.

        At `most` failures in a row it is quarantined.

        Returns:
            What is there now; `None` when another module has that name by now, and nothing has changed.
        """
        ...

    async def statistics(self, ns: str, workflow: str, version: str, limit: int) -> Statistics:
        """Return what the newest ended runs of a version have shown, at most `limit`.

        A run that completed counts once the table of steps has all of it, so that the newest may be missing for a moment.
        Replays do not count, for they share what others did. Times of steps are of those that succeeded at the first
        attempt, and percentiles are nearest ranks.
        """
        ...

    async def ended_since(self, ns: str, workflow: str, version: str, mark: int, limit: int) -> tuple[int, int]:
        """Return how many ended runs of a version were created after a moment, at most `limit`, and the newest's moment.

        The moment is `mark` again where there is none.
        """
        ...

    async def looks(self, ns: str) -> list[LookRow]:
        """Return how far the runs of workflows have been looked at, by workflow."""
        ...

    async def put_look(self, row: LookRow) -> None:
        """Say how far the runs of a workflow have been looked at."""
        ...
