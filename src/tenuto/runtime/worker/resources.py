"""What a worker works with: its ports, what its process can serve, and what its runs share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from tenuto.domain.graph.plan import PlanNode
from tenuto.domain.overlays.terms import Surroundings
from tenuto.domain.runs.events import Reused
from tenuto.domain.runs.state import RunState, Step
from tenuto.errors import TenutoError
from tenuto.ports.cache import CacheEntries
from tenuto.ports.clock import Clock
from tenuto.ports.model import Model
from tenuto.ports.pool import Pool
from tenuto.ports.store import Store
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.runtime.worker.values import RunEnv, Values


class Resources:
    """The things the parts of one worker share. They do not change while it lives.

    Attributes:
        models: Serves the models that no provider is registered for.
        shelf: Artifacts that steps put and read.
        pool: Processes for isolated steps; without one those run in this process.
        cache: Where results of steps are kept; the store, unless told otherwise.
        children: Bounds the isolated attempts of our own runs that use the pool.
        threads: For steps written as plain functions.
        values: Stored values at hand, for all runs.
        traceparent: Makes the header that a call carries (state, step, try, call); `None` while nothing is traced.
    """

    def __init__(
        self, store: Store, committer: Committer, definitions: Definitions, catalog: Catalog, clock: Clock, *,
        bus: Bus, options: WorkerOptions, models: Model | None, http: HttpPolicy, pool: Pool | None, shelf: Shelf,
        cache: CacheEntries | None = None,
    ) -> None:
        """Hold what a worker is given, and make what its parts share."""
        self.store = store
        self.committer = committer
        self.definitions = definitions
        self.catalog = catalog
        self.clock = clock
        self.bus = bus
        self.options = options
        self.models = models
        self.http = http
        self.shelf = shelf
        self.pool: Pool | None = pool
        self.cache: CacheEntries = cache or store
        self.children = asyncio.Semaphore(max(1, pool.free)) if pool is not None else None
        self.values = Values()
        self.traceparent: Callable[[RunState, str, int, str], str] | None = None
        self.threads = ThreadPoolExecutor(options.threads, thread_name_prefix="tenuto-step")

    async def close(self) -> None:
        """End the processes and threads that this worker alone used."""
        if self.pool is not None:
            await self.pool.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    def env(self, reuse: Mapping[str, Reused] | None = None) -> RunEnv:
        """Return what the decisions of a run may read; `reuse` are the outcomes a replay takes over."""
        return RunEnv(self.values, self.catalog.predicates, self.is_remote, self.surroundings, reuse, most=self.options.most)

    def surroundings(self) -> Surroundings:
        """Return what a patch of a run's graph is looked at with."""
        return Surroundings(self.options.terms, self.catalog.known(), self.catalog.complete)

    def is_remote(self, node: PlanNode, step: Step) -> bool:
        """Return whether an attempt goes to a process of its own, on whichever worker has room for it."""
        return node.memo is None and self.isolates(node, step)

    def isolates(self, node: PlanNode, step: Step) -> bool:
        """Return whether an attempt runs in a process of its own."""
        if node.node.isolation != "process" and not step.isolate:
            return False
        if node.node.kind != "function" or self.pool is None:
            return False
        handler = self.catalog.handler(node.node.config.get("handler", ""))
        return handler is not None and bool(handler.target) and not handler.wants_ctx

    def model(self, name: str) -> Model:
        """Return the model of a name: the registered one, its provider's, or the offline one where neither is set."""
        found = self.catalog.models.get(name) or self.catalog.models.get(name.partition(":")[0])
        return cast("Model", found if found is not None else self.models)

    async def ask_hook(self, hook: str, key: str) -> tuple[str, Any]:
        """Ask a registered status hook what became of a call or step; returns `(resolution, value)`."""
        found = self.catalog.hooks.get(hook)
        if found is None:
            raise TenutoError(f"no status hook {hook!r} is registered", code="hook.unknown")
        answer: Any = found(key)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, tuple):
            pair = cast("tuple[Any, Any]", answer)
            return str(pair[0]), pair[1]
        return str(answer), None
