"""What a step's code says through Python's own logging reaches whoever watches its run."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

LONGEST = 10_000


class Speaker(Protocol):
    """An attempt whose code runs."""

    def say(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Tell those who watch the run just now; may be called on any thread."""
        ...


speaking: ContextVar[Speaker | None] = ContextVar("tenuto_speaking", default=None)
"""The attempt on whose behalf the present code runs."""


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as JSON data; what has no JSON form is shown as text."""
    return msgspec.json.decode(msgspec.json.encode(fields, enc_hook=repr))


class StepLines(logging.Handler):
    """Hands lines that were logged inside a step to the step; the engine's own lines are not the step's."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line on, if a step said it."""
        speaker = speaking.get()
        if speaker is None or record.name.partition(".")[0] == "tenuto":
            return
        try:
            speaker.say(record.levelname.lower(), record.getMessage()[:LONGEST], {"logger": record.name})
        except Exception:  # a line that cannot be formatted is its author's mistake, not the step's failure
            self.handleError(record)
