"""Money and places that many runs share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.domain.budgets import escrow
from tenuto.domain.budgets.escrow import Balance, Book, Cap, Hold, Place, Posted, Waiter
from tenuto.ports.store import Commit, Committed


class Funds:
    """The shared caps' side of the store."""

    tables: Tables

    async def put_cap(self, cap: Cap) -> None:
        """Set a cap; settings leave one alone that a person set."""
        before = self.tables.caps.get((cap.ns, cap.scope, cap.period))
        if before is None or before.source != "api" or cap.source == "api":
            self.tables.caps[cap.ns, cap.scope, cap.period] = cap
            self.tables.wake()

    async def drop_cap(self, ns: str, scope: str, period: str, *, source: str = "") -> bool:
        """Remove a cap; return whether there was one."""
        found = self.tables.caps.get((ns, scope, period))
        if found is None or (source and found.source != source):
            return False
        del self.tables.caps[ns, scope, period]
        self.tables.wake()
        return True

    async def caps(self, ns: str) -> list[Cap]:
        """Return the caps of a namespace, by scope and period."""
        return [cap for _, cap in sorted(self.tables.caps.items()) if cap.ns == ns]

    async def balances(self, ns: str, places: Sequence[Place] = ()) -> dict[Place, Balance]:
        """Return what counts in some places, or in all of the namespace."""
        wanted = set(places)
        return {
            place: msgspec.structs.replace(balance) for place, balance in sorted(self.tables.balances.items())
            if place.ns == ns and (not wanted or place in wanted)
        }  # fmt: skip

    async def holds(
        self, ns: str, *, run_id: str | None = None, lost: bool | None = None, limit: int = 1000
    ) -> list[Hold]:
        """Return what is held for calls without a known outcome, oldest first."""
        found = [
            hold for hold in self.tables.holds.values()
            if hold.ns == ns and run_id in (None, hold.run) and lost in (None, hold.lost)
        ]  # fmt: skip
        return sorted(found, key=lambda hold: (hold.since, hold.run, hold.n))[:limit]

    async def settle_lost(self, ns: str, run_id: str, n: int, usd: int) -> bool:
        """Settle the hold of a lost call; return whether there was one."""
        hold = self.tables.holds.get((run_id, n))
        if hold is None or hold.ns != ns or not hold.lost:
            return False
        escrow.settle(self._book(), hold, usd, Posted([], [], [], []))
        del self.tables.holds[run_id, n]
        self.tables.wake()
        return True

    async def waiters(self, ns: str, limit: int = 1000) -> list[Waiter]:
        """Return calls that wait for room, longest first."""
        found = [waiter for waiter in self.tables.wanting.values() if waiter.ns == ns]
        return sorted(found, key=lambda waiter: (waiter.want.since, waiter.run))[:limit]

    async def take_waiters(self, limit: int = 256) -> list[Waiter]:
        """Return calls there is room for now, and note that they are told."""
        now = self.tables.clock()
        told = [
            msgspec.structs.replace(waiter, told_at=now)
            for waiter in escrow.fitting(self._book(), self.tables.wanting.values())[:limit]
        ]
        for waiter in told:
            self.tables.wanting[waiter.run, waiter.want.step, waiter.want.call] = waiter
        return told

    async def drop_waiters(self, run_id: str) -> None:
        """Forget the waiting calls of a run."""
        for key in [key for key in self.tables.wanting if key[0] == run_id]:
            del self.tables.wanting[key]

    def short(self, commit: Commit) -> Committed | None:
        """Return the refusal of a commit that asks for more room than there is."""
        if commit.escrow is None:
            return None
        shorts = escrow.refused(self._book(), commit.ns, commit.escrow)
        return None if shorts is None else Committed("refused", shorts=tuple(shorts))

    def enter(self, commit: Commit, answer: Committed) -> Committed:
        """Enter what a stored commit asks for and settles."""
        asked = commit.escrow
        if asked is None:
            return answer
        tables, run = self.tables, commit.run_id
        mine = {n: hold for (owner, n), hold in tables.holds.items() if owner == run}
        out = escrow.post(self._book(), commit.ns, run, asked, mine)
        for hold in (*out.added, *out.lost):
            tables.holds[run, hold.n] = hold
        for n in out.dropped:
            tables.holds.pop((run, n), None)
        for step, call in (*asked.heard, *((ask.step, ask.call) for ask in asked.asks)):
            tables.wanting.pop((run, step, call), None)
        for want in asked.wanted:
            tables.wanting[run, want.step, want.call] = escrow.waiter_for(commit.ns, run, want)
        return msgspec.structs.replace(answer, warn=tuple(out.warn), freed=out.freed)

    def _book(self) -> Book:
        return Book(self.tables.caps.values(), self.tables.balances, self.tables.clock())
