"""A whole server with a worker, real optimizers and a command line, on settings of a test's own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tenuto.api.server import serve
from tenuto.cli.main import main
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.catalog import Catalog
from tenuto.sdk.configured import configured
from tenuto.settings import Settings
from tenuto.settings.optimizers import Optimizers
from tenuto.settings.patches import Patches
from tenuto.wiring import Runtime, start_runtime

LONG_S = 20
FEW = 3
"""Runs that are enough to measure a gain in these tests."""


@dataclass
class Served:
    """A running server."""

    runtime: Runtime
    client: httpx.AsyncClient
    cli: Callable[..., Any]

    @property
    def engine(self) -> Engine:
        return self.runtime.engine

    async def ran(self, name: str, n: int = 1, given: Any = None) -> list[Any]:
        """Run a workflow some times, one after the other, and return the outputs once all of it is projected."""
        outputs: list[Any] = []
        for _ in range(n):
            run = (await self.client.post("/runs", json={"workflow": name, "input": given})).json()["id"]
            view = (await self.client.get(f"/runs/{run}", params={"wait": LONG_S})).json()
            assert view["status"] == "completed", view["error"]
            outputs.append(view["output"])
        assert self.runtime.projector is not None
        await self.runtime.projector.drain()
        return outputs


@asynccontextmanager
async def served(
    home: Path, capture: Callable[[], Any], *, url: str = "", approval: tuple[str, ...] = ("optimizer",), **optimizers: Any
) -> AsyncIterator[Served]:
    """Serve; patches by optimizers wait for a person unless said otherwise.

    Args:
        capture: Returns what was written since it was called last, as `out` and `err`.
    """
    settings = Settings(
        port=0, no_auth=True, data_dir=str(home), database=url or f"sqlite:///{home}/t.db", http_allow=("127.0.0.1",),
        patches=Patches(approval=approval), optimizers=Optimizers(**{"min_runs": FEW, "timeout_s": 10.0, **optimizers}),
    )
    runtime = await start_runtime(settings.database, Catalog(), **configured(settings))
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(runtime.engine, settings, stop=stop, ready=ready.set_result, out=io.StringIO()))
    address = await ready

    async def cli(*argv: str) -> tuple[int, str]:
        capture()
        code = await asyncio.to_thread(main, [*argv, "--api-url", address])
        seen = capture()
        return code, seen.out + seen.err

    async with httpx.AsyncClient(base_url=f"{address}/api/v1", timeout=LONG_S) as client:
        try:
            yield Served(runtime, client, cli)
        finally:
            stop.set()
            await asyncio.wait_for(serving, LONG_S)
            await runtime.close(0)
