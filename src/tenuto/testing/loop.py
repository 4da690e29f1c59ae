"""An event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

One thread, no sockets, no waiting: a year passes in the time its callbacks take. Callbacks belong to the *node* (a
simulated process) in whose context they were scheduled, so a whole process can be frozen, thawed or cut off.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar, cast

T = TypeVar("T")

NODE: ContextVar[str] = ContextVar("tenuto_simulated_node", default="")
"""The simulated process the current code belongs to; empty for the world around it."""

_EPSILON = 1e-9
CANCELS = 3
CLEAN_UP = 20_000


class Stalled(RuntimeError):
    """Everything waits and nothing is scheduled: in real life this would hang for ever."""


class Scheduled:
    """A callback with its context and time; stands in for `asyncio.TimerHandle`."""

    __slots__ = ("at", "cancelled_", "context", "fn", "node", "args", "order")

    def __init__(self, at: float, order: int, fn: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        """Keep what to call; `order` makes equal times first come, first served."""
        self.at, self.order = at, order
        self.fn, self.args, self.context = fn, args, context
        self.node = context.get(NODE, "")
        self.cancelled_ = False

    def __lt__(self, other: Scheduled) -> bool:
        """Sort by time, then by arrival."""
        return (self.at, self.order) < (other.at, other.order)

    def cancel(self) -> None:
        """Never call it."""
        self.cancelled_ = True

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self.cancelled_

    def when(self) -> float:
        """Return the virtual time it is due."""
        return self.at


class VirtualLoop(asyncio.AbstractEventLoop):
    """A deterministic loop: the same callbacks in the same order for the same seed.

    Attributes:
        steps: Callbacks run so far.
        tasks: Every task ever made.
        errors: What unhandled exceptions were reported, as asyncio describes them.
    """

    def __init__(self, *, shuffle: Random | None = None, limit: int = 0) -> None:
        """Begin at time 0.

        Args:
            shuffle: Nodes that are ready at one moment take turns in a random order.
            limit: Most callbacks before the work counts as going round in circles; 0 = any number.
        """
        self._limit = limit
        self._now = 0.0
        self._order = 0
        self._ready: deque[Scheduled] = deque()
        self._timers: list[Scheduled] = []
        self._frozen: dict[str, list[Scheduled]] = {}
        self._dead: dict[str, list[Scheduled]] = {}
        self._shuffle = shuffle
        self._stopping = self._running = self._closed = False
        self.steps = 0
        self.errors: list[dict[str, Any]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    # --- processes --------------------------------------------------------------------------------------------

    def freeze(self, node: str) -> None:
        """Stop a node as SIGSTOP does: none of its callbacks run until it is thawed."""
        if node and node not in self._dead:
            self._frozen.setdefault(node, [])

    def thaw(self, node: str) -> None:
        """Let a frozen node go on with everything that came in meanwhile, in order."""
        self._ready.extend(self._frozen.pop(node, ()))

    def kill(self, node: str) -> None:
        """Cut a node off for good: none of its callbacks ever run, not even clean-up."""
        self._dead[node] = self._frozen.pop(node, [])

    def is_frozen(self, node: str) -> bool:
        """Return whether a node is frozen."""
        return node in self._frozen

    def is_dead(self, node: str) -> bool:
        """Return whether a node was killed."""
        return node in self._dead

    def limit_to(self, steps: int) -> None:
        """Let no more than so many callbacks run from now on."""
        self._limit = self.steps + steps

    def bury(self) -> None:
        """Forget who was killed or frozen, so that what is left of them can be cleaned up."""
        for held in (*self._frozen.values(), *self._dead.values()):
            self._ready.extend(held)
        self._frozen.clear()
        self._dead.clear()

    # --- time and callbacks -----------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds since the loop began."""
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """See `asyncio.AbstractEventLoop`."""
        self._order += 1
        handle = Scheduled(self._now, self._order, callback, args, context or copy_context())
        self._ready.append(handle)
        return cast("asyncio.Handle", handle)

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """See `asyncio.AbstractEventLoop`; there is only one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        """See `asyncio.AbstractEventLoop`."""
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        """See `asyncio.AbstractEventLoop`."""
        self._order += 1
        handle = Scheduled(when, self._order, callback, args, context or copy_context())
        heappush(self._timers, handle)
        return cast("asyncio.TimerHandle", handle)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call the function here and now; its result is ready at once."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:
            future.set_exception(exc)
        return future

    def create_future(self) -> asyncio.Future[Any]:
        """See `asyncio.AbstractEventLoop`."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], *, name: str | None = None,
        context: Context | None = None, **_: Any,
    ) -> asyncio.Task[T]:
        """See `asyncio.AbstractEventLoop`."""
        task = asyncio.Task(cast("Coroutine[Any, Any, T]", coro), loop=self, name=name, context=context)
        # Tasks of the dead wait for ever; held here, they are not torn down in the middle of somebody else's turn.
        self.tasks.append(task)
        return task

    # --- running ----------------------------------------------------------------------------------------------

    def run_until_complete(self, future: Any) -> Any:
        """Run until a future or coroutine is done and return its result.

        Raises:
            Stalled: Nothing is ready or scheduled, and it is not done.
        """
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._stop_on)
        self.run_forever()
        if not task.done():
            raise Stalled("nothing is ready, nothing is scheduled, and the work is not done")
        return task.result()

    def _stop_on(self, _: Any) -> None:
        self._stopping = True

    def run_forever(self) -> None:
        """Run callbacks until stopped, or until there is nothing left that could ever run."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        self._running, self._stopping = True, False
        try:
            while not self._stopping and self._turn():
                if self._limit and self.steps > self._limit:
                    self._limit = 0
                    raise Stalled(f"{self.steps:,} callbacks by second {self._now:.1f}: something goes round in circles")
        finally:
            self._running = False
            events._set_running_loop(before)

    def _turn(self) -> bool:
        """Run everything that is ready at this moment; return whether there may be more."""
        timers, ready = self._timers, self._ready
        while timers and timers[0].cancelled_:
            heappop(timers)
        if not ready:
            if not timers:
                return False
            self._now = max(self._now, timers[0].at)
        edge = self._now + _EPSILON
        while timers and timers[0].at <= edge:
            ready.append(heappop(timers))
        if self._shuffle is not None:
            self._mix(self._shuffle)
        for _ in range(len(ready)):
            self._run(ready.popleft())
            if self._stopping:
                break
        return True

    def _run(self, handle: Scheduled) -> None:
        if handle.cancelled_:
            return
        node = handle.node
        if node:
            held = self._frozen.get(node)
            if held is not None:
                held.append(handle)
                return
            dead = self._dead.get(node)
            if dead is not None:
                dead.append(handle)
                return
        self.steps += 1
        try:
            handle.context.run(handle.fn, *handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.call_exception_handler({"message": f"a callback failed: {handle.fn!r}", "exception": exc})

    def _mix(self, random: Random) -> None:
        """Let the nodes that are ready take turns in a random order; within a node, order is kept."""
        if len(self._ready) < 2:
            return
        queues: dict[str, deque[Scheduled]] = {}
        for handle in self._ready:
            queues.setdefault(handle.node, deque()).append(handle)
        if len(queues) < 2:
            return
        self._ready.clear()
        names = list(queues)
        random.shuffle(names)
        for name in names:
            self._ready.extend(queues[name])

    def stop(self) -> None:
        """See `asyncio.AbstractEventLoop`."""
        self._stopping = True

    def is_running(self) -> bool:
        """See `asyncio.AbstractEventLoop`."""
        return self._running

    def is_closed(self) -> bool:
        """See `asyncio.AbstractEventLoop`."""
        return self._closed

    def close(self) -> None:
        """Forget everything that is scheduled."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        self._frozen.clear()
        self.tasks.clear()

    async def shutdown_asyncgens(self) -> None:
        """See `asyncio.AbstractEventLoop`; nothing is tracked."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """See `asyncio.AbstractEventLoop`; there is none."""

    def get_debug(self) -> bool:
        """Return that no debugging is done, which is quick."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """See `asyncio.AbstractEventLoop`; ignored."""

    # --- errors -----------------------------------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the report for whoever runs the loop."""
        self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `asyncio.AbstractEventLoop`."""
        self.errors.append(context)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Serve handles of asyncio's own making; a cancelled one is dropped when it is due."""


def run_virtual(work: Coroutine[Any, Any, T], *, shuffle: Random | None = None) -> T:
    """Run a coroutine on virtual time and return its result; whatever it left running is cancelled."""
    loop = VirtualLoop(shuffle=shuffle)
    try:
        return cast("T", loop.run_until_complete(work))
    finally:
        cancel_all(loop)
        loop.close()


def cancel_all(loop: VirtualLoop) -> None:
    """Cancel every task of a loop and let them clean up; nobody is dead or frozen for that.

    A task that does not take no for an answer is left as it is after a few times.
    """
    for _ in range(CANCELS):
        left = [task for task in loop.tasks if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        loop.bury()
        loop.limit_to(CLEAN_UP)
        with suppress(Stalled):
            loop.run_until_complete(_gather(left))


async def _gather(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
