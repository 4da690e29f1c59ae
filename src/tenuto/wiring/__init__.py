"""The composition root: from a URL and a catalog to an engine that runs. The only importer of adapters."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any, Protocol

from tenuto.adapters.clock import SystemClock
from tenuto.adapters.liveness import LockFiles
from tenuto.adapters.models.provider import ProviderModels
from tenuto.adapters.objects.places import ArtifactPlace as ArtifactPlace
from tenuto.adapters.objects.places import open_artifacts as open_artifacts
from tenuto.adapters.objects.places import open_depot as open_depot
from tenuto.adapters.objects.places import open_objects as open_objects
from tenuto.adapters.optimizers.builtin import builtin_optimizers as builtin_optimizers
from tenuto.adapters.processes import ProcessPool
from tenuto.domain.budgets.escrow import Cap
from tenuto.domain.graph.requirements import models_of
from tenuto.domain.runs.events import Body
from tenuto.domain.runs.state import RunState
from tenuto.errors import InvalidSettings
from tenuto.ports.providers import Providers
from tenuto.ports.services import Checked
from tenuto.ports.store import Store
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.election import Election
from tenuto.runtime.optimizer.looking import keep_looking
from tenuto.runtime.optimizer.options import Optimizing
from tenuto.runtime.optimizer.panel import Panel
from tenuto.runtime.outage import tell_outages
from tenuto.runtime.projector import Projector
from tenuto.runtime.retention import keep_small, keep_workspaces
from tenuto.runtime.services.caps import declare
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.telemetry.counts import Counts
from tenuto.runtime.telemetry.metrics import Metric, flat, metrics_of
from tenuto.runtime.telemetry.options import TelemetryOptions
from tenuto.runtime.telemetry.tracer import Tracer
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.builtin.tools import builtin_tools
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.tools.servers import McpServer, Toolset, merged
from tenuto.runtime.watch import CHECK_S, TIMEOUT_S, Watch
from tenuto.runtime.worker.lease import new_worker_id
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.runtime.worker.worker import Worker
from tenuto.wiring.places import DEFAULT_KNOWLEDGE as DEFAULT_KNOWLEDGE
from tenuto.wiring.places import DEFAULT_URL as DEFAULT_URL
from tenuto.wiring.places import CachePlace as CachePlace
from tenuto.wiring.places import Closes as Closes
from tenuto.wiring.places import default_artifacts as default_artifacts
from tenuto.wiring.places import key_ring as key_ring
from tenuto.wiring.places import open_cache as open_cache
from tenuto.wiring.places import open_knowledge as open_knowledge
from tenuto.wiring.places import open_sandbox as open_sandbox
from tenuto.wiring.places import open_shelf as open_shelf
from tenuto.wiring.places import open_store as open_store
from tenuto.wiring.places import owner_of as owner_of
from tenuto.wiring.places import refuse_sealed as refuse_sealed
from tenuto.wiring.places import sqlite_path as sqlite_path

log = logging.getLogger("tenuto")

GC_THRESHOLD = 50_000
SWITCH_S = 0.0005


class Outlet(Protocol):
    """Something that is closed at the end."""

    def close(self) -> None:
        """Send what is left, and stop."""
        ...


@dataclass(slots=True)
class Runtime:
    """A running engine: its store, its clients, and its worker unless others do the work.

    Attributes:
        lost: Set when the store or the worker failed for good.
        outlets: What sends spans and metrics.
        endings: What else is to be ended, before what it was doing is cancelled.
    """

    store: Store
    engine: Engine
    committer: Committer
    bus: Bus
    clock: SystemClock
    catalog: Catalog
    worker: Worker | None
    projector: Projector | None
    models: ProviderModels | None = None
    watch: Watch | None = None
    cache: Closes | None = None
    outlets: list[Outlet] = field(default_factory=list["Outlet"])
    tasks: list[asyncio.Task[Any]] = field(default_factory=list[asyncio.Task[Any]])
    endings: list[Callable[[], Coroutine[Any, Any, None]]] = field(
        default_factory=list[Callable[[], Coroutine[Any, Any, None]]]
    )

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something beside all else until the runtime is closed."""
        self.tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    async def close(self, grace_s: float | None = None) -> None:
        """Stop the worker gracefully, commit what is queued, and close the store."""
        if self.worker is not None:
            await self.worker.stop(grace_s)
        for end in self.endings:
            await end()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.watch is not None:
            await self.watch.close()
        await asyncio.gather(*(toolset.source.close() for toolset in self.catalog.toolsets))
        await asyncio.to_thread(self.engine.context.panel.close)
        if self.models is not None:
            await self.models.close()
        if self.cache is not None:
            await self.cache.close()
        await self.committer.close()
        for outlet in self.outlets:
            await asyncio.to_thread(outlet.close)
        await self.store.close()


