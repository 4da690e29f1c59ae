"""Worker processes under one parent: started together, replaced when they die, stopped together.

A process that dies soon after its start is replaced later each time, so that a fault at the start does not use up the
machine. Each child holds the reading end of a pipe; when the parent is gone, however it went, the child stops by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping

from tenuto import settings as settings_
from tenuto.errors import InvalidSettings
from tenuto.settings import Settings

log = logging.getLogger("tenuto")

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
SETTLED_S = 30.0
_SPARE_S = 5.0
_ASKED = (0, -signal.SIGTERM, -signal.SIGINT)


class Workers:
    """A fixed number of worker processes on one database."""

    def __init__(self, app: str | None, settings: Settings, count: int) -> None:
        """Prepare; nothing is started yet.

        Raises:
            InvalidSettings: The store lives in one process only.
        """
        if settings.database.startswith("memory"):
            raise InvalidSettings(f"a memory store lives in one process; {count} workers need SQLite or Postgres")
        self._command = [sys.executable, "-m", "tenuto.bundled.worker_process", *([app] if app else [])]
        self._environ = _environment(settings)
        self._grace_s = settings.stop_grace_s
        self._stopping = asyncio.Event()
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._keepers = [asyncio.ensure_future(self._keep(slot)) for slot in range(count)]

    async def stop(self) -> bool:
        """Ask all to stop, wait for their grace, end those that do not; return whether each ended as asked."""
        self._stopping.set()
        for child in self._children.values():
            _signal(child, signal.SIGTERM)
        _, late = await asyncio.wait(self._keepers, timeout=self._grace_s + _SPARE_S)
        if late:
            log.warning("%d worker processes did not stop within their grace; ending them", len(late))
            for child in self._children.values():
                _signal(child, signal.SIGKILL)
        codes = await asyncio.gather(*self._keepers)
        return all(code in _ASKED for code in codes)

    async def _keep(self, slot: int) -> int:
        """Have one process at work until told to stop; return the exit code of the last one."""
        code, delay_s = 0, FIRST_DELAY_S
        while not self._stopping.is_set():
            began = time.monotonic()
            child = await asyncio.create_subprocess_exec(
                *self._command, env=self._environ, stdin=asyncio.subprocess.PIPE
            )
            self._children[slot] = child
            log.info("worker process %d of %d has id %d", slot + 1, len(self._keepers), child.pid)
            if self._stopping.is_set():
                _signal(child, signal.SIGTERM)
            code = await child.wait()
            if self._stopping.is_set():
                break
            if time.monotonic() - began > SETTLED_S:
                delay_s = FIRST_DELAY_S
            log.warning("worker process %d %s; starting another in %g s", child.pid, _told(code), delay_s)
            if await self._stopped_within(delay_s):
                return 0
            delay_s = min(LONGEST_DELAY_S, delay_s * 2)
        return code

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def _environment(settings: Settings) -> Mapping[str, str]:
    """Return what makes a child read these very settings, and import from where this process does."""
    kept = {name: value for name, value in os.environ.items() if name not in settings_.VARIABLES}
    path = os.pathsep.join(part for part in sys.path if part)
    return {**kept, **settings_.environment(settings), "PYTHONPATH": path}


def _signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if child.returncode is None:
        child.send_signal(number)


def _told(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
