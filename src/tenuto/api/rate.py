"""How many requests a second one client may make: a bucket each, filled steadily, never fuller than a second's worth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tenuto.api.errors import Refused

_KEPT = 10_000


class Rate:
    """A limit for each client; without one everybody passes."""

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Let each client make so many requests a second; 0 sets no limit."""
        self._rate = per_second
        self._room = max(1.0, per_second)
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> None:
        """Count a request.

        Raises:
            Refused: 429, with the seconds to wait, when the client has made too many.
        """
        if not self._rate:
            return
        now = self._clock()
        left, since = self._left.pop(client, (self._room, now))
        left = min(self._room, left + (now - since) * self._rate)
        taken = left >= 1
        self._left[client] = (left - 1 if taken else left, now)  # whoever came last is kept longest
        if len(self._left) > _KEPT:
            del self._left[next(iter(self._left))]
        if not taken:
            wait = math.ceil((1 - left) / self._rate)
            raise Refused(
                429, "limit.exhausted", f"more than {self._rate:g} requests a second; try again in {wait} s",
                headers={"Retry-After": str(wait)}, retry_after_s=wait,
            )  # fmt: skip
