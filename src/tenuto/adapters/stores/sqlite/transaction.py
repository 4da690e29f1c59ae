"""A write transaction under way, and how a piece of it fails alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from tenuto.adapters.stores.sqlite.connection import data_version, is_broken, outage

_MOST_OWNERS = 8192


class NeedsCare(Exception):
    """Something in the transaction cannot be done in bulk; it is undone and done again bit by bit."""


class Owners(dict[bytes, int]):
    """Epochs of runs as this connection knows them; valid until another connection commits."""

    version = -1

    def refresh(self, db: sqlite3.Connection) -> None:
        """Forget everything when another connection has committed since the last look, or too much is kept."""
        version = data_version(db)
        if version != self.version or len(self) > _MOST_OWNERS:
            self.clear()
            self.version = version


class Tx:
    """A write transaction under way.

    Attributes:
        now: The store's clock when it began; nobody else can write before it ends.
        careful: Whether each piece must be able to fail alone.
        packed: Runs and positions appended, as they are listed.
        woke: Whether somebody who waits may find something to do.
    """

    def __init__(self, db: sqlite3.Connection, now: int, owners: Owners, careful: bool) -> None:
        """Begin with nothing done."""
        self.db = db
        self.now = now
        self.owners = owners
        self.careful = careful
        self.packed: list[bytes] = []
        self.woke = False


Op = Callable[[Tx], Any]
Answer = tuple[Any, BaseException | None]


def alone(tx: Tx, op: Op) -> Answer:
    """Run a piece of a transaction so that its failure undoes it and nothing else."""
    listed, woke = len(tx.packed), tx.woke
    tx.db.execute("savepoint piece")
    try:
        result = op(tx)
    except Exception as error:
        if outage(error) or is_broken(error):
            raise
        tx.db.execute("rollback to piece")
        tx.db.execute("release piece")
        del tx.packed[listed:]
        tx.woke = woke
        tx.owners.clear()
        return None, error
    tx.db.execute("release piece")
    return result, None
