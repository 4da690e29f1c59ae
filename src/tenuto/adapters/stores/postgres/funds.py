"""Money and places that many runs share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.batch import columns
from tenuto.adapters.stores.postgres.ledger import (
    balance_row,
    cap_row,
    hold_row,
    lock,
    put_wants,
    waiter_row,
    write,
)  # fmt: skip
from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.domain.budgets import escrow
from tenuto.domain.budgets.escrow import Balance, Book, Cap, Hold, Place, Posted, Waiter

MOST_WANTS = 4096


class Funds(Part):
    """The shared caps' side of the store."""

    async def put_cap(self, cap: Cap) -> None:
        """Set a cap; settings leave one alone that a person set."""
        values = (cap.ns, cap.scope, cap.period, cap.limit, cap.warn_percent, cap.source)
        await self.parts.pool.fetch("cap_put", *values)

    async def drop_cap(self, ns: str, scope: str, period: str, *, source: str = "") -> bool:
        """Remove a cap; return whether there was one."""
        return bool(await self.parts.pool.value("cap_drop", ns, scope, period, source))

    async def caps(self, ns: str) -> list[Cap]:
        """Return the caps of a namespace, by scope and period."""
        return [cap_row(row) for row in await self.parts.pool.fetch("caps", ns)]

    async def balances(self, ns: str, places: Sequence[Place] = ()) -> dict[Place, Balance]:
        """Return what counts in some places, or in all of the namespace."""
        wanted = set(places)
        found = dict(balance_row(row) for row in await self.parts.pool.fetch("balances", ns))
        return {place: balance for place, balance in found.items() if not wanted or place in wanted}

    async def holds(
        self, ns: str, *, run_id: str | None = None, lost: bool | None = None, limit: int = 1000
    ) -> list[Hold]:
        """Return what is held for calls without a known outcome, oldest first."""
        if run_id is not None and not rows.is_id(run_id):
            return []
        return [hold_row(row) for row in await self.parts.pool.fetch("holds", ns, run_id, lost, limit)]

    async def settle_lost(self, ns: str, run_id: str, n: int, usd: int) -> bool:
        """Settle the hold of a lost call; return whether there was one."""

        async def settle(connection: Connection, again: bool) -> bool:
            async with connection.transaction():
                row = await connection.fetchrow(SQL["hold_lock"], run_id, n)
                hold = hold_row(row) if row is not None else None
                if hold is None or hold.ns != ns or not hold.lost:
                    return again and hold is None
                book = await lock(connection, hold.places)
                escrow.settle(book, hold, usd, Posted([], [], [], []))
                await write(connection, book)
                await connection.execute(SQL["holds_drop"], [run_id], [n])
                return True

        return await self.parts.pool.call(settle) if rows.is_id(run_id) else False

    async def waiters(self, ns: str, limit: int = 1000) -> list[Waiter]:
        """Return calls that wait for room, longest first."""
        return [waiter_row(row) for row in await self.parts.pool.fetch("wants", ns, limit)]

    async def take_waiters(self, limit: int = 256) -> list[Waiter]:
        """Return calls there is room for now, and note that they are told."""

        async def take(connection: Connection, again: bool) -> list[Waiter]:
            async with connection.transaction():
                waiting = [waiter_row(row) for row in await connection.fetch(SQL["all_wants"], MOST_WANTS)]
                now = await connection.fetchval(SQL["clock_now"])
                needed: set[Place] = set()
                for waiter in waiting:
                    needed |= escrow.wanted_places(waiter.ns, waiter.want, now)
                found: list[Any] = []
                if needed:
                    found = await connection.fetch(SQL["balances_at"], *columns(sorted(needed), 3))
                caps = [cap_row(row) for row in await connection.fetch(SQL["all_caps"])]
                book = Book(caps, dict(balance_row(row) for row in found), now)
                told = [msgspec.structs.replace(w, told_at=now) for w in escrow.fitting(book, waiting)[:limit]]
                await put_wants(connection, told)
                return told

        return await self.parts.pool.call(take)

    async def drop_waiters(self, run_id: str) -> None:
        """Forget the waiting calls of a run."""
        if rows.is_id(run_id):
            await self.parts.pool.fetch("wants_drop", run_id)
