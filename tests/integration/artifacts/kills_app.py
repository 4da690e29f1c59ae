"""The app of a worker that kills itself while it puts an artifact, the first time."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from tenuto import App, Context
from tenuto.adapters.objects.s3_depot import S3Depot

PIECES = 40
app = App("kills")


def _die(point: str) -> None:
    """Die here if this is the place, once."""
    plan = Path(os.environ["TENUTO_TEST_PLAN"])
    if plan.exists() and plan.read_text() == point:
        plan.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


async def content() -> AsyncGenerator[bytes]:
    """Yield four megabytes, and maybe die half way."""
    for n in range(PIECES):
        if n == PIECES // 2:
            _die("spooling")
        yield bytes([n]) * 100_000


@app.step
async def make(ctx: Context, value: Any) -> Any:
    """Put the content; the journal names it when this returns."""
    made = await ctx.artifacts.put(content(), name="x.bin")
    _die("put")
    return made


app.workflow("w").step(make, id="make")

_keep = S3Depot.keep


async def _dying(self: S3Depot, ns: str, place: str, file: Path) -> None:
    await _keep(self, ns, place, file)
    _die("kept")


if "TENUTO_TEST_PLAN" in os.environ:
    S3Depot.keep = _dying  # type: ignore[method-assign]
