"""Following a source: every item in order, pauses told, an end at once, nothing left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tenuto.api.following import QUIET, follow


async def test_items_come_in_order_and_pauses_are_told() -> None:
    """A pause does not lose the item that was being waited for."""
    go, closed = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await go.wait()
            yield 2
        finally:
            closed.set()

    seen: list[object] = []
    async for item in follow(source(), asyncio.Event(), quiet_s=0.001):
        if item is QUIET:
            go.set()
        seen.append(item)
    assert [item for item in seen if item is not QUIET] == [1, 2]
    assert QUIET in seen
    assert closed.is_set()


async def test_stopping_ends_and_closes_the_source() -> None:
    """The source is not waited for."""
    stopping, closed = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    seen: list[object] = []
    async for item in follow(source(), stopping, quiet_s=60):
        seen.append(item)
        asyncio.get_running_loop().call_soon(stopping.set)
    assert seen == [1]
    assert closed.is_set()


async def test_a_failing_source_fails_the_follower() -> None:
    """Its error comes through."""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise LookupError("gone")

    with pytest.raises(LookupError):
        async for _ in follow(source(), asyncio.Event(), quiet_s=60):
            pass
