"""The runs a worker owns, and the ways they leave it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tenuto.domain.runs.events import Body
from tenuto.domain.runs.state import ENDED, RunState
from tenuto.errors import Halted, TenutoError
from tenuto.ports.store import Claim, Committed
from tenuto.runtime.worker.actor import Actor
from tenuto.runtime.worker.attempts import Attempt
from tenuto.runtime.worker.background import Background
from tenuto.runtime.worker.halt import Exits
from tenuto.runtime.worker.inbox import Inbox
from tenuto.runtime.worker.kinds import execute
from tenuto.runtime.worker.lease import Lease
from tenuto.runtime.worker.memo import Memo
from tenuto.runtime.worker.redo import Redo
from tenuto.runtime.worker.resources import Resources
from tenuto.runtime.worker.slots import Slots
from tenuto.runtime.worker.timers import Timers

log = logging.getLogger("tenuto.worker")


class Runs:
    """The runs in the hands of one worker; what an actor knows of its owner.

    Attributes:
        actors: By run id.
        nudge: Set to look for work now instead of at the end of the pause.
        heard: Told of every durable record, beside the bus.
        measure: Told of every durable record and the state after it, to make spans and counts of it.
        draining: The worker shuts down and takes nothing more.
        room: There is more room under a shared cap than before; whoever waits for some is to be told.
    """

    def __init__(self, resources: Resources, lease: Lease, background: Background) -> None:
        """Own nothing yet."""
        self.resources = resources
        self.lease = lease
        self.background = background
        self.actors: dict[str, Actor] = {}
        self.nudge = asyncio.Event()
        self.heard: Callable[[str, int, Body], None] | None = None
        self.measure: Callable[[RunState, Body], None] | None = None
        self.draining = False
        self.room = False
        self.execute: Callable[[Attempt], Awaitable[Any]] = execute
        self.slots = Slots(resources.options.concurrency, self.nudge)
        self.memo = Memo(resources, lease, self.slots, background)
        self.timers = Timers(resources.clock)
        self.inbox = Inbox(resources.store, background, self._unreadable)
        self.redo = Redo(self, resources, self.inbox, background)
        self.exits = Exits(resources.store, resources.committer, resources.clock)
        self._bus = resources.bus
        lease.on_lost = self._lost

    def busy(self) -> bool:
        """Return whether code of an attempt runs; what waits for its turn is given back unbegun."""
        return any(
            attempt.task is not None for actor in self.actors.values() for attempt in actor.attempts.values()
        )

    def drain(self) -> None:
        """Take no run and begin no attempt any more."""
        self.draining = True
        self.slots.close()
        self.memo.close()

    def release(self) -> None:
        """Give back what has not ended, each run with its next record."""
        for actor in list(self.actors.values()):
            if actor.st.status not in ENDED:
                actor.release()

    def forget_all(self) -> None:
        """Drop every run without a word."""
        for actor in list(self.actors.values()):
            self.forget(actor)

    def _lost(self, owner: str) -> None:
        log.warning("the lease of %s ended; dropping %d runs", owner, len(self.actors))
        self.forget_all()

    # --- from the actors --------------------------------------------------------------------------------------

    def committed(self, st: RunState, body: Body) -> None:
        """Announce a durable record to whoever watches in this process."""
        self._bus.publish(st.id, st.seq, body)
        if st.id in self.memo.groups:
            self.memo.moved(st.id)
        if self.heard is not None:
            self.heard(st.id, st.seq, body)
        if self.measure is not None:
            try:
                self.measure(st, body)
            except Exception:
                log.exception("record %d of run %s is not measured", st.seq, st.id, extra={"run": st.id})

    def parked(self, actor: Actor) -> None:
        """Forget a run that has left this worker by its own record."""
        self.forget(actor)
        if len(self.actors) == self.resources.options.max_runs - 1:
            self.nudge.set()

    def freed(self) -> None:
        """Let those who wait for room under a shared cap be told of some, at once."""
        self.room = True
        self.nudge.set()

    def refused(self, actor: Actor, result: Committed) -> None:
        """Let go of a run somebody else owns, or whose record the store cannot take."""
        if result.outcome == "poison":
            halted = Halted(f"the store refuses a record: {result.error}")
            self.background.spawn(self.exits.halt(_claim_of(actor), halted))
        else:
            log.info("run %s belongs to another worker", actor.st.id, extra={"run": actor.st.id})
        self.forget(actor)

    def quarantine(self, actor: Actor, why: str) -> None:
        """Stop a run the engine itself failed on; a person has to look. One that is not stored yet fails at its claim."""
        stored = actor.new is None
        self.forget(actor)
        if stored:
            halted = Halted(f"the engine failed to decide on the run: {why}")
            self.background.spawn(self.exits.halt(_claim_of(actor), halted))

    def _unreadable(self, run_id: str, fault: TenutoError) -> None:
        """Stop a run whose messages are not what was sent."""
        actor = self.actors.get(run_id)
        if actor is not None and actor.new is None:
            self.forget(actor)
            self.background.spawn(self.exits.halt(_claim_of(actor), fault))

    def forget(self, actor: Actor) -> None:
        """Let go of a run; its code is cancelled."""
        self.timers.forget(actor.st.id)
        if self.actors.get(actor.st.id) is actor:
            del self.actors[actor.st.id]
        actor.drop()
        if actor.st.id in self.memo.groups:
            self.memo.left(actor)
        self.hand_on(actor)
        if self.draining:
            self.nudge.set()

    def hand_on(self, actor: Actor) -> None:
        """Let a run whose creation was never proposed be created without an owner; whoever asked waits for it."""
        if actor.new is not None and actor.announce is not None and not actor.in_flight:
            self.resources.committer.queue(actor.new.commit(), actor.announce)
            actor.new = actor.announce = None


def _claim_of(actor: Actor) -> Claim:
    st = actor.st
    return Claim(run_id=st.id, ns=st.ns, epoch=st.epoch, digest=st.digest, inbox_seq=actor.inbox_seen)
