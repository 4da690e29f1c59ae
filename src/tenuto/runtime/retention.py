"""Keeping a store small: old runs, keys and groups, and content nothing names any more, a part at a time.

Everything here may be done by several processes at once, and broken off anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from uuid import UUID

from tenuto.errors import TenutoError
from tenuto.ports.clock import Clock
from tenuto.ports.store import Store
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.runtime.usage import keep

log = logging.getLogger("tenuto.retention")
EVERY_S = 3600.0
WORKSPACES_EVERY_S = 60.0
SECONDS_A_WORKSPACE = 0.05
AT_ONCE = 1000
CANDIDATES = 100_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
KEY_MS = DAY_MS
"""An idempotency key is kept at least so long."""

_digests = re.compile(rb"sha256:[0-9a-f]{64}").findall


async def keep_small(
    store: Store, shelf: Shelf, clock: Clock, ns: str, *, days: float = 0, usage_days: float = 0,
    leads: Callable[[], bool] | None = None, every_s: float = EVERY_S,
) -> None:  # fmt: skip
    """Delete what nobody needs, now and every hour, until cancelled; look for unused blobs once a day.

    Args:
        days: How long ended runs and their keys are kept; 0 keeps them for ever.
        usage_days: How long is kept what calls cost, whatever becomes of their runs; 0 keeps it for ever.
        leads: Whether this process should do the work now; `None` = always.
    """
    sweep_at = clock.now() + HOUR_MS
    while True:
        if leads is None or leads():
            try:
                now = clock.now()
                if days:
                    count = await prune(store, ns, now - int(days * DAY_MS))
                    await forget_keys(store, now - int(days * DAY_MS), now)
                    if count:
                        log.info("deleted %d runs that ended more than %g days ago", count, days)
                if usage_days:
                    await forget_usage(store, now - int(usage_days * DAY_MS))
                await forget_groups(store)
                if now >= sweep_at:
                    sweep_at = now + DAY_MS
                    await sweep(store, now - DAY_MS)
                    await shelf.clear(now - DAY_MS)
            except (TenutoError, OSError):
                log.exception("the store is not tidied up just now")
        await asyncio.sleep(every_s)


async def keep_workspaces(store: Store, workspaces: Workspaces) -> None:
    """Remove the workspaces on this machine whose runs are gone, now and every minute, until cancelled.

    Every worker does so for the directory it has, since nobody else may reach it.
    """
    while True:
        held = 0
        try:
            held = await sweep_workspaces(store, workspaces)
        except (TenutoError, OSError):
            log.exception("workspaces are not tidied up just now")
        await asyncio.sleep(max(WORKSPACES_EVERY_S, held * SECONDS_A_WORKSPACE))


async def sweep_workspaces(store: Store, workspaces: Workspaces) -> int:
    """Remove the workspaces below a directory whose runs are gone from the store; return how many there were before.

    A workspace is made by a step of a run, so its run was in the store before it.
    """
    await asyncio.to_thread(workspaces.clear)
    held = await asyncio.to_thread(workspaces.held)
    gone = [place for run_id, place in held if is_run_id(run_id) and await store.get_run(run_id) is None]
    for place in gone:
        await asyncio.to_thread(workspaces.drop, place)
    if gone:
        log.info("removed %d workspaces of runs that are gone", len(gone))
    return len(held)


def is_run_id(text: str) -> bool:
    """Return whether a text is the id of a run in the form in which stores write it."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


async def prune(store: Store, ns: str, before: int) -> int:
    """Delete runs that ended before a moment, in portions, once what they cost is kept; return how many."""
    await keep(store)
    total = 0
    while True:
        count = await store.delete_runs(ns, before=before, limit=AT_ONCE)
        total += count
        if count < AT_ONCE:
            return total


async def tidy(store: Store, shelf: Shelf, before: int, now: int) -> None:
    """Forget all that is left behind by what was deleted: keys as old, groups everybody has seen, unused content."""
    await forget_keys(store, before, now)
    await forget_groups(store)
    await sweep(store, now - DAY_MS)
    await shelf.clear(now - DAY_MS)


async def forget_keys(store: Store, before: int, now: int) -> int:
    """Forget idempotency keys used before a moment, never one of the last day; return how many."""
    total = 0
    while count := await store.prune_keys(min(before, now - KEY_MS), AT_ONCE):
        total += count
    return total


async def forget_usage(store: Store, before: int) -> int:
    """Forget what calls before a moment cost; return how many calls."""
    total = 0
    while count := await store.prune_usage(before, AT_ONCE):
        total += count
    return total


async def forget_groups(store: Store) -> int:
    """Forget groups that all projections are past and nobody who follows can want any more; return how many."""
    total = 0
    while count := await store.prune_tail(HOUR_MS, AT_ONCE):
        total += count
    return total


async def sweep(store: Store, before: int) -> int:
    """Delete blobs and artifacts that no text in the store has named in two looks, the first before a moment; return how many.

    A commit under way cannot lose a blob: storing one takes back that it was unused, and a value named without
    being stored anew stands in a text the next look meets.
    """
    total, after = 0, ""
    while digests := await store.list_blobs(after, CANDIDATES):
        after = digests[-1]
        unused = set(digests)
        place = ""
        while True:
            texts, place = await store.references(place)
            for text in texts:
                unused.difference_update(name.decode() for name in _digests(text))
            if not place:
                break
        for start in range(0, len(digests), AT_ONCE):
            part = digests[start : start + AT_ONCE]
            used = [digest for digest in part if digest not in unused]
            total += await store.sweep_blobs(used, [digest for digest in part if digest in unused], before)
    if total:
        log.info("deleted %d values and artifacts that nothing names", total)
    return total
