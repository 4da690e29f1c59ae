"""A person who answers tickets, and a reader who follows runs: those outside the engine who start nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.people import terms_in
from tenuto.errors import Conflict, RunMissing, Unavailable
from tenuto.ports.store import TicketRow
from tenuto.runtime.bus import Bus
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.services.context import Creator
from tenuto.runtime.services.engine import Engine
from tenuto.testing.simulation_client import PATIENCE_S, Cluster


class Reader:
    """Reads the events of some runs page by page through the services, as a client that polls does."""

    def __init__(self, cluster: Cluster, run_ids: Sequence[str], read: dict[str, list[str]]) -> None:
        """Read some runs; ids of events are kept in `read`."""
        store = cluster.store_of_client()
        nobody = cast("Creator", None)
        self._history = Engine(store, nobody, Definitions(store), bus=Bus(), clock=cluster.db.clock).history
        self._read = read
        for run_id in run_ids:
            read[run_id] = []

    async def work(self) -> None:
        """Read for ever."""
        while True:
            await asyncio.sleep(2.5)
            await self.catch_up()

    async def catch_up(self) -> None:
        """Read what is new."""
        for run_id, ids in self._read.items():
            while True:
                try:
                    page = await self._history.events(run_id, after=ids[-1] if ids else "", limit=3)
                except RunMissing:
                    break
                ids += [event.id for event in page.items]
                if page.next is None:
                    break


class Person:
    """Answers tickets after a while: approvals by the scenario's verdict, lost outcomes by looking at the world."""

    def __init__(self, cluster: Cluster, verdicts: dict[str, str]) -> None:
        """Answer for runs by id."""
        self._cluster, self._verdicts = cluster, verdicts
        self._store = cluster.store_of_client()
        nobody = cast("Creator", None)
        self._tickets = Engine(self._store, nobody, Definitions(self._store), bus=Bus(), clock=cluster.db.clock).tickets
        self.answered = 0

    async def work(self) -> None:
        """Look for tickets for ever."""
        while True:
            await asyncio.sleep(0.8)
            open_ = [ticket for ticket in self._cluster.db.tickets.values() if ticket.state == "open"]
            for ticket in open_:
                decision = self._decide(ticket)
                names = terms_in(msgspec.json.decode(ticket.body)).approvers
                if decision and names:
                    await self._several(ticket, decision, names)
                elif decision:
                    await self._answer(ticket, decision)

    def _decide(self, ticket: TicketRow) -> str:
        if ticket.kind in ("approval", "patch"):
            verdict = self._verdicts.get(ticket.run_id, "approve")
            return "" if verdict == "wait" else verdict
        if ticket.kind == "unknown_outcome":
            key = msgspec.json.decode(ticket.body)["key"]
            return "succeeded" if self._cluster.world.effects.get(key) else "retry"
        if ticket.kind == "escalation":
            self._cluster.world.fixed.add(ticket.run_id)
            return "retry"
        return ""

    async def _several(self, ticket: TicketRow, decision: str, names: Sequence[str]) -> None:
        """Answer for each of those who are asked, some twice; those of a `divided` verdict do not agree."""
        for n, name in enumerate((*names, *names)):
            said = ("reject" if n % len(names) == 0 else "approve") if decision == "divided" else decision
            with suppress(TimeoutError, Conflict, Unavailable):
                async with asyncio.timeout(PATIENCE_S):
                    view = await self._tickets.decide(ticket.id, said, reason=name, by=name)
                at = [vote.by for vote in view.votes].index(name) if view.votes else 0
                key = f"decision/{ticket.id}" + (f"/{at}" if at else "")
                if key not in self._cluster.world.promised.setdefault(ticket.run_id, []):
                    self._cluster.world.promised[ticket.run_id].append(key)
                    self.answered += 1

    async def _answer(self, ticket: TicketRow, decision: str) -> None:
        data: Any = {"v": "done"} if ticket.kind == "unknown_outcome" else None
        answer = msgspec.json.encode({"decision": decision, "reason": "", "data": data, "by": "person"})
        body = msg.encode_message(msg.Decision(ticket=ticket.id, decision=decision, data=data, by="person"))
        key = f"decision/{ticket.id}"
        try:
            async with asyncio.timeout(PATIENCE_S):
                row = await self._store.decide_ticket(ticket.ns, ticket.id, answer, key, body)
        except TimeoutError:
            return
        if row is not None and row.answer == answer:
            self.answered += 1
            self._cluster.world.promised.setdefault(ticket.run_id, []).append(key)
