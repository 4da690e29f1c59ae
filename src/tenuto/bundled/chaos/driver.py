"""The client of a chaos run: starts runs, sends signals, answers tickets, and writes down every acknowledgement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from tenuto.bundled.chaos.outside import ask
from tenuto.bundled.chaos.shapes import DEADLY, Planned, plan_run
from tenuto.domain.runs.failure import LOST
from tenuto.domain.runs.state import ENDED
from tenuto.errors import AlreadyDecided, Conflict, RunTerminal
from tenuto.ports.store import RunFilter
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.results import TicketView

log = logging.getLogger("tenuto.chaos")
LOOK_S = 0.4
REDRIVES = 5
_LIVE = ("queued", "running", "waiting", "paused", "cancelling")


class Driver:
    """Drives planned runs over an engine without workers.

    Attributes:
        live: Runs that have been accepted and have not ended, by id.
        target: How many runs to keep alive at once; `None` starts all that are planned.
        acks: How many acknowledgements have been written down.
    """

    def __init__(self, engine: Engine, planned: Sequence[Planned], acks: Path, seed: int) -> None:
        """Prepare to drive."""
        self.engine = engine
        self.planned = list(planned)
        self.waiting = list(reversed(self.planned))
        self.live: dict[str, Planned] = {}
        self.by_run: dict[str, Planned] = {}
        self.target: int | None = None
        self.acks = 0
        self.redriven: dict[str, int] = {"poison": 0, "others": 0}
        self.notes: list[str] = []
        self._random = Random(seed + 1)
        self._file = acks.open("ab")
        self._acts: set[asyncio.Task[None]] = set()
        self._answering: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether every planned run has ended as far as the driver has been shown."""
        return not self.waiting and not self.live and not self._acts

    def acknowledged(self, what: str, run: str, **rest: Any) -> None:
        """Write down outside of the engine what it has promised."""
        self.acks += 1
        self._file.write(msgspec.json.encode({"t": time.time(), "what": what, "run": run, **rest}) + b"\n")
        self._file.flush()

    async def drive(self) -> None:
        """Keep everything going until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._starting())
                group.create_task(self._repeat(self._look))
                group.create_task(self._repeat(self._answer_tickets))
        finally:
            for task in self._acts:
                task.cancel()

    async def _repeat(self, work: Any) -> None:
        while True:
            await work()
            await asyncio.sleep(LOOK_S)

    # --- runs -------------------------------------------------------------------------------------------------

    async def _starting(self) -> None:
        while True:
            room = len(self.waiting) if self.target is None else self.target - len(self.live)
            if self.target is not None and room > 0 and not self.waiting:
                self._invent(room)
            group = [self.waiting.pop() for _ in range(min(room, len(self.waiting), 16))]
            await asyncio.gather(*(self._start(planned) for planned in group))
            if not group:
                await asyncio.sleep(0.1)

    def _invent(self, count: int) -> None:
        """Plan more runs, because the faults are not done yet."""
        for _ in range(count):
            name = self._random.choice(("timers", "timers", "timers", "pay", "calls", "ship"))
            planned = plan_run(name, len(self.planned), self._random)
            self.planned.append(planned)
            self.waiting.append(planned)

    async def _start(self, planned: Planned) -> None:
        started = await self.engine.runs.start(
            planned.name, planned.input, idempotency_key=f"chaos-{planned.number}", priority="medium",
        )
        planned.run = started.id
        self.acknowledged("started", started.id, number=planned.number, shape=planned.name)
        self.live[started.id] = self.by_run[started.id] = planned
        if planned.acts:
            task = asyncio.create_task(self._act(planned))
            self._acts.add(task)
            task.add_done_callback(self._acts.discard)

    async def _act(self, planned: Planned) -> None:
        began = time.monotonic()
        for number, (at, act) in enumerate(planned.acts):
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            what, _, rest = act.partition(":")
            if what == "signal":
                name, _, payload = rest.partition(":")
                await self._signal(planned, name, int(payload), f"{number}")
                continue
            try:
                await getattr(self.engine.runs, what)(planned.run, key=f"{number}")
            except RunTerminal:
                continue
            self._sent(planned, f"{what}/{number}")

    async def _signal(self, planned: Planned, name: str, payload: int, key: str) -> None:
        """Deliver a signal the run needs; while it is a dead letter it takes none, so send it again once it goes on."""
        while True:
            try:
                await self.engine.runs.signal(planned.run, name, payload, key=key)
            except RunTerminal:
                if planned.run not in self.live:
                    return
                await asyncio.sleep(LOOK_S)
            else:
                self._sent(planned, f"signal/{name}/{key}")
                return

    def _sent(self, planned: Planned, message: str) -> None:
        planned.sent.append(message)
        self.acknowledged("sent", planned.run, key=message)

    # --- what has ended ---------------------------------------------------------------------------------------

    async def _look(self) -> None:
        before = dict(self.live)
        now: set[str] = set()
        after = ""
        while rows := await self.engine.store.list_runs(RunFilter(statuses=_LIVE), after=after, limit=500):
            now.update(row.id for row in rows)
            after = rows[-1].cursor
        for run, planned in before.items():
            if run not in now:
                await self._ended(planned)

    async def _ended(self, planned: Planned) -> None:
        row = await self.engine.store.get_run(planned.run)
        if row is None or row.status not in ENDED or row.state != "done":
            return
        planned.seen.append(row.status)
        self.acknowledged("ended", planned.run, status=row.status)
        if row.status == "failed" and await self._redrive(planned):
            return
        self.live.pop(planned.run, None)

    async def _redrive(self, planned: Planned) -> bool:
        """Send the dead letters of a run round again; return whether there were any to send."""
        letters = (await self.engine.dead_letters.list(run=planned.run)).items
        lost = [letter for letter in letters if LOST.message in letter.message]
        if not lost or planned.redriven >= REDRIVES:
            return False
        planned.redriven += 1
        self.redriven["poison" if planned.name in DEADLY else "others"] += 1
        await ask(op="mend", run=planned.run)
        for letter in lost:
            key = f"{planned.redriven}"
            try:
                await self.engine.dead_letters.redrive(letter.id, key=key)
            except Conflict:
                continue
            self._sent(planned, f"retry/{letter.step}/{key}")
        return True

    # --- tickets ----------------------------------------------------------------------------------------------

    async def _answer_tickets(self) -> None:
        page = await self.engine.tickets.list(state="open", limit=200)
        for ticket in page.items:
            planned = self.by_run.get(ticket.run)
            if planned is not None and ticket.id not in self._answering:
                await self._answer(planned, ticket)

    async def _answer(self, planned: Planned, ticket: TicketView) -> None:
        decision, data = "approve" if planned.number % 2 else "reject", None
        if ticket.kind == "unknown_outcome":
            found = await ask(op="status", key=ticket.data["key"])
            decision = "succeeded" if found["times"] else "retry"
            data = {"receipt": ticket.data["key"]} if found["times"] else None
        elif ticket.kind == "integrity":
            self.notes.append(f"run {ticket.run} ({planned.name}) is halted: {ticket.message}")
            self._answering.add(ticket.id)
            return
        try:
            await self.engine.tickets.decide(ticket.id, decision, reason="as the chaos wants", data=data, by="chaos")
        except (AlreadyDecided, Conflict):
            return
        self._answering.add(ticket.id)
        planned.sent.append(f"decision/{ticket.id}")
        self.acknowledged("decided", planned.run, key=f"decision/{ticket.id}", decision=decision)
