"""Looking for improvements by itself, in one process at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("tenuto.optimizers")


async def keep_looking(look: Callable[[], Awaitable[int]], every_s: float, leads: Callable[[], bool]) -> None:
    """Look now and every so often, until cancelled. Two processes that look at once propose nothing twice."""
    while True:
        if leads():
            try:
                if made := await look():
                    log.info("optimizers made %d proposals", made)
            except Exception:  # whatever one look met, the next may not; nobody would begin again
                log.exception("optimizers are not asked just now")
        # Nobody can say when enough runs have ended: to count them as they end would cost every run.
        await asyncio.sleep(every_s)
