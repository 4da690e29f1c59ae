"""Follows an asynchronous source without losing an item: with pauses reported, and an end when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Quiet(Enum):
    """Nothing came for a while."""

    QUIET = "quiet"


QUIET = Quiet.QUIET


async def follow(
    source: AsyncIterator[T], stopping: asyncio.Event, *, quiet_s: float
) -> AsyncIterator[T | Quiet]:
    """Yield the source's items in order, and `QUIET` each time none came for `quiet_s`.

    Ends with the source, or as soon as `stopping` is set; the source is closed either way.
    """
    stop = asyncio.ensure_future(stopping.wait())
    pending: asyncio.Task[T] | None = None
    try:
        while not stopping.is_set():
            if pending is None:
                pending = asyncio.ensure_future(_next(source))
            await asyncio.wait({pending, stop}, timeout=quiet_s, return_when=asyncio.FIRST_COMPLETED)
            if not pending.done():
                if not stop.done():
                    yield QUIET
                continue
            done, pending = pending, None
            try:
                item = done.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        stop.cancel()
        if pending is not None:
            pending.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                await pending
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _next(source: AsyncIterator[T]) -> T:
    return await source.__anext__()
