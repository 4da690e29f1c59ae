"""Shared money in simulated histories: caps, a person who looks after them, and what must hold at every commit (I8)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from tenuto.adapters.stores.memory.tables import Tables
from tenuto.domain.budgets.escrow import EVERYWHERE, NOW, Cap, Place, slot_place
from tenuto.domain.runs import messages as msg
from tenuto.ports.store import Store

if TYPE_CHECKING:
    from tenuto.testing.simulation_client import Cluster

PROVIDER = "shop"
PLACES = 2
BOUND = 40
"""What a purchase is held at; it costs that or less."""
FIRST, MORE = 150, 120
PATIENCE_S = 4.0


async def declare(store: Store) -> None:
    """Set the caps under which all purchases of a history are made."""
    await store.put_cap(Cap(ns="default", scope="", period="total", limit=FIRST))
    await store.put_cap(Cap(ns=EVERYWHERE, scope=f"provider:{PROVIDER}", period=NOW, limit=PLACES))


def broken(db: Tables, billed: int) -> list[str]:
    """Return what is wrong with shared money right now.

    Args:
        billed: What has really been paid by now: never more than counts, whatever was lost on the way.
    """
    found: list[str] = []
    held: dict[Place, int] = {}
    unknown: dict[Place, int] = {}
    for hold in db.holds.values():
        for place in hold.places:
            held[place] = held.get(place, 0) + hold.usd
            unknown[place] = unknown.get(place, 0) + hold.usd * hold.lost
        if hold.slot and not hold.lost:
            place = slot_place(hold.slot)
            held[place] = held.get(place, 0) + 1
    for place in {*db.balances, *held}:
        balance = db.balances.get(place)
        if balance is None or (balance.held, balance.unknown) != (held.get(place, 0), unknown.get(place, 0)):
            found.append(f"{place}: {balance} counts, calls hold {held.get(place, 0)}, {unknown.get(place, 0)} unknown (I8)")
            continue
        cap = db.caps.get((place.ns, place.scope, place.period))
        if cap is not None and balance.spent + balance.held > cap.limit + balance.overrun:
            found.append(f"{place}: {balance} passes the cap of {cap.limit} (I8)")
        if place.period == "total" and billed > balance.spent + balance.held:
            found.append(f"{place}: {billed} was paid, {balance} counts (I8)")
    return found


class Purse:
    """A person who raises the cap when asked to, and settles what was lost at all it may have cost."""

    def __init__(self, cluster: Cluster) -> None:
        """Look after the shared money of a history."""
        self._cluster = cluster
        self._store = cluster.store_of_client()

    async def work(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(2.5)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._look()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        db = self._cluster.db
        if any(ticket.state == "open" and ticket.kind == "budget" for ticket in db.tickets.values()):
            cap = db.caps["default", "", "total"]
            await self._store.put_cap(msgspec.structs.replace(cap, limit=cap.limit + MORE))
        for hold in [hold for hold in db.holds.values() if hold.lost]:
            key = f"settled/{hold.n}"
            body = msg.encode_message(msg.MoneySettled(grant=hold.n, tokens=1, cost_usd_micros=hold.usd, by="person"))
            outcome = await self._store.send(hold.run, key, body)
            if outcome == "terminal":
                await self._store.settle_lost(hold.ns, hold.run, hold.n, hold.usd)
            elif outcome in ("accepted", "duplicate"):
                self._cluster.world.promised.setdefault(hold.run, []).append(key)
