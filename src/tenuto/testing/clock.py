"""Clocks that tests own: time moves when the test, or a virtual loop, says so."""

from __future__ import annotations

from collections.abc import Callable

EPOCH_MS = 1_700_000_000_000
"""Store time at virtual second 0."""


class VirtualClock:
    """A `ports.clock.Clock` on any source of seconds: a virtual loop's time, or one moved by hand.

    Attributes:
        skew_ms: How far this process's idea of the store's time is off until it next learns it.
    """

    def __init__(self, seconds: Callable[[], float] | None = None, *, skew_ms: int = 0) -> None:
        """Follow a source of seconds; without one, time stands still until `advance` moves it."""
        self._by_hand = 0.0
        self._seconds = seconds or self._own
        self._offset_ms = EPOCH_MS
        self.skew_ms = skew_ms

    def _own(self) -> float:
        return self._by_hand

    def advance(self, seconds: float) -> None:
        """Move a clock that has no other source."""
        self._by_hand += seconds

    def now(self) -> int:
        """Return the store's time in ms, as well as this process knows it."""
        return int(self._seconds() * 1000) + self._offset_ms + self.skew_ms

    def steady(self) -> float:
        """Return seconds that never run backwards."""
        return self._seconds()

    def adjust(self, store_now: int) -> None:
        """Learn the store's time, read a moment ago; an error in it is gone."""
        self._offset_ms = store_now - int(self._seconds() * 1000)
        self.skew_ms = 0

    def jump(self, ms: int) -> None:
        """Let this process be wrong about the store's time from now on."""
        self.skew_ms += ms


def store_clock(seconds: Callable[[], float]) -> Callable[[], int]:
    """Return the clock of a store on a source of seconds: integers, milliseconds."""

    def now() -> int:
        return EPOCH_MS + int(seconds() * 1000)

    return now