async def start_runtime(
    url: str, catalog: Catalog, *, worker: bool = True, options: WorkerOptions | None = None, ns: str = "default",
    store: Store | None = None, models: Any = None, providers: Providers | None = None,
    http_allow: Sequence[str] = (), retention_days: float = 0, usage_days: float = 0, kit: Kit | None = None,
    caps: Sequence[Cap] | None = None, mcp: Sequence[McpServer] = (), groups: Mapping[str, Sequence[str]] | None = None,
    master_keys: Sequence[str] = (), telemetry: TelemetryOptions | None = None,
    check_s: float = CHECK_S, check_timeout_s: float = TIMEOUT_S, artifacts: ArtifactPlace | None = None,
    optimizing: Optimizing | None = None,
    cache: CachePlace | None = None,
) -> Runtime:
    """Open a store, publish the catalog's workflows, and start the committer and a worker.

    Args:
        models: Serves every model the catalog does not hold; `None` leaves them to `providers`.
        providers: `None` is those that need no more than a key in the environment.
        kit: What the built-in tools work with; `None` is the defaults, with `http_allow`.
        caps: What settings say many runs may share; caps of earlier settings that are not among them are removed,
            those on calls to providers only where some of these are given. `None` leaves all caps as they are.
        mcp: Servers of tools that the settings name, beside those of the catalog.
        artifacts: Where artifacts are kept; `None` is the directory `artifacts` beside the store.
        optimizing: How optimizers are asked; what runs them and those that come with Tenuto are found here where it has none.
        cache: Server where results of steps are kept; `None` is the store.
        check_s: Time between two looks at hosts of models and at APIs; 0 looks only when asked.
        check_timeout_s: Longest time one look may take.

    Raises:
        InvalidGraph: A workflow of the catalog breaks rules.
        InvalidSettings: The URL names no store, or it is encrypted and its keys are missing.
    """
    tune_interpreter()
    catalog = replace(catalog, servers=merged(catalog.servers, mcp))
    opts = options or WorkerOptions()
    http = HttpPolicy(allowed=frozenset(host.lower() for host in http_allow))
    own = ProviderModels(providers) if models is None else None
    if own is not None:
        catalog = replace(catalog, providers=own.names)
    store = store or open_store(url, lease_ms=opts.lease_ms, master_keys=master_keys)
    shelf = open_shelf(store, artifacts or default_artifacts(store.url), master_keys)
    kept, server = open_cache(cache, store, master_keys)
    kit = _fitted(kit or Kit(http=http, knowledge=open_knowledge(DEFAULT_KNOWLEDGE)), store, catalog, models or own, shelf)
    catalog = replace(catalog, builtin=builtin_tools(kit))
    await store.open()
    await refuse_sealed(store, master_keys)
    clock = SystemClock()
    catalog = replace(catalog, toolsets=open_toolsets(catalog.servers, clock) if worker else ())
    clock.adjust(await store.now())
    bus, committer, definitions = Bus(), Committer(store), Definitions(store)
    committer.start()
    engine = Engine(
        store, committer, definitions, catalog, bus=bus, clock=clock.now, ns=ns, knowledge=kit.knowledge, groups=groups,
        workspaces=kit.workspaces, terms=opts.terms, shelf=shelf, panel=panel_of(optimizing),
        cache=kept if server is not None else None,
    )
    await declare(store, ns, caps, providers, limited=own is not None)
    for definition in catalog.workflows:
        await engine.workflows.publish(definition)
    runtime = Runtime(store, engine, committer, bus, clock, catalog, None, None, own, cache=server)
    runtime.spawn(tell_outages(store, clock), "outages")
    if worker:
        _connect(runtime)
        runtime.worker = Worker(
            store, committer, definitions, catalog, clock, bus=bus, options=opts, models=models or own,
            pool=ProcessPool(), liveness=LockFiles(store.url), http=http, shelf=shelf, cache=kept,
        )
    measure(runtime, telemetry or TelemetryOptions())
    if runtime.worker is not None:
        await _work(runtime, runtime.worker, ns, retention_days, usage_days)
        runtime.spawn(keep_workspaces(store, kit.workspaces), "workspaces")
    await _watch(runtime, check_s, check_timeout_s)
    return runtime


