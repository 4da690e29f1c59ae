"""A clock for code that cannot be interrupted otherwise: it ticks only while somebody runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Condition, Thread

TICK_S = 0.01


class Ticker:
    """Calls `tick` every `TICK_S` seconds for as long as any block of `ticking` is open, from a thread of its own.

    The thread is made for the first block, sleeps without a timer between blocks, and ends with `close` or the process.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._changed = Condition()
        self._open = 0
        self._closed = False
        self._thread: Thread | None = None

    @contextmanager
    def ticking(self) -> Generator[None]:
        """Tick during a block."""
        with self._changed:
            self._open += 1
            if self._thread is None and not self._closed:
                self._thread = Thread(target=self._run, name="tenuto-optimizer-clock", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1

    def close(self) -> None:
        """End the thread; blocks must be closed before."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._open or self._closed)
                if self._closed:
                    return
                self._changed.wait_for(lambda: self._closed, TICK_S)
            self._tick()
