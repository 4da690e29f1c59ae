"""The lease: a worker's right to its runs. Kept by heartbeats, lost with silence, ended at once for the dead here."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from uuid import uuid4

import msgspec

from tenuto.ports.liveness import Liveness
from tenuto.ports.store import WorkerRow
from tenuto.runtime.worker.background import Background
from tenuto.runtime.worker.resources import Resources

log = logging.getLogger("tenuto.worker")


class Lease:
    """One worker's lease, by a clock that counts while the process is stopped.

    Attributes:
        id: Who holds it; a lease that was lost is followed by one under another id.
        on_lost: Called with the former id before anything else happens: every run may be somebody else's already.
        renewed: Set by each heartbeat that counted; whoever waits for one clears it.
        group_now: The store's time, read once for a group of decisions.
        group_holds: Whether the lease held then.
    """

    def __init__(self, resources: Resources, background: Background, liveness: Liveness | None) -> None:
        """Hold nothing before `register`."""
        self.id = new_worker_id()
        self.on_lost: Callable[[str], None] = _owns_nothing
        self.renewed = False
        self.group_now = 0
        self.group_holds = False
        self._catalog = resources.catalog
        self._store = resources.store
        self._clock = resources.clock
        self._ms = resources.options.lease_ms
        self._background = background
        self._liveness = liveness
        self._end = 0.0
        self._left = False

    def holds(self) -> bool:
        """Return whether the lease certainly still holds."""
        return self._clock.steady() < self._end

    def read_clocks(self) -> None:
        """Read the clocks once for a whole group of decisions."""
        self.group_now = self._clock.now()
        self.group_holds = self.holds()

    async def register(self) -> None:
        """Announce the worker; from now on it may claim."""
        if self._liveness is not None:
            self._liveness.show(self.id)
        before = self._clock.steady()
        manifest = {"handlers": sorted(self._catalog.handlers), "tools": self._catalog.served_tools()}
        row = WorkerRow(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), started_at=self._clock.now(),
            manifest=msgspec.json.encode(manifest),
        )
        now = await self._store.register(row, self._ms)
        self._clock.adjust(now)
        if self.id == row.id:
            self._end = before + self._ms / 1000

    async def heartbeats(self) -> None:
        """Renew the lease three times as often as it would end."""
        period = self._ms / 3000
        while True:
            await asyncio.sleep(period)
            owner, before = self.id, self._clock.steady()
            try:
                now = await self._store.heartbeat(owner, self._ms)
            except Exception:
                log.exception("a heartbeat failed")
                continue
            if self.id != owner:
                continue
            if now is None:
                self.lose()
            else:
                self._end = before + self._ms / 1000
                self._clock.adjust(now)
                self.renewed = True

    def lose(self) -> None:
        """Drop every run at once, since others may own them already, and begin anew under another id."""
        if self._left:
            return
        self.on_lost(self.id)
        if self._liveness is not None:
            self._liveness.hide(self.id)
        self.id = new_worker_id()
        self._end = 0.0
        self._background.spawn(self.register())

    def leave(self) -> None:
        """Lose nothing any more: the worker is on its way out."""
        self._left = True

    async def unregister(self) -> None:
        """Give the lease back."""
        await self._store.unregister(self.id)
        if self._liveness is not None:
            self._liveness.hide(self.id)

    async def adopt_the_dead(self) -> None:
        """End the leases of workers on this machine whose processes are gone."""
        if self._liveness is None:
            return
        for dead in self._liveness.dead():
            orphans = await self._store.adopt(self.id, dead)
            self._liveness.bury(dead)
            if orphans:
                log.warning("worker %s is dead; its %d runs are taken over", dead, orphans)


def _owns_nothing(_: str) -> None:
    return None


def new_worker_id() -> str:
    """Return a fresh id that says where the worker runs."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
