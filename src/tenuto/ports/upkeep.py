"""What a store offers to those who keep it small: finding what nobody needs, and forgetting it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Upkeep(Protocol):
    """The part of a store that upkeep works with."""

    async def migrations(self) -> list[tuple[str, bool]]:
        """Return the names of all schema steps, in order, and whether each is applied."""
        ...

    async def stats(self) -> dict[str, Any]:
        """Return sizes and counts for `doctor`: backend, version, durability settings, rows, bytes."""
        ...

    async def run_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids of runs of all namespaces greater than `after`, in order."""
        ...

    async def prune_tail(self, keep_ms: int, limit: int = 10_000) -> int:
        """Forget groups that every projection is past and that were the newest `keep_ms` ago; return how many.

        How new a group is shows from one call to the next only, so nothing goes at the first. Each writer's newest
        group stays, and all do while there is no projection. A reader that comes later than that finds a gap in `n`.
        """
        ...

    async def prune_keys(self, before: int, limit: int = 10_000) -> int:
        """Forget idempotency keys used before a time; return how many."""
        ...

    async def references(self, after: str = "", limit: int = 200) -> tuple[list[bytes], str]:
        """Return texts that may name blobs (they hold `sha256:`) and where to go on, which is empty at the end.

        Messages and tasks under way come first, all at once, then the journals of `limit` runs at a time: what moves
        from the former into the latter meanwhile is met once at least. Then come values that name others, at least the
        names in them.
        """
        ...

    async def list_blobs(self, after: str = "", limit: int = 10_000) -> list[str]:
        """Return names of blobs and artifacts greater than `after`, in order."""
        ...

    async def sweep_blobs(self, used: Sequence[str], unused: Sequence[str], before: int) -> int:
        """Note which blobs and artifacts are used and which are not; delete those unused since before a time, return how many.

        Only a blob in `unused` goes, and only if it was so in an earlier call too, was not stored again since, and
        that call's time is before `before`. The places of deleted artifacts are then nobody's.
        """
        ...
