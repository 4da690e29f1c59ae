"""How often runs were started within a minute."""

from __future__ import annotations

from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.ports.starts import WINDOW_MS, Turn


class Starts(Part):
    """The side of the store that counts starts."""

    async def take_start(self, ns: str, caller: str, tier: str, id: str, limit: int) -> Turn:
        """Count a start if its window has room."""

        async def take(connection: Connection, again: bool) -> Turn:
            async with connection.transaction():
                # Whoever holds the lock sees all that was counted before, and reads the clock after having got it.
                await connection.execute(SQL["starts_lock"], f"{ns}\n{caller}\n{tier}")
                now = await connection.fetchval(SQL["clock_now"])
                await connection.execute(SQL["starts_forget"], now - WINDOW_MS)
                rows = await connection.fetch(SQL["starts"], ns, caller, tier, now - WINDOW_MS)
                found = {row["id"]: row["at"] for row in rows}
                if id in found:
                    return Turn(True, len(found))
                if len(found) >= limit:
                    first = sorted(found.values())[len(found) - limit] if limit else now
                    return Turn(False, len(found), first + WINDOW_MS - now)
                await connection.execute(SQL["start_put"], ns, caller, tier, id, now)
                return Turn(True, len(found) + 1)

        return await self.parts.pool.call(take)

    async def return_start(self, ns: str, caller: str, tier: str, id: str) -> None:
        """Count a start no longer."""
        await self.parts.pool.fetch("start_drop", ns, caller, tier, id)

    async def business_run(self, ns: str, key: str) -> str | None:
        """Return the unfinished run with a business key."""
        found = await self.parts.pool.value("business_run", ns, key)
        return str(found) if found is not None else None
