"""Running an app in this process: an engine for as long as a block lasts, or one run from start to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tenuto.ports.providers import Providers
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.catalog import Catalog
from tenuto.sdk.configured import configured, money
from tenuto.settings import Settings
from tenuto.settings.money import Caps
from tenuto.wiring import DEFAULT_URL, WorkerOptions, start_runtime

T = TypeVar("T")


@asynccontextmanager
async def engine_of(
    catalog: Catalog, url: str | None = None, *, worker: bool = True, options: WorkerOptions | None = None, ns: str = "default",
    kit: Kit | None = None, providers: Providers | None = None, caps: Caps | None = None,
    project_caps: Mapping[str, Caps] | None = None, settings: Settings | None = None,
) -> AsyncGenerator[Engine]:
    """Yield an engine on a store, with a worker in this process unless others do the work.

    Args:
        url: `sqlite:///path.db`, `postgresql://…` or `memory:`; `None` is that of the settings.
        caps, project_caps: Where one of them is given, both together are all that settings say of money.
        settings: Stand in for what is not given.
    """
    given: dict[str, Any] = {"options": options, "kit": kit, "providers": providers}
    if caps is not None or project_caps is not None:
        given["caps"] = money(ns, caps or Caps(), project_caps or {})
    rest = configured(settings, ns) if settings is not None else {}
    if settings is not None and providers is not None:
        rest["caps"] = money(ns, settings.caps, settings.project_caps)  # the limits are those of the given providers
    values = {**rest, **{name: value for name, value in given.items() if value is not None}}
    place = url or (settings.database if settings is not None else DEFAULT_URL)
    runtime = await start_runtime(place, catalog, worker=worker, ns=ns, **values)
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
