"""What the code of one request may know about it without passing it along: the request's id, for log lines."""

from __future__ import annotations

from contextvars import ContextVar

request_id_var: ContextVar[str] = ContextVar("tenuto_request_id", default="")
