"""Long-running processes: the server with its workers, and workers alone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields

from tenuto.api.server import serve
from tenuto.bundled.toolbox import kit_of
from tenuto.bundled.workers import Workers
from tenuto.domain.budgets.escrow import EVERYWHERE, NOW, Cap
from tenuto.ports.providers import Providers
from tenuto.runtime.telemetry.options import TelemetryOptions
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.servers import McpServer
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.settings import Settings
from tenuto.settings.models import providers_of, routing_of
from tenuto.settings.money import declared
from tenuto.wiring import start_runtime

log = logging.getLogger("tenuto")


def worker_options(settings: Settings) -> WorkerOptions:
    """Return how workers work under these settings."""
    return WorkerOptions(
        lease_ms=int(settings.lease_s * 1000), concurrency=settings.concurrency, max_runs=settings.max_runs,
        grace_s=settings.stop_grace_s, routing=routing_of(settings.tiers, settings.routes),
    )


def caps_of(settings: Settings) -> list[Cap]:
    """Return the caps that many runs share under these settings: money, and calls under way to each provider."""
    money = [
        Cap(ns="default", scope=scope, period=period, limit=limit, warn_percent=percent)
        for scope, period, limit, percent in declared(settings.caps, settings.project_caps)
    ]
    found = providers_of(settings.providers, settings.prices, settings.fallback_price).providers
    return money + [
        Cap(ns=EVERYWHERE, scope=f"provider:{name}", period=NOW, limit=provider.concurrency)
        for name, provider in found.items()
    ]
def providers(settings: Settings) -> Providers:
    """Return the providers of models under these settings."""
    return providers_of(settings.providers, settings.prices, settings.fallback_price)


def mcp_servers(settings: Settings) -> tuple[McpServer, ...]:
    """Return the servers of tools that the settings name.

    Raises:
        ServerInvalid: One of them contradicts itself.
    """
    return tuple(
        McpServer(name=name, **{item.name: getattr(mcp, item.name) for item in fields(mcp)})
        for name, mcp in settings.mcp.items()
    )


def telemetry_options(settings: Settings) -> TelemetryOptions:
    """Return what is measured under these settings, and whether it is sent anywhere."""
    asked = settings.telemetry
    variables = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    named = asked.otlp_endpoint or any(os.environ.get(name) for name in variables)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return TelemetryOptions(
        export=bool(named) and not disabled, endpoint=asked.otlp_endpoint, ratio=asked.sample_ratio, queue=asked.queue,
        service=os.environ.get("OTEL_SERVICE_NAME") or asked.service, counts=asked.metrics,
    )


async def serve_app(settings: Settings, catalog: Catalog, *, app: str | None = None) -> int:
    """Serve until told to stop, with one worker inside, or several in processes of their own.

    Args:
        app: What the catalog was loaded from, for the processes; `None` is the bundled examples.
    """
    alone = settings.workers == 1
    runtime = await start_runtime(
        settings.database, catalog, worker=alone, options=worker_options(settings),
        http_allow=settings.http_allow, retention_days=settings.retention_days, kit=kit_of(settings),
        caps=caps_of(settings), usage_days=settings.usage_days, mcp=mcp_servers(settings), providers=providers(settings),
        master_keys=settings.encryption.references(),
        telemetry=telemetry_options(settings),
    )
    try:
        workers = Workers(app, settings, settings.workers) if settings.workers > 1 else None
        try:
            await serve(runtime.engine, settings)
        finally:
            if workers is not None:
                await workers.stop()
    finally:
        await runtime.close()
    return 0


async def work_app(settings: Settings, catalog: Catalog, *, told: Callable[[], Awaitable[None]] | None = None) -> int:
    """Work until told to stop: unfinished attempts get their grace, then they go back to the others.

    Args:
        told: Returns when it is time to stop; beside SIGINT and SIGTERM, which are always heeded.
    """
    runtime = await start_runtime(
        settings.database, catalog, options=worker_options(settings), http_allow=settings.http_allow,
        retention_days=settings.retention_days, kit=kit_of(settings),
        caps=caps_of(settings), usage_days=settings.usage_days, mcp=mcp_servers(settings), providers=providers(settings),
        master_keys=settings.encryption.references(),
        telemetry=telemetry_options(settings),
    )
    assert runtime.worker is not None
    log.info("worker %s is ready", runtime.worker.id)
    try:
        await until_told(told)
    finally:
        await runtime.close()
    return 0


async def supervise(settings: Settings, app: str | None, processes: int) -> int:
    """Keep worker processes alive until told to stop; 1 when one of them did not stop well."""
    workers = Workers(app, settings, processes)
    try:
        await until_told()
    finally:
        well = await workers.stop()
    return int(not well)


async def until_told(told: Callable[[], Awaitable[None]] | None = None) -> None:
    """Wait for SIGINT or SIGTERM, or for `told` to return."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    waiting = [asyncio.ensure_future(stop.wait()), *([asyncio.ensure_future(told())] if told else [])]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
