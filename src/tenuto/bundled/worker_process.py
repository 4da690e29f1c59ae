"""One of several workers under a parent: settings come by environment, and the end of standard input is the parent's."""

from __future__ import annotations

import asyncio
import os
import sys

from tenuto import settings as settings_
from tenuto.bundled.load import load_catalog
from tenuto.bundled.serving import work_app
from tenuto.errors import TenutoError
from tenuto.logs import configure
from tenuto.sdk.running import run


def main(app: str | None) -> int:
    """Work until told to stop, or until the parent is gone."""
    try:
        loaded = settings_.load()
        configure(loaded)
        return run(work_app(loaded, load_catalog(app), told=parent_gone))
    except TenutoError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


async def parent_gone() -> None:
    """Return when the pipe from the parent ends."""
    loop, gone, pipe = asyncio.get_running_loop(), asyncio.Event(), sys.stdin.fileno()

    def look() -> None:
        if not os.read(pipe, 1024):
            loop.remove_reader(pipe)
            gone.set()

    loop.add_reader(pipe, look)
    await gone.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
