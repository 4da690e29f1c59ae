"""Log lines as text or JSON, each with the ids of request, run and step it belongs to.

Anything logged with `extra={"run": …, "step": …, "fields": {…}}` carries those on its line; with `"told": True` the
message says the fields already, and only JSON lines hold them.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TextIO, cast

from tenuto.runtime.worker.said import StepLines, speaking
from tenuto.settings import Settings

request_id_var: ContextVar[str] = ContextVar("tenuto_request_id", default="")
"""Id of the request that is being answered."""

_IDS = ("run", "step", "attempt", "worker", "request_id")


class _Ids(logging.Filter):
    """Puts the request's id on every record made while it is answered."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id") and (request_id := request_id_var.get()):
            record.request_id = request_id
        return True


def _ids(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _IDS if getattr(record, name, None)}


def _known(record: logging.LogRecord) -> dict[str, Any]:
    found = _ids(record)
    fields = getattr(record, "fields", None)
    return found | cast("dict[str, Any]", fields) if isinstance(fields, Mapping) else found


def _moment(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _shown(line: str) -> str:
    """Return a line without the sensitive values of the run on whose behalf it was written."""
    speaker = speaking.get()
    return line if speaker is None else speaker.hide(line)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_known(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _shown(json.dumps(line, default=str))


class TextLines(logging.Formatter):
    """One line a person reads; line breaks in values cannot forge another."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the trace of an exception below it."""
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        known = _ids(record) if getattr(record, "told", False) else _known(record)
        ids = " ".join(f"{name}={value}" for name, value in known.items()).replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_moment(record)} {record.levelname:<7} {message}" + (f"  {ids}" if ids else "")
        return _shown(f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line)


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Write log lines of the whole process to standard error in the chosen form and level."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_Ids())
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler, StepLines()]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the guard writes one line a request
    for name in ("uvicorn.error", "websockets", "httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")
