"""What an error of the driver means: nobody answers, try again, or this statement is refused for good."""

from __future__ import annotations

from typing import Literal

import asyncpg

Fault = Literal["outage", "again", "refused"]

# Connection lost or refused, server going down or out of resources, schema or rights not (yet) in place.
# The last group stops everyone alike, so it is an outage: refusing runs one by one would destroy them.
_OUTAGE_CLASSES = ("08", "53", "57", "58", "XX", "F0", "3D", "28", "25", "0A", "26", "42")
# Lock timeout, deadlock, serialisation, statement timeout: the same statement may pass next time.
_AGAIN_STATES = ("55P03", "40P01", "40001", "57014")


class Standby(ConnectionError):
    """The server we reached only reads."""


def classify(error: BaseException) -> Fault | None:
    """Return what to do about an error, `None` when it is no matter of the database."""
    if isinstance(error, asyncpg.PostgresError):
        state: str = getattr(error, "sqlstate", None) or "XX000"
        if state in _AGAIN_STATES:
            return "again"
        return "outage" if state.startswith(_OUTAGE_CLASSES) else "refused"
    if isinstance(error, asyncpg.DataError):
        return "refused"
    if isinstance(error, OSError | EOFError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return "outage"
    return None


def describe(error: BaseException) -> str:
    """Return an error as one line for a person, without the values that a statement carried."""
    text = str(error).strip().splitlines()
    if isinstance(error, asyncpg.DataError) and error.__cause__ is not None:
        text = ["a value has no form in the database: " + str(error.__cause__)]
    return text[0][:500] if text else type(error).__name__
