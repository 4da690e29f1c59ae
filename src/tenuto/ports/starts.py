"""How often runs are started: a sliding window that every process counts in."""

from __future__ import annotations

from typing import Protocol

import msgspec

WINDOW_MS = 60_000


class Turn(msgspec.Struct, frozen=True):
    """Whether a start fits into its window.

    Attributes:
        count: Starts of the last minute, this one included when it was taken.
        wait_ms: After how long one more may fit; 0 when this one was taken.
    """

    taken: bool
    count: int
    wait_ms: int = 0


class Starts(Protocol):
    """The part of a store that counts starts."""

    async def take_start(self, ns: str, caller: str, tier: str, id: str, limit: int) -> Turn:
        """Count a start, unless the caller has made as many of the tier as allowed within the minute before.

        Exact, whatever the number of processes: no minute by the store's clock, wherever it begins, ever holds more
        than the limit. An id that counts already counts once.
        """
        ...

    async def return_start(self, ns: str, caller: str, tier: str, id: str) -> None:
        """Count a start no longer, because it started nothing."""
        ...

    async def business_run(self, ns: str, key: str) -> str | None:
        """Return the unfinished run with a business key."""
        ...
