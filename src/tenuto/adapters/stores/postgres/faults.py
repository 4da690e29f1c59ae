"""What an error of the driver means: nobody answers, try again, or this statement is refused for good, by whoever sends it."""

from __future__ import annotations

from typing import Literal

import asyncpg

from tenuto.errors import StatementRefused

Fault = Literal["outage", "again", "refused", "broken"]

# Connection lost or refused, server going down or out of resources, or a session that has to be begun anew.
_OUTAGE_CLASSES = ("08", "53", "57", "58", "XX", "F0", "3D", "28", "25", "0A", "26")
# A statement of this name is prepared already: a fresh session has none.
_OUTAGE_STATES = ("42P05",)
# Syntax, names, types or rights. No waiting mends it, and it is nobody's commit: it stops everyone alike.
_BROKEN_CLASS = "42"
_RIGHTS = "42501"
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
        if state.startswith(_BROKEN_CLASS) and state not in _OUTAGE_STATES:
            return "broken"
        return "outage" if state.startswith(_OUTAGE_CLASSES) or state in _OUTAGE_STATES else "refused"
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


def broken(error: BaseException, place: str) -> StatementRefused:
    """Return what is told of a statement that nobody may or can make in this database."""
    state = getattr(error, "sqlstate", None) or ""
    remedy = (
        "grant the database's user the right it lacks" if state == _RIGHTS
        else "look whether `tenuto doctor` finds every migration applied and the schema unchanged; if so, report this"
    )  # fmt: skip
    return StatementRefused(f"PostgreSQL at {place} refuses a statement ({state}): {describe(error)}; {remedy}")
