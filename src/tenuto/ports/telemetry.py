"""Where finished spans go, on their way out of the process."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class Span(msgspec.Struct, kw_only=True):
    """Something that took time, and is over. Attributes hold names, ids and numbers, never what users say or get.

    Attributes:
        parent: Span above it; empty for a root.
        began, ended: Milliseconds since 1970.
        error: What kind of failure ended it; empty when none did.
    """

    name: str
    kind: Literal["internal", "client", "server"] = "internal"
    trace: str
    id: str
    parent: str = ""
    began: int
    ended: int
    attributes: dict[str, str | int | float | bool] = {}
    error: str = ""


class Spans(Protocol):
    """Takes spans and never holds up whoever gives them."""

    def add(self, span: Span) -> None:
        """Queue a span; when the queue is full it is dropped."""
        ...

    def close(self) -> None:
        """Send what is queued, for a moment at most, and stop."""
        ...
