"""A worker: claims runs, moves them forward, keeps its lease, takes over from the dead, lets go when told to."""

from __future__ import annotations

import asyncio
import contextlib

from tenuto.ports.cache import CacheEntries
from tenuto.ports.clock import Clock
from tenuto.ports.liveness import Liveness
from tenuto.ports.model import Model
from tenuto.ports.pool import Pool
from tenuto.ports.store import Store
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.worker.actor import Actor
from tenuto.runtime.worker.background import Background
from tenuto.runtime.worker.claims import Claims
from tenuto.runtime.worker.lease import Lease
from tenuto.runtime.worker.opening import Opening
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.runtime.worker.resources import Resources
from tenuto.runtime.worker.runs import Runs
from tenuto.runtime.worker.tasks import Tasks

LEAVING_S = 5


class Worker:
    """One owner of runs. Everything but the handlers' own threads happens on one event loop."""

    def __init__(
        self, store: Store, committer: Committer, definitions: Definitions, catalog: Catalog, clock: Clock, *,
        bus: Bus | None = None, options: WorkerOptions | None = None, models: Model | None = None,
        http: HttpPolicy | None = None, pool: Pool | None = None, liveness: Liveness | None = None,
        shelf: Shelf | None = None, cache: CacheEntries | None = None,
    ) -> None:
        """Assemble a worker; nothing happens before `start`."""
        self._resources = Resources(
            store, committer, definitions, catalog, clock, bus=bus or Bus(), options=options or WorkerOptions(),
            models=models, http=http or HttpPolicy(), pool=pool, shelf=shelf or Shelf(store), cache=cache,
        )
        self._background = Background()
        self._lease = Lease(self._resources, self._background, liveness)
        self.runs = Runs(self._resources, self._lease, self._background)
        self._executor = Tasks(self.runs)
        self._opening = Opening(self.runs)
        self._claims = Claims(self.runs, self._opening, self._executor)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    @property
    def id(self) -> str:
        """Return the id it holds its lease under; another one after a lease was lost."""
        return self._lease.id

    @property
    def actors(self) -> dict[str, Actor]:
        """Return the runs it owns, by id."""
        return self.runs.actors

    @property
    def takeovers(self) -> int:
        """Return how many runs it took from workers whose leases had ended."""
        return self._claims.takeovers

    async def start(self) -> None:
        """Announce the worker and begin to claim."""
        await self._lease.register()
        self._resources.committer.intercept = self._opening.intercept
        self._resources.committer.before_group = self._lease.read_clocks
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._lease.heartbeats(), name="heartbeat"),
            loop.create_task(self._claims.run(), name="claims"),
        ]

    async def stop(self, grace_s: float | None = None) -> None:
        """Let attempts finish for a while, give the rest back, and leave."""
        if self._stopped:
            return
        self.runs.drain()
        self._resources.committer.intercept = None
        grace = self._resources.options.grace_s if grace_s is None else grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self.runs.busy() or self._executor.running:
                    await self._changed()
        await self._executor.hand_back()
        await self._release_all()
        self._stopped = True
        self._lease.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.runs.forget_all()
        self._background.cancel()
        await self._resources.close()
        await self._lease.unregister()

    async def _release_all(self) -> None:
        self.runs.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_S):
                while self.actors:
                    await self._changed()

    async def _changed(self) -> None:
        """Wait until something is over."""
        self.runs.nudge.clear()
        await self.runs.nudge.wait()
