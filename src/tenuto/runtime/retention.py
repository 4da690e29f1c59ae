"""Deleting runs that ended longer ago than they are kept."""

from __future__ import annotations

import asyncio
import logging

from tenuto.ports.clock import Clock
from tenuto.ports.store import Store

log = logging.getLogger("tenuto.retention")
EVERY_S = 3600.0
AT_ONCE = 1000
DAY_MS = 86_400_000


async def keep_for(days: float, store: Store, clock: Clock, ns: str, *, every_s: float = EVERY_S) -> None:
    """Delete what is older than some days, now and every hour, until cancelled. Several processes may do it."""
    while True:
        count = await prune(store, ns, clock.now() - int(days * DAY_MS))
        if count:
            log.info("deleted %d runs that ended more than %g days ago", count, days)
        await asyncio.sleep(every_s)


async def prune(store: Store, ns: str, before: int) -> int:
    """Delete runs that ended before a moment, in portions; return how many."""
    total = 0
    while True:
        count = await store.delete_runs(ns, before=before, limit=AT_ONCE)
        total += count
        if count < AT_ONCE:
            return total
