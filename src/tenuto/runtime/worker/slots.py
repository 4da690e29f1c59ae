"""Bounded concurrency: so many attempts run their code at once, the others wait in line."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Turn(Protocol):
    """An attempt, as far as its turn matters.

    Attributes:
        task: Its code, once it has begun.
    """

    task: asyncio.Task[None] | None

    @property
    def over(self) -> bool:
        """Return whether it need not begin any more."""
        ...

    def begin(self) -> None:
        """Let its code run."""
        ...


class Slots:
    """The places for running code on one worker."""

    def __init__(self, places: int, nudge: asyncio.Event) -> None:
        """Have places; `nudge` is set when one becomes free while nothing more may begin."""
        self._places = places
        self._nudge = nudge
        self._taken = 0
        self._closed = False
        self._line: deque[Turn] = deque()

    def close(self) -> None:
        """Let nothing begin any more; what waits is left where it is."""
        self._closed = True

    def enter(self, attempt: Turn) -> None:
        """Let an attempt's code run, now or when there is room."""
        if self._taken < self._places and not self._closed:
            self._taken += 1
            attempt.begin()
        else:
            self._line.append(attempt)

    def leave(self, attempt: Turn) -> None:
        """Give an attempt's place to the next."""
        if attempt.task is None:
            return
        while self._line and not self._closed:
            following = self._line.popleft()
            if following.over:
                continue
            following.begin()
            return
        self._taken -= 1
        if self._closed:
            self._nudge.set()
