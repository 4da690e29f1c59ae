"""Long-running processes: the server with its workers, and workers alone."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tenuto.api.links import links_of
from tenuto.api.server import serve
from tenuto.bundled.workers import Workers
from tenuto.runtime.tools.catalog import Catalog
from tenuto.sdk.configured import configured
from tenuto.settings import Settings
from tenuto.wiring import start_runtime

log = logging.getLogger("tenuto")


async def serve_app(settings: Settings, catalog: Catalog, *, app: str | None = None) -> int:
    """Serve until told to stop, with one worker inside, or several in processes of their own.

    Args:
        app: What the catalog was loaded from, for the processes; `None` is the bundled examples.
    """
    alone = settings.workers == 1
    runtime = await start_runtime(settings.database, catalog, worker=alone, **configured(settings))
    try:
        if settings.notify:
            from tenuto.sdk.notify import tell_people  # its templates take their time to load

            tell_people(runtime, settings, links_of(settings))
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
    runtime = await start_runtime(settings.database, catalog, **configured(settings))
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
