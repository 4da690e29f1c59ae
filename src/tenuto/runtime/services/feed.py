"""Following runs live: this process's own records come over the bus, everybody else's by tailing the store.

One tail serves all watchers of a process, so a thousand open streams cost one query per interval. Whoever follows
reads from the store where it has a gap; the bus and the tail only say when to look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from tenuto.domain.runs.events import Body
from tenuto.domain.runs.wire import decode
from tenuto.errors import TenutoError
from tenuto.ports.store import Store
from tenuto.runtime.bus import Bus, Line, Notice, Subscription

INTERVAL_S = 0.25
SAFETY_S = 5.0
PART = 500


class Feed:
    """The shared tail of a store, running while anybody watches."""

    def __init__(self, store: Store, bus: Bus) -> None:
        """Announce on a bus what other processes commit."""
        self._store, self._bus = store, bus
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._cursors: dict[int, int] = {}

    @asynccontextmanager
    async def watch(self, run_id: str) -> AsyncGenerator[Subscription]:
        """Watch a run: whatever is committed after this is entered is announced, by whatever process."""
        with self._bus.subscribe(run_id) as watch:
            self._watchers += 1
            try:
                if self._task is None or self._task.done():
                    self._cursors = await self._store.tail_heads()
                    if self._task is None or self._task.done():
                        self._task = asyncio.get_running_loop().create_task(self._tail(), name="feed")
                yield watch
            finally:
                self._watchers -= 1

    async def _tail(self) -> None:
        while self._watchers:
            full = False
            with contextlib.suppress(TenutoError, OSError):
                groups = await self._store.tail(self._cursors, PART)
                full = len(groups) == PART
                for group in groups:
                    self._cursors[group.writer] = group.n
                    for run_id, seq in group.runs:
                        if self._bus.watches(run_id):
                            self._bus.publish(run_id, seq, None)
            await asyncio.sleep(0 if full else INTERVAL_S)

    async def follow(self, run_id: str, after: int) -> AsyncIterator[list[tuple[int, Body]] | Line]:
        """Yield `(seq, body)` of every record after a position, in parts: dense, in order, for ever; the caller stops.

        An empty part says that the store has nothing more just now. Lines that steps say in this process come in
        between, after the records that were there when they were said.
        """
        async with self.watch(run_id) as watch:
            watch.hears = True
            behind = True
            while True:
                while behind:
                    stored = await self._store.records(run_id, after, PART)
                    part = [(item.seq, decode(item)) for item in stored]
                    after = part[-1][0] if part else after
                    behind = len(part) == PART
                    if part:
                        yield part
                    if not behind:
                        yield []
                heard = await watch.wait(SAFETY_S)
                said = watch.said()
                part, behind = dense(watch.take(), after)
                behind = behind or not heard or not watch.caught_up()
                for seq, line in said:
                    before, part = [item for item in part if item[0] <= seq], [item for item in part if item[0] > seq]
                    if before:
                        after = before[-1][0]
                        yield before
                    yield line
                if part:
                    after = part[-1][0]
                    yield part


def dense(notices: list[Notice], after: int) -> tuple[list[tuple[int, Body]], bool]:
    """Return the announced records that directly follow `after`, and whether others have to be read."""
    found: list[tuple[int, Body]] = []
    for notice in notices:
        if notice.seq <= after:
            continue
        if notice.seq > after + 1 or notice.body is None:
            return found, True
        found.append((notice.seq, notice.body))
        after = notice.seq
    return found, False
