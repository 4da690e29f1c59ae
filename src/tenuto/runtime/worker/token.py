"""The way back of an answer: from a decision, once it is durable, to the code that asked."""

from __future__ import annotations

import asyncio
from typing import Any

from tenuto.domain.runs import inputs as io


class Token:
    """Carries the engine's answer back to the code that asked."""

    __slots__ = ("asked", "future")

    def __init__(self) -> None:
        """Begin unanswered."""
        self.future: asyncio.Future[io.Reply] = asyncio.get_running_loop().create_future()
        self.asked: Any = None

    def resolve(self, answer: io.Reply) -> None:
        """Give the answer, unless the code has gone meanwhile."""
        if not self.future.done():
            self.future.set_result(answer)
