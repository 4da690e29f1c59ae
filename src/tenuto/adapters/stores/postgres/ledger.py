"""Rows of shared money: locked in one order, worked on by the pure book, and written back in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.postgres.batch import columns
from tenuto.adapters.stores.postgres.link import Connection
from tenuto.adapters.stores.postgres.sql import SQL
from tenuto.domain.budgets import escrow
from tenuto.domain.budgets.escrow import Balance, Book, Cap, Hold, Place, Waiter, Wanted
from tenuto.ports.store import Commit, Committed

_places = msgspec.json.Decoder(tuple[Place, ...]).decode


class Ledger:
    """What some commits ask for and settle, inside one transaction that holds the rows it works on."""

    def __init__(self, book: Book, holds: Mapping[str, dict[int, Hold]]) -> None:
        """Work on locked rows."""
        self._book = book
        self._holds = holds
        self._put: list[Hold] = []
        self._dropped: list[tuple[str, int]] = []
        self._gone: list[tuple[str, str, str]] = []
        self._wants: list[Waiter] = []

    @classmethod
    async def opened(cls, connection: Connection, commits: Sequence[Commit]) -> Ledger:
        """Lock every row the commits need, in an order that all transactions share."""
        named = [
            (commit.run_id, n)
            for commit in commits
            if commit.escrow is not None
            for n in (*(item.n for item in commit.escrow.settled), *commit.escrow.lost)
        ]
        holds: dict[str, dict[int, Hold]] = {}
        for row in await connection.fetch(SQL["holds_of"], *columns(named, 2)) if named else ():
            hold = hold_row(row)
            holds.setdefault(hold.run, {})[hold.n] = hold
        now = await connection.fetchval(SQL["clock_now"])
        needed: set[Place] = set()
        for commit in commits:
            if commit.escrow is not None:
                needed |= escrow.needed(commit.ns, commit.escrow, holds.get(commit.run_id, {}), now)
        return cls(await lock(connection, needed, now), holds)

    def refusal(self, commit: Commit) -> Committed | None:
        """Return the refusal of a commit that asks for more room than there is."""
        if commit.escrow is None:
            return None
        shorts = escrow.refused(self._book, commit.ns, commit.escrow)
        return None if shorts is None else Committed("refused", shorts=tuple(shorts))

    def enter(self, commit: Commit) -> tuple[tuple[escrow.Warn, ...], bool]:
        """Enter a commit's changes; return what it is warned of, and whether it frees something."""
        asked, run = commit.escrow, commit.run_id
        if asked is None:
            return (), False
        out = escrow.post(self._book, commit.ns, run, asked, self._holds.get(run, {}))
        self._put += [*out.added, *out.lost]
        self._dropped += [(run, n) for n in out.dropped]
        self._gone += [(run, step, call) for step, call in asked.heard]
        self._gone += [(run, ask.step, ask.call) for ask in asked.asks]
        self._wants += [escrow.waiter_for(commit.ns, run, want) for want in asked.wanted]
        return tuple(out.warn), out.freed

    async def close(self, connection: Connection) -> None:
        """Write back what changed."""
        await write(connection, self._book)
        if self._put:
            put = [
                (h.ns, h.run, h.n, h.step, h.call, h.usd, h.slot, msgspec.json.encode(h.places).decode(), h.lost, h.since)
                for h in self._put
            ]
            await connection.execute(SQL["holds_put"], *columns(put, 10))
        if self._dropped:
            await connection.execute(SQL["holds_drop"], *columns(self._dropped, 2))
        if self._gone:
            await connection.execute(SQL["wants_gone"], *columns(self._gone, 3))
        await put_wants(connection, self._wants)


async def lock(connection: Connection, places: Iterable[Place], now: int = 0) -> Book:
    """Return a book over rows that nobody else can change before the transaction ends."""
    wanted = columns(sorted(set(places)), 3)
    found: list[Any] = []
    if wanted[0]:
        await connection.execute(SQL["balances_make"], *wanted)
        found = await connection.fetch(SQL["balances_lock"], *wanted)
    caps = [cap_row(row) for row in await connection.fetch(SQL["all_caps"])]
    return Book(caps, dict(balance_row(row) for row in found), now)


async def write(connection: Connection, book: Book) -> None:
    """Write back the balances that changed."""
    changed = [
        (*place, b.spent, b.held, b.unknown, b.overrun, b.warned)
        for place, b in ((place, book.balances[place]) for place in sorted(book.changed))
    ]
    if changed:
        await connection.execute(SQL["balances_put"], *columns(changed, 8))


async def put_wants(connection: Connection, waiters: Sequence[Waiter]) -> None:
    """Let calls wait for room."""
    if waiters:
        put = [
            (w.ns, w.run, w.want.step, w.want.call, w.want.usd, w.want.project, w.want.slot, w.want.since, w.told_at)
            for w in waiters
        ]
        await connection.execute(SQL["wants_put"], *columns(put, 9))


def cap_row(row: Any) -> Cap:
    """Return a cap."""
    return Cap(
        ns=row["ns"], scope=row["scope"], period=row["period"], limit=row["most"],
        warn_percent=row["warn_percent"], source=row["source"],
    )  # fmt: skip


def balance_row(row: Any) -> tuple[Place, Balance]:
    """Return a place and what counts there."""
    place = Place(row["ns"], row["scope"], row["win"])
    return place, Balance(row["spent"], row["held"], row["unknown"], row["overrun"], row["warned"])


def hold_row(row: Any) -> Hold:
    """Return a hold."""
    return Hold(
        ns=row["ns"], run=str(row["run_id"]), n=row["n"], step=row["step"], call=row["call"], usd=row["usd"],
        slot=row["slot"], places=_places(row["places"]), lost=row["lost"], since=row["since"],
    )  # fmt: skip


def waiter_row(row: Any) -> Waiter:
    """Return a call that waits for room."""
    want = Wanted(
        step=row["step"], call=row["call"], usd=row["usd"], project=row["project"], slot=row["slot"],
        since=row["since"],
    )  # fmt: skip
    return Waiter(ns=row["ns"], run=str(row["run_id"]), want=want, told_at=row["told_at"])
