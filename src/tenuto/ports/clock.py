"""Time as the engine may know it; injected so that tests and simulations own it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks: the store's, for what is written, and a steady one, for leases and durations."""

    def now(self) -> int:
        """Return the store's time in ms since 1970, as well as this process knows it."""
        ...

    def steady(self) -> float:
        """Return seconds that never run backwards; they stand still for nobody, not even a stopped process."""
        ...

    def adjust(self, store_now: int) -> None:
        """Learn the store's time, read a moment ago."""
        ...
