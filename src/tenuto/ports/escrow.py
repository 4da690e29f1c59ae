"""What the engine asks of a store about money and places that many runs share. See `domain.budgets.escrow`.

Holds and outcomes ride with the records that ask and settle (`Commit.escrow`); the rest is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tenuto.domain.budgets.escrow import Balance, Cap, Hold, Place, Waiter


class Funds(Protocol):
    """Caps, what counts under them, and who waits for room. Every method is atomic and durable when it returns."""

    async def put_cap(self, cap: Cap) -> None:
        """Set a cap. One that a person set (`source="api"`) is left alone by settings."""
        ...

    async def drop_cap(self, ns: str, scope: str, period: str, *, source: str = "") -> bool:
        """Remove a cap, only one of that `source` unless it is empty; return whether there was one."""
        ...

    async def caps(self, ns: str) -> list[Cap]:
        """Return the caps of a namespace, by scope and period."""
        ...

    async def balances(self, ns: str, places: Sequence[Place] = ()) -> dict[Place, Balance]:
        """Return what counts in some places; all places of the namespace when none is named."""
        ...

    async def holds(self, ns: str, *, run_id: str | None = None, lost: bool | None = None, limit: int = 1000) -> list[Hold]:
        """Return what is held for calls without a known outcome, oldest first."""
        ...

    async def settle_lost(self, ns: str, run_id: str, n: int, usd: int) -> bool:
        """Settle the hold of a lost call whose run takes no more messages; return whether there was one."""
        ...

    async def waiters(self, ns: str, limit: int = 1000) -> list[Waiter]:
        """Return calls that wait for room, longest first."""
        ...

    async def take_waiters(self, limit: int = 256) -> list[Waiter]:
        """Return calls of all namespaces that there is room for now, and note that they are told.

        `told_at` is the moment of telling. Whoever has not asked or declined within ten seconds is returned again.
        """
        ...

    async def drop_waiters(self, run_id: str) -> None:
        """Forget the waiting calls of a run that has ended."""
        ...
