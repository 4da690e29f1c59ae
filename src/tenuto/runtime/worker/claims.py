"""Looking for work: claims, takeovers, messages, tasks; a poll when something is hinted at, and now and then anyway."""

from __future__ import annotations

import asyncio
import logging

from tenuto.runtime.worker.deliver import deliver_outbox
from tenuto.runtime.worker.opening import Opening
from tenuto.runtime.worker.room import tell_of_room
from tenuto.runtime.worker.runs import Runs
from tenuto.runtime.worker.tasks import Tasks

log = logging.getLogger("tenuto.worker")
ROOM_MS = 1000


class Claims:
    """The poll loop of one worker.

    Attributes:
        takeovers: Runs taken from workers whose leases had ended.
    """

    def __init__(self, runs: Runs, opening: Opening, tasks: Tasks) -> None:
        """Look for work; what is found is handed to the others."""
        self.takeovers = 0
        self._told = 0
        self._runs = runs
        self._opening = opening
        self._tasks = tasks
        self._store = runs.resources.store
        self._options = runs.resources.options

    async def run(self) -> None:
        """Look for work until cancelled."""
        while True:
            try:
                busy = await self._look()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("looking for work failed")
                busy = False
            if not busy:
                await self._pause()

    async def _pause(self) -> None:
        hint = asyncio.ensure_future(self._store.wait_hint(self._options.idle_s))
        nudge = asyncio.ensure_future(self._runs.nudge.wait())
        try:
            await asyncio.wait({hint, nudge}, return_when=asyncio.FIRST_COMPLETED, timeout=self._options.idle_s)
        finally:
            hint.cancel()
            nudge.cancel()
            await asyncio.gather(hint, nudge, return_exceptions=True)
        self._runs.nudge.clear()

    async def _look(self) -> bool:
        """Do what one poll finds; return whether there may be more right away."""
        runs, lease, owner = self._runs, self._runs.lease, self._runs.lease.id
        runs.memo.poke()  # what was kept or given up elsewhere comes with the same hints
        if not lease.holds():
            return False
        if not runs.draining:
            await lease.adopt_the_dead()
        found = await self._store.poll(lease.id)
        for run_id in found.inbox:
            actor = runs.actors.get(run_id)
            if actor is not None:
                runs.inbox.read(actor)
        if found.outbox:
            await deliver_outbox(runs)
        if found.waiters and (runs.room or found.now >= self._told + ROOM_MS):
            self._told, runs.room = found.now, False
            await tell_of_room(self._store)
        if found.tasks and not runs.draining:
            await self._tasks.take()
        if runs.draining:
            return False
        if lease.renewed:
            lease.renewed = False
            await self._retake()
        free = self._options.max_runs - len(runs.actors)
        busy = False
        if found.expired and free > 0:
            stolen = await self._store.steal(owner, min(free, 64))
            self.takeovers += len(stolen)
            await self._opening.take(stolen, owner)
            busy = bool(stolen)
        if found.claimable and free > 0:
            claims = await self._store.claim(owner, min(free, 256), sorted(self._opening.excluded))
            await self._opening.take(claims, owner)
            busy = busy or len(claims) > 0
        return busy

    async def _retake(self) -> None:
        """Take anew what the store says is ours though nobody here has it: a claim whose opening failed half way."""
        runs, lease = self._runs, self._runs.lease
        held, owner = set(runs.actors), lease.id
        owned = await self._store.owned(owner)
        # Absent before and after: a run that is parked meanwhile was here before, one created meanwhile is here now.
        lost = [(run_id, epoch) for run_id, epoch in owned if run_id not in held and run_id not in runs.actors]
        if lost:
            log.warning("taking %d runs anew that were claimed and never opened", len(lost))
            await self._opening.take(await self._store.retake(owner, lost), owner)
