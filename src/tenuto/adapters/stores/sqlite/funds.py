"""Money and places that many runs share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.sqlite import rows, sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import Ids, stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.domain.budgets import escrow
from tenuto.domain.budgets.escrow import Balance, Book, Cap, Hold, Place, Posted, Short, Waiter, Wanted
from tenuto.ports.store import Commit, Committed

MOST_WANTS = 4096
ids = Ids()
_places = msgspec.json.Decoder(tuple[Place, ...]).decode


class NoRoom(Exception):
    """A commit asks for more than there is."""

    def __init__(self, shorts: Sequence[Short]) -> None:
        """Name what there is no room for."""
        super().__init__("no room")
        self.shorts = tuple(shorts)


class Funds(Part):
    """The shared caps' side of the store."""

    async def put_cap(self, cap: Cap) -> None:
        """Set a cap; settings leave one alone that a person set."""
        values = (cap.ns, cap.scope, cap.period, cap.limit, cap.warn_percent, cap.source)
        await self.parts.writer.run(lambda tx: sql.change(tx.db, "cap_put", *values))

    async def drop_cap(self, ns: str, scope: str, period: str, *, source: str = "") -> bool:
        """Remove a cap; return whether there was one."""
        return await self.parts.writer.run(
            lambda tx: sql.change(tx.db, "cap_drop", ns, scope, period, source) > 0
        )

    async def caps(self, ns: str) -> list[Cap]:
        """Return the caps of a namespace, by scope and period."""
        return [_cap(row) for row in await self.parts.readers.rows("caps", ns)]

    async def balances(self, ns: str, places: Sequence[Place] = ()) -> dict[Place, Balance]:
        """Return what counts in some places, or in all of the namespace."""
        wanted = set(places)
        found = dict(_balance(row) for row in await self.parts.readers.rows("balances", ns))
        return {place: balance for place, balance in found.items() if not wanted or place in wanted}

    async def holds(
        self, ns: str, *, run_id: str | None = None, lost: bool | None = None, limit: int = 1000
    ) -> list[Hold]:
        """Return what is held for calls without a known outcome, oldest first."""
        run = None if run_id is None else stored_id(run_id) or b""
        return [_hold(row) for row in await self.parts.readers.rows("holds", ns, run, lost, limit)]

    async def settle_lost(self, ns: str, run_id: str, n: int, usd: int) -> bool:
        """Settle the hold of a lost call; return whether there was one."""
        run = stored_id(run_id)

        def settle(tx: Tx) -> bool:
            row = sql.first(tx.db, "hold", run, n)
            hold = _hold(row) if row is not None else None
            if hold is None or hold.ns != ns or not hold.lost:
                return False
            book = _book(tx, hold.places)
            escrow.settle(book, hold, usd, Posted([], [], [], []))
            _write(tx, book)
            sql.change(tx.db, "hold_drop", run, n)
            tx.woke = True
            return True

        return await self.parts.writer.run(settle) if run is not None else False

    async def waiters(self, ns: str, limit: int = 1000) -> list[Waiter]:
        """Return calls that wait for room, longest first."""
        return [_waiter(row) for row in await self.parts.readers.rows("wants", ns, limit)]

    async def take_waiters(self, limit: int = 256) -> list[Waiter]:
        """Return calls there is room for now, and note that they are told."""

        def look(db: sqlite3.Connection) -> bool:
            return bool(sql.rows(db, "all_wants", 1))

        def take(tx: Tx) -> list[Waiter]:
            waiting = [_waiter(row) for row in sql.rows(tx.db, "all_wants", MOST_WANTS)]
            needed: set[Place] = set()
            for waiter in waiting:
                needed |= escrow.wanted_places(waiter.ns, waiter.want, tx.now)
            told = [
                msgspec.structs.replace(waiter, told_at=tx.now)
                for waiter in escrow.fitting(_book(tx, needed), waiting)[:limit]
            ]
            sql.changes(tx.db, "want_put", [_want(waiter) for waiter in told])
            return told

        return await self.parts.writer.run(take) if await self.parts.readers.run(look) else []

    async def drop_waiters(self, run_id: str) -> None:
        """Forget the waiting calls of a run."""
        run = stored_id(run_id)
        await self.parts.writer.run(lambda tx: sql.change(tx.db, "wants_drop", run))


