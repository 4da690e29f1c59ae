"""Says in the log when the store goes away and when it is back: once each, however long it takes."""

from __future__ import annotations

import asyncio
import logging

from tenuto.ports.clock import Clock
from tenuto.ports.store import Store

log = logging.getLogger("tenuto.store")
LOOK_S = 0.25


async def tell_outages(store: Store, clock: Clock, *, every_s: float = LOOK_S) -> None:
    """Compare the store's health with a moment ago, until cancelled; nothing is sent to the store."""
    since = 0.0
    while True:
        wrong = store.health()
        if wrong and not since:
            since = clock.steady()
            log.error("the store does not answer, so all work waits: %s", wrong)
        elif since and not wrong:
            log.warning("the store answers again after %.1f s; work goes on", clock.steady() - since)
            since = 0.0
        await asyncio.sleep(every_s)