def _fitted(kit: Kit, store: Store, catalog: Catalog, models: Any, shelf: Shelf) -> Kit:
    """Return what the built-in tools work with, on this store."""
    return replace(
        kit, workspaces=replace(kit.workspaces, owner=owner_of(store)), model=kit.model or partial(_model, catalog, models),
        shelf=shelf,
    )


def _connect(runtime: Runtime) -> None:
    """Begin to connect to servers of tools; what changes there is told soon."""
    for toolset in runtime.catalog.toolsets:
        toolset.source.start(lambda: runtime.watch.poke() if runtime.watch is not None else None)


async def _watch(runtime: Runtime, check_s: float, timeout_s: float) -> None:
    """Look at what is outside for as long as the runtime lives, and say at once which models nobody can ask."""
    worker, catalog, models = runtime.worker, runtime.catalog, runtime.models
    faults = model_faults(catalog, models) if models is not None else {}
    if worker is not None:
        for name, fault in faults.items():
            log.warning("workflows name the model %s, which cannot be asked: %s", name, fault)
    own = new_worker_id()

    def checks() -> list[Checked]:
        return [*catalog.apis, *(models.checks() if models is not None else ())]

    runtime.watch = runtime.engine.outside.watch = Watch(
        runtime.store, runtime.clock, lambda: worker.id if worker is not None else own,
        "worker" if worker is not None else "api", servers=catalog.servers, toolsets=catalog.toolsets, checks=checks,
        check_s=check_s, timeout_s=timeout_s,
    )
    await runtime.watch.begin()
    runtime.spawn(runtime.watch.run(), "services")


def _model(catalog: Catalog, models: Any, name: str) -> Any:
    """Return the model of a name: the app's, its provider's, or whoever serves the others."""
    return catalog.models.get(name) or catalog.models.get(name.partition(":")[0]) or models


def model_faults(catalog: Catalog, models: ProviderModels) -> dict[str, str]:
    """Return, by name, what is wrong with the models that registered workflows name and the app does not bring."""
    names = {name for definition in catalog.workflows for name in models_of(definition)}
    return models.faults(name for name in sorted(names) if not {name, name.partition(":")[0]} & catalog.models.keys())


def open_toolsets(servers: Sequence[McpServer], clock: SystemClock) -> tuple[Toolset, ...]:
    """Return the tools of declared servers; nothing is connected yet.

    Raises:
        InvalidSettings: A server is declared, and the package that talks to such servers is not installed.
    """
    if not servers:
        return ()
    try:
        from tenuto.adapters.mcp import McpSource
        from tenuto.adapters.mcp.transports import Place
    except ImportError as exc:
        raise InvalidSettings("MCP servers need the MCP SDK: pip install 'tenuto[mcp]'") from exc
    return tuple(
        Toolset(server, McpSource(
            server.name,
            Place(
                command=server.command, url=server.url, cwd=server.cwd, env_from=server.env_from,
                bearer_env=server.bearer_env, headers_from=server.headers_from, connect_s=server.connect_s,
                timeout_s=server.timeout_s,
            ),
            check_s=server.check_s, max_bytes=server.max_bytes, now=clock.now,
        ))
        for server in servers
    )


