"""Inboxes, messages between runs, and tickets."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.sqlite import rows, sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.store import InboxRow, Once, OutboxRow, SendOutcome, TicketRow

HOLD_MS = 5000
REOPENS = ("failed", "budget_exceeded")


class Messages(Part):
    """The messages' side of the store."""

    async def send(
        self, run_id: str, key: str, body: bytes, *, reopens: bool = False, once: Once | None = None
    ) -> SendOutcome:
        """Put a message in a run's inbox and make a waiting run claimable, in one transaction."""
        run = stored_id(run_id)
        if run is None:
            return "missing"
        return await self.parts.writer.run(lambda tx: _receive(tx, run, key, body, reopens, once))

    async def answered(self, ns: str, key: str) -> Once | None:
        """Return what is kept under an idempotency key."""
        row = await self.parts.readers.first("key_find", ns, key)
        return None if row is None else Once(ns, key, row[1], row[2], rows.id_text(row[0]))

    async def inbox(self, run_id: str, after: int = 0) -> list[InboxRow]:
        """Return unconsumed messages with `n > after`, in order."""
        run = stored_id(run_id)
        return [InboxRow(*row) for row in await self.parts.readers.rows("inbox", run, after)] if run else []

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Return undelivered messages, oldest first, skipping those another process delivers just now."""
        taker = self.parts.taker
        if not await self.parts.readers.rows("outbox_free", self.parts.clock(), taker, 1):
            return []

        def hold(tx: Tx) -> list[OutboxRow]:
            found = sql.rows(tx.db, "outbox_free", tx.now, taker, limit)
            sql.changes(tx.db, "outbox_hold", [(taker, tx.now + HOLD_MS, row[0]) for row in found])
            return [
                OutboxRow(id=row[0], ns=row[1], target=row[2], key=row[3], kind=row[4], body=row[5])
                for row in found
            ]

        return await self.parts.writer.run(hold)

    async def delivered(self, ids: Sequence[int]) -> None:
        """Forget delivered messages."""
        done = [(row,) for row in ids]
        await self.parts.writer.run(lambda tx: sql.changes(tx.db, "outbox_delete", done))

    async def tickets(
        self, ns: str, *, kind: str | None = None, state: str | None = None, run_id: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[TicketRow]:  # fmt: skip
        """Return tickets, newest first; `after` is the id of the last one seen."""
        run = stored_id(run_id) if run_id is not None else None
        if run_id is not None and run is None:
            return []
        found = await self.parts.readers.rows("ticket_list", ns, kind, state, run, after, limit)
        return [rows.ticket(row) for row in found]

    async def get_ticket(self, ns: str, ticket: str) -> TicketRow | None:
        """Return one ticket."""
        row = await self.parts.readers.first("ticket_get", ns, ticket)
        return None if row is None else rows.ticket(row)

    async def decide_ticket(
        self, ns: str, ticket: str, answer: bytes, key: str, body: bytes, *, votes: int = 0, closes: bool = True
    ) -> TicketRow | None:
        """Answer an open ticket and tell its run unless that has ended; return it as it now stands."""

        def decide(tx: Tx) -> TicketRow | None:
            row = sql.first(tx.db, "ticket_get", ns, ticket)
            if row is None:
                return None
            found = rows.ticket(row)
            if found.state == "open" and found.votes == votes:
                found.answer, found.votes = answer, votes + 1
                if closes:
                    found.state, found.decided_at = "decided", tx.now
                    sql.change(tx.db, "ticket_decide", ns, ticket, answer, tx.now)
                else:
                    sql.change(tx.db, "ticket_vote", ns, ticket, answer)
                _receive(tx, row[2], key, body, False)
            return found

        return await self.parts.writer.run(decide)


def _receive(
    tx: Tx, run: bytes, key: str, body: bytes, reopens: bool, once: Once | None = None
) -> SendOutcome:
    """Number a message, keep it, and make the run claimable when it waits."""
    row = sql.first(tx.db, "receiver", run)
    if row is None:
        return "missing"
    ns, state, status, inbox_seq, business_key = row
    if once is not None and sql.first(tx.db, "key_find", once.ns, once.key) is not None:
        return "duplicate"
    if sql.first(tx.db, "inbox_key", run, key) is not None:
        return "duplicate"
    if state == "done":
        if not reopens or status not in REOPENS:
            return "terminal"
        if business_key is not None and sql.first(tx.db, "business_run", ns, business_key) is not None:
            return "terminal"  # reopened, the run would share its business key with an unfinished one
    sql.change(tx.db, "receive", run, inbox_seq + 1, tx.now)
    sql.change(tx.db, "inbox_add", run, inbox_seq + 1, key, body)
    if once is not None:
        sql.change(tx.db, "key_add", once.ns, once.key, once.digest, run, tx.now, once.answer)
    tx.woke = True
    return "accepted"
