"""Long-running processes: the server with its workers, and workers alone."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from tenuto.api.server import serve
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.worker.worker import WorkerOptions
from tenuto.settings import Settings
from tenuto.wiring import start_runtime

log = logging.getLogger("tenuto")


def worker_options(settings: Settings) -> WorkerOptions:
    """Return how workers work under these settings."""
    return WorkerOptions(
        lease_ms=int(settings.lease_s * 1000), concurrency=settings.concurrency, max_runs=settings.max_runs,
        grace_s=settings.stop_grace_s,
    )


async def serve_app(settings: Settings, catalog: Catalog) -> int:
    """Serve until told to stop; a store that is down is waited for."""
    runtime = await start_runtime(
        settings.database, catalog, worker=settings.workers > 0, options=worker_options(settings),
        http_allow=settings.http_allow, retention_days=settings.retention_days,
    )
    try:
        await serve(runtime.engine, settings)
    finally:
        await runtime.close()
    return 0


async def work_app(settings: Settings, catalog: Catalog) -> int:
    """Work until told to stop: unfinished attempts get their grace, then they go back to the others."""
    runtime = await start_runtime(
        settings.database, catalog, options=worker_options(settings), http_allow=settings.http_allow,
        retention_days=settings.retention_days,
    )
    assert runtime.worker is not None
    log.info("worker %s is ready", runtime.worker.id)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        await runtime.close()
    return 0
