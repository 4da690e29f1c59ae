"""How often runs were started within a minute."""

from __future__ import annotations

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.ports.starts import WINDOW_MS, Turn


class Starts:
    """The side of the store that counts starts."""

    tables: Tables

    async def take_start(self, ns: str, caller: str, tier: str, id: str, limit: int) -> Turn:
        """Count a start if its window has room."""
        now, place = self.tables.clock(), (ns, caller, tier)
        kept = {name: at for name, at in self.tables.starts.get(place, {}).items() if at > now - WINDOW_MS}
        self.tables.starts[place] = kept
        if id in kept:
            return Turn(True, len(kept))
        if len(kept) >= limit:
            first = sorted(kept.values())[len(kept) - limit] if limit else now
            return Turn(False, len(kept), first + WINDOW_MS - now)
        kept[id] = now
        return Turn(True, len(kept))

    async def return_start(self, ns: str, caller: str, tier: str, id: str) -> None:
        """Count a start no longer."""
        self.tables.starts.get((ns, caller, tier), {}).pop(id, None)

    async def business_run(self, ns: str, key: str) -> str | None:
        """Return the unfinished run with a business key."""
        return self.tables.business_run(ns, key)
