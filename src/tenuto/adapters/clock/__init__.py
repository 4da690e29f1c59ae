"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """The store's time as an offset to a steady clock, so that a changed wall clock moves nothing."""

    def __init__(self) -> None:
        """Begin with this machine's wall clock until the store's is known."""
        self._offset_s = time.time() - self.steady()

    def now(self) -> int:
        """Return the store's time in ms since 1970."""
        return int((_read(_STEADY) + self._offset_s) * 1000)

    def steady(self) -> float:
        """Return seconds since the machine started, sleep included where the system can tell."""
        return _read(_STEADY)

    def adjust(self, store_now: int) -> None:
        """Learn the store's time."""
        self._offset_s = store_now / 1000 - self.steady()


_read = time.clock_gettime
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