def enter(tx: Tx, commit: Commit, answer: Committed) -> Committed:
    """Enter what a commit that is being stored asks for and settles.

    Raises:
        NoRoom: It asks for more than there is; the caller undoes what was done.
    """
    asked, run = commit.escrow, ids[commit.run_id]
    assert asked is not None
    holds: dict[int, Hold] = {}
    for n in (*(item.n for item in asked.settled), *asked.lost):
        row = sql.first(tx.db, "hold", run, n)
        if row is not None:
            holds[n] = _hold(row)
    book = _book(tx, escrow.needed(commit.ns, asked, holds, tx.now))
    shorts = escrow.refused(book, commit.ns, asked)
    if shorts is not None:
        raise NoRoom(shorts)
    out = escrow.post(book, commit.ns, commit.run_id, asked, holds)
    _write(tx, book)
    sql.changes(tx.db, "hold_put", [
        (hold.ns, run, hold.n, hold.step, hold.call, hold.usd, hold.slot, msgspec.json.encode(hold.places).decode(),
         hold.lost, hold.since)
        for hold in (*out.added, *out.lost)
    ])  # fmt: skip
    sql.changes(tx.db, "hold_drop", [(run, n) for n in out.dropped])
    gone = [*asked.heard, *((ask.step, ask.call) for ask in asked.asks)]
    sql.changes(tx.db, "want_drop", [(run, step, call) for step, call in gone])
    sql.changes(tx.db, "want_put", [
        _want(escrow.waiter_for(commit.ns, commit.run_id, want)) for want in asked.wanted
    ])  # fmt: skip
    tx.woke = tx.woke or out.freed
    return msgspec.structs.replace(answer, warn=tuple(out.warn), freed=out.freed)


def _book(tx: Tx, places: Iterable[Place]) -> Book:
    caps = [_cap(row) for row in sql.rows(tx.db, "all_caps")]
    found = [sql.first(tx.db, "balance", *place) for place in places]
    return Book(caps, dict(_balance(row) for row in found if row is not None), tx.now)


def _write(tx: Tx, book: Book) -> None:
    sql.changes(tx.db, "balance_put", [
        (*place, b.spent, b.held, b.unknown, b.overrun, b.warned)
        for place, b in ((place, book.balances[place]) for place in book.changed)
    ])  # fmt: skip


def _cap(row: Any) -> Cap:
    ns, scope, period, limit, percent, source = row
    return Cap(ns=ns, scope=scope, period=period, limit=limit, warn_percent=percent, source=source)


def _balance(row: Any) -> tuple[Place, Balance]:
    return Place(*row[:3]), Balance(*row[3:7], warned=bool(row[7]))


def _hold(row: Any) -> Hold:
    ns, run, n, step, call, usd, slot, places, lost, since = row
    return Hold(
        ns=ns, run=rows.id_text(run), n=n, step=step, call=call, usd=usd, slot=slot, places=_places(places),
        lost=bool(lost), since=since,
    )  # fmt: skip


def _waiter(row: Any) -> Waiter:
    ns, run, step, call, usd, project, slot, since, told_at = row
    want = Wanted(step=step, call=call, usd=usd, project=project, slot=slot, since=since)
    return Waiter(ns=ns, run=rows.id_text(run), want=want, told_at=told_at)


def _want(waiter: Waiter) -> tuple[Any, ...]:
    want = waiter.want
    return (
        waiter.ns, ids[waiter.run], want.step, want.call, want.usd, want.project, want.slot, want.since,
        waiter.told_at,
    )  # fmt: skip