async def _work(runtime: Runtime, worker: Worker, ns: str, retention_days: float, usage_days: float) -> None:
    """Start a worker, and what one of all workers does for the others: the lists across runs, and tidying up."""
    store, definitions, clock = runtime.store, runtime.engine.context.definitions, runtime.clock
    await worker.start()
    election = Election(store, lambda: worker.id)
    await election.look()
    runtime.projector = Projector(store, definitions, leads=election.leads)
    worker.runs.heard = runtime.projector.hear
    runtime.spawn(election.run(), "election")
    runtime.spawn(runtime.projector.run(), "projector")
    keeping = keep_small(
        store, runtime.engine.context.shelf, clock, ns, days=retention_days, usage_days=usage_days, leads=election.leads
    )
    runtime.spawn(keeping, "retention")
    asked = runtime.engine.context.panel.options
    if asked.enabled and asked.auto == "propose":
        looking = keep_looking(runtime.engine.optimizers.look, asked.every_s, election.leads)
        runtime.spawn(looking, "optimizers")


def panel_of(optimizing: Optimizing | None) -> Panel:
    """Return the optimizers that can be asked, which are opened when somebody does."""
    asked = optimizing or Optimizing()
    return Panel(asked if asked.open is not None else replace(asked, open=open_sandbox, builtin=builtin_optimizers))


def measure(runtime: Runtime, options: TelemetryOptions) -> None:
    """Let committed records become spans and counts, as far as somebody wants them.

    Raises:
        InvalidSettings: A collector is named, but the package that talks to it is missing.
    """
    worker, listeners = runtime.worker, list[Callable[[RunState, Body], None]]()
    spans = None
    if options.export and worker is not None:
        spans = _otlp().OtlpSpans(options.endpoint, options.service, queue=options.queue)
        runtime.outlets.append(spans)
        tracer = Tracer(spans, options.ratio, runtime.catalog.is_remote)
        worker.runs.resources.traceparent = tracer.traceparent
        listeners.append(tracer.hear)
    if options.counts:
        counts = Counts()
        runtime.committer.observe = counts.observe
        listeners.append(counts.hear)

        def read(statuses: dict[str, int]) -> list[Metric]:
            return metrics_of(
                counts, statuses=statuses, takeovers=worker.takeovers if worker is not None else 0,
                owned=len(worker.runs.actors) if worker is not None else 0,
                dropped=spans.dropped if spans is not None else 0,
            )

        runtime.engine.metrics = partial(_exposition, runtime, read)
        if options.export and worker is not None:
            runtime.outlets.append(_otlp().OtlpMetrics(
                options.endpoint, options.service,
                lambda: [(m.name, m.kind, m.label, m.values, m.help) for m in flat(read({})) if m.name != "tenuto_runs"],
            ))  # fmt: skip
    if worker is not None and listeners:
        first, *rest = listeners
        worker.runs.measure = partial(_in_turn, first, rest[0]) if rest else first


def _in_turn(
    first: Callable[[RunState, Body], None], second: Callable[[RunState, Body], None], st: RunState, body: Body
) -> None:
    first(st, body)
    second(st, body)


async def _exposition(runtime: Runtime, read: Callable[[dict[str, int]], list[Metric]]) -> tuple[bytes, str]:
    try:
        from tenuto.adapters.telemetry import prometheus
    except ImportError as error:
        raise InvalidSettings(f"metrics need a package more ({error}); pip install 'tenuto[otel]'") from error
    found = read(await runtime.store.count_runs(runtime.engine.context.ns))
    return prometheus.exposition(found), prometheus.CONTENT_TYPE_LATEST


def _otlp() -> ModuleType:
    try:
        from tenuto.adapters.telemetry import otlp
    except ImportError as error:
        raise InvalidSettings(f"sending spans needs a package more ({error}); pip install 'tenuto[otel]'") from error
    return otlp


def tune_interpreter() -> None:
    """Let the cycle collector look less often, which costs a third of the speed, and threads hand over sooner.

    The SQLite writer is a thread: at Python's 5 ms it would wait for the event loop longer than for the disk.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
    if gc.get_threshold()[0] < GC_THRESHOLD:
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)


@asynccontextmanager
async def running(url: str, catalog: Catalog, **kwargs: Any) -> AsyncGenerator[Runtime]:
    """Start a runtime and close it at the end of the block."""
    runtime = await start_runtime(url, catalog, **kwargs)
    try:
        yield runtime
    finally:
        await runtime.close()
