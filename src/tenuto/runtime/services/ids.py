"""Run ids: UUID version 7, so that ids sort by creation and neighbours in time are neighbours on disk."""

from __future__ import annotations

import os
from collections.abc import Callable

_RANDOM_BITS = (1 << 62) - 1
_DRAW = 4096


class RunIds:
    """Makes ids that grow strictly within this process, several in one millisecond included."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """Take milliseconds from a clock; one that goes back does not make ids go back."""
        self._clock = clock
        self._last = 0
        self._count = 0
        self._random = b""
        self._used = 0
        self._pid = 0

    def new(self) -> str:
        """Return a fresh id.

        Source:
            RFC 9562 §5.7, with a 12-bit counter (§6.2, method 1); https://www.rfc-editor.org/rfc/rfc9562
        """
        now = self._clock()
        if now > self._last:
            self._last, self._count = now, 0
        else:
            self._count += 1
            if self._count > 0xFFF:
                self._last, self._count = self._last + 1, 0
        tail = int.from_bytes(self._eight(), "big") & _RANDOM_BITS
        text = f"{self._last:012x}7{self._count:03x}{0b10 << 62 | tail:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _eight(self) -> bytes:
        """Return eight random bytes of the system's, drawn many at a time; a forked process draws its own."""
        if self._used >= len(self._random) or self._pid != os.getpid():
            self._random, self._used, self._pid = os.urandom(_DRAW), 0, os.getpid()
        self._used += 8
        return self._random[self._used - 8 : self._used]
