"""Running an app in this process: an engine for as long as a block lasts, or one run from start to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tenuto.ports.providers import Providers
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.catalog import Catalog
from tenuto.wiring import DEFAULT_URL, WorkerOptions, start_runtime

T = TypeVar("T")


@asynccontextmanager
async def engine_of(
    catalog: Catalog, url: str | None = None, *, worker: bool = True, options: WorkerOptions | None = None, ns: str = "default",
    kit: Kit | None = None, providers: Providers | None = None,
) -> AsyncGenerator[Engine]:
    """Yield an engine on a store, with a worker in this process unless others do the work.

    Args:
        url: `sqlite:///path.db`, `postgresql://…` or `memory:`; `None` is the default SQLite file.
    """
    runtime = await start_runtime(
        url or DEFAULT_URL, catalog, worker=worker, options=options, ns=ns, kit=kit, providers=providers
    )
    try:
        yield runtime.engine
    finally:
        await runtime.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
