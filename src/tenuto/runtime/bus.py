"""Tells this process of records that became durable: a hint that saves reading, never the truth itself.

A publisher is never held up. A watcher that falls behind loses hints, not events: it is told so and reads the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, NamedTuple

from tenuto.domain.runs.events import Body, Event, RunCancelled, RunCompleted, RunExceeded, RunFailed

QUEUE = 256
LINES = 1000
END_WITHIN_S = 5.0
ENDS = frozenset({RunCompleted, RunFailed, RunCancelled, RunExceeded})


class Notice(NamedTuple):
    """A run has a record at `seq`; `body` is it, or `None` when it has to be read from the store."""

    run_id: str
    seq: int
    body: Body | None


LOG, DELTA, WITHDRAWN = "step.log", "call.delta", "call.withdrawn"


class Line(NamedTuple):
    """What a step said while it ran: shown to whoever watches just then, and kept nowhere.

    Attributes:
        type: A line of its code's log, a piece of a model's answer, or that the pieces of a call do not count.
        call: The call, for the latter two.
    """

    run_id: str
    step: str
    attempt: int
    at: int
    level: str
    message: str
    fields: dict[str, Any]
    type: str = LOG
    call: str = ""


class Subscription:
    """What one watcher has yet to look at; leave it as a context manager."""

    def __init__(self, bus: Bus, run_id: str, size: int = QUEUE) -> None:
        """Watch a run, or all of them when `run_id` is empty, from now on."""
        self._bus, self._run_id, self._size = bus, run_id, size
        self._queue: deque[Notice] = deque()
        self._lines: deque[tuple[int, Line]] = deque(maxlen=LINES)
        self._seq = 0
        self.hears = False
        self._event = asyncio.Event()
        self.lost = False

    def tell(self, line: Line) -> None:
        """Keep a line, at the place among the records where it was said; of too many, the last ones.

        Pieces of one answer that nobody has looked at yet become one piece.
        """
        if self._lines and line.type == DELTA:
            seq, last = self._lines[-1]
            if seq == self._seq and last.type == DELTA and last[:3] == line[:3] and last.call == line.call:
                self._lines[-1] = (seq, last._replace(message=last.message + line.message))
                self._event.set()
                return
        self._lines.append((self._seq, line))
        self._event.set()

    def said(self) -> list[tuple[int, Line]]:
        """Return the lines that were kept, each with the newest record before it, and forget them."""
        found = list(self._lines)
        self._lines.clear()
        return found

    def offer(self, notice: Notice) -> None:
        """Keep a notice, or note that some were lost."""
        self._seq = max(self._seq, notice.seq)
        if len(self._queue) < self._size:
            self._queue.append(notice)
        else:
            self._queue.clear()
            self.lost = True
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to look at; return whether there is."""
        if self._queue or self.lost or self._lines:
            return True
        self._event.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Notice]:
        """Return what was kept, and forget it."""
        found = list(self._queue)
        self._queue.clear()
        self._event.clear()
        return found

    def caught_up(self) -> bool:
        """Return whether notices were lost since the last call; the watcher has to read the store then."""
        lost, self.lost = self.lost, False
        return not lost

    def __enter__(self) -> Subscription:
        """Begin to watch."""
        self._bus.join(self._run_id, self)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        """Stop watching."""
        self._bus.leave(self._run_id, self)


class Bus:
    """Who watches which run in this process."""

    def __init__(self) -> None:
        """Start without watchers."""
        self._by_run: dict[str, list[Subscription]] = {}
        self._ends: dict[str, asyncio.Future[Event | None]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def subscribe(self, run_id: str = "") -> Subscription:
        """Return a watch on a run, or on all runs; it begins when it is entered."""
        return Subscription(self, run_id)

    def publish(self, run_id: str, seq: int, body: Body | None) -> None:
        """Tell the watchers of a run of a durable record; returns at once, costs one look-up without watchers."""
        if run_id in self._ends and body is not None:
            self._end(run_id, body)
        if not self._by_run:
            return
        for name in (run_id, ""):
            watchers = self._by_run.get(name)
            if watchers:
                notice = Notice(run_id, seq, body)
                for watcher in watchers:
                    watcher.offer(notice)

    def end_of(self, run_id: str) -> asyncio.Future[Event | None]:
        """Return what resolves with the event that ends a run in this process, or `None` after a while without it.

        Call `forget_end` when done. One timer serves all who wait, so nobody pays for a timer of their own.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Event | None] = loop.create_future()
        self._ends[run_id] = future
        if self._sweep is None:
            self._sweep = loop.call_later(END_WITHIN_S, self._give_up, tuple(self._ends))
        return future

    def forget_end(self, run_id: str) -> None:
        """Wait no longer for a run's end."""
        self._ends.pop(run_id, None)

    def _give_up(self, old: tuple[str, ...]) -> None:
        """Let go of those who have waited since the last sweep: their runs may end in another process."""
        for run_id in old:
            future = self._ends.get(run_id)
            if future is not None and not future.done():
                future.set_result(None)
        waiting = tuple(self._ends)
        self._sweep = None
        if waiting:
            self._sweep = asyncio.get_running_loop().call_later(END_WITHIN_S, self._give_up, waiting)

    def _end(self, run_id: str, body: Body) -> None:
        for event in reversed(body.ev):
            if type(event) in ENDS:
                future = self._ends[run_id]
                if not future.done():
                    future.set_result(event)
                return

    def say(self, line: Line) -> None:
        """Tell those who listen to a run what its code says."""
        for watcher in self._by_run.get(line.run_id, ()):
            if watcher.hears:
                watcher.tell(line)

    def watches(self, run_id: str) -> bool:
        """Return whether anybody watches a run."""
        return run_id in self._by_run

    def is_watched(self) -> bool:
        """Return whether anybody watches anything."""
        return bool(self._by_run)

    def join(self, run_id: str, watcher: Subscription) -> None:
        """Add a watcher; `Subscription` does it."""
        self._by_run.setdefault(run_id, []).append(watcher)

    def leave(self, run_id: str, watcher: Subscription) -> None:
        """Remove a watcher; `Subscription` does it."""
        watchers = self._by_run.get(run_id, [])
        if watcher in watchers:
            watchers.remove(watcher)
        if not watchers:
            self._by_run.pop(run_id, None)
