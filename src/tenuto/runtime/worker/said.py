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

    def hide(self, text: str) -> str:
        """Return a text without the sensitive values of the run; may be called on any thread."""
        ...


speaking: ContextVar[Speaker | None] = ContextVar("tenuto_speaking", default=None)
"""The attempt on whose behalf the present code runs."""


def text(message: object) -> str:
    """Return what a step says as text that JSON can hold, cut where it is too long."""
    return str(message)[:LONGEST].encode(errors="replace").decode()


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as JSON data; what has no JSON form, or a very long one, is shown as text. Never fails.

    Whether somebody watches decides whether this runs, so it must not be able to fail a step.
    """
    return {text(name): _shown(value) for name, value in fields.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    try:
        body = msgspec.json.encode(value, enc_hook=repr)
        return msgspec.json.decode(body) if len(body) <= LONGEST else body[:LONGEST].decode(errors="replace")
    except Exception:  # its own `repr` may fail too
        return f"a {type(value).__name__} that has no JSON form"


class StepLines(logging.Handler):
    """Hands lines that were logged inside a step to the step; the engine's own lines are not the step's."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line on, if a step said it."""
        speaker = speaking.get()
        if speaker is None or record.name.partition(".")[0] == "tenuto":
            return
        try:
            speaker.say(record.levelname.lower(), record.getMessage(), {"logger": record.name})
        except Exception:  # a line that cannot be formatted is its author's mistake, not the step's failure
            self.handleError(record)
