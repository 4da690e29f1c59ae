"""The statements of `queries.sql` by name, parts put in place; loaded once, never built from values."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

_HEAD = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_PART = re.compile(r"\{(\w+)\}")
_ROWS = re.compile(r"\{rows (\d+)\}")
_SIZES = (64, 8, 1)


def parse(text: str) -> dict[str, str]:
    """Return all statements of a file, without their comments.

    Raises:
        KeyError: A statement names a part that does not exist.
    """
    pieces = _HEAD.split(text)[1:]
    parts: dict[str, str] = {}
    statements: dict[str, str] = {}
    for kind, name, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        body = "\n".join(line for line in body.splitlines() if not line.startswith("-- ")).strip()
        (parts if kind == "part" else statements)[name] = body
    for name, body in statements.items():
        while _PART.search(body):
            body = _PART.sub(lambda slot: parts[slot[1]], body)
        statements[name] = body
    return statements


class Bulk:
    """A statement over many rows at once; a few sizes are enough, and each is prepared once for a connection."""

    def __init__(self, text: str) -> None:
        """Prepare the texts of a statement with `{rows N}` in it."""
        slot = _ROWS.search(text)
        assert slot is not None
        self.width = int(slot[1])
        row = "(" + ",".join("?" * self.width) + ")"
        self._texts = [
            (size, size * self.width, _ROWS.sub(",".join([row] * size), text)) for size in _SIZES
        ]

    def run(self, db: sqlite3.Connection, flat: list[Any]) -> int:
        """Run the statement for rows given one after the other; return how many rows changed."""
        at, left, changed = 0, len(flat) // self.width, 0
        for size, step, text in self._texts:
            while left >= size:
                changed += db.execute(text, flat[at : at + step]).rowcount
                at += step
                left -= size
        return changed

    def total(self, db: sqlite3.Connection, flat: list[Any]) -> int:
        """Run a query that counts; return the sum over all rows."""
        at, left, found = 0, len(flat) // self.width, 0
        for size, step, text in self._texts:
            while left >= size:
                found += db.execute(text, flat[at : at + step]).fetchone()[0]
                at += step
                left -= size
        return found


SQL = parse(files("tenuto.adapters.stores.sqlite").joinpath("queries.sql").read_text(encoding="utf-8"))
BULK = {name: Bulk(text) for name, text in SQL.items() if _ROWS.search(text)}


def rows(db: sqlite3.Connection, name: str, *args: Any) -> list[Any]:
    """Return all rows of a named query."""
    return db.execute(SQL[name], args).fetchall()


def each(db: sqlite3.Connection, name: str, *args: Any) -> Iterator[Any]:
    """Yield the rows of a named query as they are read."""
    yield from db.execute(SQL[name], args)


def first(db: sqlite3.Connection, name: str, *args: Any) -> Any:
    """Return the first row of a named query, or `None`."""
    return db.execute(SQL[name], args).fetchone()


def change(db: sqlite3.Connection, name: str, *args: Any) -> int:
    """Run a named statement; return how many rows it changed."""
    return db.execute(SQL[name], args).rowcount


def changes(db: sqlite3.Connection, name: str, values: Sequence[tuple[Any, ...]]) -> int:
    """Run a named statement for each tuple; return how many rows changed."""
    return db.executemany(SQL[name], values).rowcount if values else 0


@contextmanager
def one_moment(db: sqlite3.Connection) -> Generator[None]:
    """Let several queries of a reading connection see the same state of the database."""
    db.execute("begin")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("rollback")
