"""Work beside the rest: held while it runs, told about when it fails."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger("tenuto.worker")


class Background:
    """The background tasks of one worker."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run something beside the rest until it ends or the worker stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reaped)
        return task

    def cancel(self) -> None:
        """End whatever still runs."""
        for task in list(self._tasks):
            task.cancel()

    def _reaped(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task of the worker failed", exc_info=task.exception())
