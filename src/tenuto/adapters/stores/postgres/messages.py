"""Inboxes, messages between runs, and tickets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.ports.store import InboxRow, Once, OutboxRow, SendOutcome, TicketRow


class Messages(Part):
    """The messages' side of the store."""

    async def send(
        self, run_id: str, key: str, body: bytes, *, reopens: bool = False, once: Once | None = None
    ) -> SendOutcome:
        """Put a message in a run's inbox and make a waiting run claimable, in one statement."""
        if not rows.is_id(run_id):
            return "missing"

        kept = (once.ns, once.key, once.digest, once.answer) if once is not None else (None, None, None, None)

        async def put(connection: Connection, again: bool) -> SendOutcome:
            return await _once_more(connection, SQL["send"], run_id, key, body, reopens, *kept)

        try:
            outcome = await self.parts.pool.call(put)
        except asyncpg.UniqueViolationError:
            return "terminal"  # reopened, the run would share its business key with an unfinished one
        if outcome == "accepted":
            self.parts.hints.poke()
        return outcome

    async def answered(self, ns: str, key: str) -> Once | None:
        """Return what is kept under an idempotency key."""
        row = await self.parts.pool.first("idempotent_run", ns, key)
        return None if row is None else Once(ns, key, row["digest"], row["answer"], str(row["run_id"]))

    async def inbox(self, run_id: str, after: int = 0) -> list[InboxRow]:
        """Return unconsumed messages with `n > after`, in order."""
        if not rows.is_id(run_id):
            return []
        found = await self.parts.pool.fetch("inbox", run_id, after)
        return [InboxRow(row["n"], row["key"], row["body"]) for row in found]

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Return undelivered messages, oldest first, skipping those another process delivers just now."""
        found = await self.parts.pool.fetch("outbox", limit, self.parts.taker)
        return sorted((OutboxRow(**row) for row in found), key=_id)

    async def delivered(self, ids: Sequence[int]) -> None:
        """Forget delivered messages."""
        await self.parts.pool.fetch("delivered", list(ids))

    async def tickets(
        self, ns: str, *, kind: str | None = None, state: str | None = None, run_id: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[TicketRow]:  # fmt: skip
        """Return tickets, newest first; `after` is the id of the last one seen."""
        if run_id is not None and not rows.is_id(run_id):
            return []
        found = await self.parts.pool.fetch("tickets", ns, kind, state, run_id, after, limit)
        return [rows.ticket(row) for row in found]

    async def get_ticket(self, ns: str, ticket: str) -> TicketRow | None:
        """Return one ticket."""
        row = await self.parts.pool.first("get_ticket", ns, ticket)
        return None if row is None else rows.ticket(row)

    async def decide_ticket(
        self, ns: str, ticket: str, answer: bytes, key: str, body: bytes, *, votes: int = 0, closes: bool = True
    ) -> TicketRow | None:
        """Answer an open ticket and tell its run, in one statement; return it as it now stands."""

        async def decide(connection: Connection, again: bool) -> Any:
            statement = SQL["decide_ticket"]
            return await _once_more(connection, statement, ns, ticket, answer, key, body, votes, closes, row=True)

        row = await self.parts.pool.call(decide)
        if row is None:
            return await self.get_ticket(ns, ticket)
        self.parts.hints.poke()
        return rows.ticket(row)


async def _once_more(connection: Connection, statement: str, *args: Any, row: bool = False) -> Any:
    """Send a statement that checks for a key before inserting it; losing a race shows at the second look."""
    fetch = connection.fetchrow if row else connection.fetchval
    try:
        return await fetch(statement, *args)
    except asyncpg.UniqueViolationError:
        return await fetch(statement, *args)


def _id(row: OutboxRow) -> int:
    return row.id
