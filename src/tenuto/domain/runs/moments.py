"""Moments as authors write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


def moment_ms(value: Any) -> int:
    """Return a moment given as milliseconds since 1970 or as RFC 3339 text.

    Raises:
        ValueError: The text is not a date and time with an offset.
    """
    if isinstance(value, (int, float)):
        return int(value)
    moment = msgspec.convert(value, datetime)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no offset; write it as 2026-01-31T12:00:00Z")
    return int(moment.timestamp() * 1000)
