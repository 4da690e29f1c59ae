"""Timers of runs: one a run, for whatever comes due next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tenuto.ports.clock import Clock


class Timers:
    """The timers of the runs of one worker. What they stand for is durable; losing one costs nothing."""

    def __init__(self, clock: Clock) -> None:
        """Ring by the store's clock."""
        self._clock = clock
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def watch(self, run_id: str, due: int, ring: Callable[[], None], at_least_s: float = 0.001) -> None:
        """Ring when a run's next timer is due, instead of whenever that was before."""
        self.forget(run_id)
        delay = max(0.0, (due - self._clock.now()) / 1000) + at_least_s
        self._handles[run_id] = asyncio.get_running_loop().call_later(delay, self._due, run_id, ring)

    def forget(self, run_id: str) -> None:
        """Ring for a run no more."""
        handle = self._handles.pop(run_id, None)
        if handle is not None:
            handle.cancel()

    def _due(self, run_id: str, ring: Callable[[], None]) -> None:
        self._handles.pop(run_id, None)
        ring()
