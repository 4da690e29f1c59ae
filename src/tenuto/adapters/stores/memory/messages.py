"""Inboxes, messages between runs, and tickets."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.store import InboxRow, Once, OutboxRow, SendOutcome, TicketRow

_HOLD_MS = 5000


class Messages:
    """The messages' side of the store."""

    tables: Tables
    writer: int

    async def send(
        self, run_id: str, key: str, body: bytes, *, reopens: bool = False, once: Once | None = None
    ) -> SendOutcome:
        """Put a message in a run's inbox and make a waiting run claimable."""
        if once is not None and run_id in self.tables.runs and (once.ns, once.key) in self.tables.keys:
            return "duplicate"
        outcome = self.tables.receive(run_id, key, body, reopens)
        if once is not None and outcome == "accepted":
            self.tables.keys[once.ns, once.key] = (run_id, once.digest, once.answer, self.tables.clock())
        return outcome

    async def answered(self, ns: str, key: str) -> Once | None:
        """Return what is kept under an idempotency key."""
        found = self.tables.keys.get((ns, key))
        return None if found is None else Once(ns, key, found[1], found[2], found[0])

    async def inbox(self, run_id: str, after: int = 0) -> list[InboxRow]:
        """Return unconsumed messages with `n > after`, in order."""
        return [row for n, row in sorted(self.tables.inbox.get(run_id, {}).items()) if n > after]

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Return undelivered messages, oldest first, skipping those another view delivers just now."""
        now = self.tables.clock()
        free = [held for held in self.tables.outbox.values() if held.until <= now or held.taker == self.writer]
        for held in free[:limit]:
            held.taker, held.until = self.writer, now + _HOLD_MS
        return [copied(held.row) for held in free[:limit]]

    async def delivered(self, ids: Sequence[int]) -> None:
        """Forget delivered messages."""
        for row in ids:
            self.tables.outbox.pop(row, None)

    async def tickets(
        self, ns: str, *, kind: str | None = None, state: str | None = None, run_id: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[TicketRow]:  # fmt: skip
        """Return tickets, newest first; `after` is the id of the last one seen."""
        if after and (ns, after) not in self.tables.tickets:
            return []
        last = (self.tables.tickets[ns, after].created_at, after) if after else None
        found = [
            row for row in self.tables.tickets.values()
            if row.ns == ns and kind in (None, row.kind) and state in (None, row.state)
            and run_id in (None, row.run_id) and (last is None or (row.created_at, row.id) < last)
        ]  # fmt: skip
        found.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        return [copied(row) for row in found[:limit]]

    async def get_ticket(self, ns: str, ticket: str) -> TicketRow | None:
        """Return one ticket."""
        row = self.tables.tickets.get((ns, ticket))
        return None if row is None else copied(row)

    async def decide_ticket(
        self, ns: str, ticket: str, answer: bytes, key: str, body: bytes, *, votes: int = 0, closes: bool = True
    ) -> TicketRow | None:
        """Answer an open ticket and tell its run unless that has ended; return it as it now stands."""
        row = self.tables.tickets.get((ns, ticket))
        if row is None:
            return None
        if row.state == "open" and row.votes == votes:
            row.answer, row.votes = answer, votes + 1
            if closes:
                row.state, row.decided_at = "decided", self.tables.clock()
                self.tables.unheard.add((ns, ticket))
            self.tables.receive(row.run_id, key, body, False)
        return copied(row)
