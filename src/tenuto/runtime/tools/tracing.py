"""The trace context that goes along to whoever is called: as the `traceparent` header over HTTP, in `_meta` over MCP."""

from __future__ import annotations

from contextvars import ContextVar

traceparent: ContextVar[str] = ContextVar("tenuto_traceparent", default="")
"""W3C context of the call that is being made; empty when nobody traces."""
