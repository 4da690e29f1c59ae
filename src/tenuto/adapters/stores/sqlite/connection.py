"""Connections to the file: how they are set up, and which failures pass by waiting."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.rows import id_text
from tenuto.errors import InvalidSettings

OLDEST_LIBRARY = (3, 35, 0)
PAGE_BYTES = 8192
BUSY_MS = 5000

_WAITING = {
    sqlite3.SQLITE_BUSY: "another process holds the database",
    sqlite3.SQLITE_LOCKED: "another process holds the database",
    sqlite3.SQLITE_PROTOCOL: "another process holds the database",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk fails",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_NOMEM: "there is no memory",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
}
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Connect = Callable[[], sqlite3.Connection]


def code_of(error: BaseException) -> int:
    """Return SQLite's primary code of an error, 0 for errors of another kind."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def outage(error: BaseException) -> str:
    """Return what is wrong when waiting can mend it, else an empty text."""
    reason = _WAITING.get(code_of(error), "")
    return f"{reason} ({error})" if reason else ""


def is_broken(error: BaseException) -> bool:
    """Tell whether the file itself is damaged."""
    return code_of(error) in _BROKEN


def require_library() -> None:
    """Refuse to start on a library that lacks what the statements use.

    Raises:
        InvalidSettings: Python was built with an older SQLite.
    """
    if sqlite3.sqlite_version_info < OLDEST_LIBRARY:
        oldest = ".".join(str(n) for n in OLDEST_LIBRARY)
        raise InvalidSettings(
            f"this Python comes with SQLite {sqlite3.sqlite_version}; {oldest} or newer is needed. "
            "Use a newer Python, or a postgresql:// URL"
        )


def make_place(path: Path) -> None:
    """Create the file and its folder, readable by their owner alone, unless they exist."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def connect(path: Path, *, synchronous: str = "full") -> sqlite3.Connection:
    """Return a connection that writes: log before file, and each commit on the disk before it is acknowledged."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=BUSY_MS / 1000)
    try:
        db.execute(f"pragma page_size = {PAGE_BYTES}")
        if db.execute("pragma journal_mode").fetchone()[0] != "wal":
            db.execute("pragma journal_mode = wal")
        db.execute(f"pragma synchronous = {synchronous}")
        db.execute("pragma wal_autocheckpoint = 4000")
        db.execute("pragma temp_store = memory")
        if sys.platform == "darwin":
            db.execute("pragma fullfsync = 1")
            db.execute("pragma checkpoint_fullfsync = 1")
        db.create_function("id_text", 1, id_text, deterministic=True)
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads; it never waits for the writer."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=BUSY_MS / 1000)
    try:
        db.execute("pragma query_only = 1")
        db.execute("pragma temp_store = memory")
        db.create_function("id_text", 1, id_text, deterministic=True)
        db.create_function("fold", 1, str.casefold, deterministic=True)
    except BaseException:
        db.close()
        raise
    return db


def data_version(db: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has committed."""
    return sql.first(db, "data_version")[0]
