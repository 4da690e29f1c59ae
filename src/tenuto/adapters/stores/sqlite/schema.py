"""Schema steps: SQL files applied once, in order, by whichever process comes first."""

from __future__ import annotations

import sqlite3
from importlib.resources import files

from tenuto.adapters.stores.sqlite import sql


def steps() -> dict[str, str]:
    """Return the text of every step by name, in order."""
    folder = files("tenuto.adapters.stores.sqlite").joinpath("migrations")
    found = {item.name.removesuffix(".sql"): item for item in folder.iterdir() if item.name.endswith(".sql")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def applied(db: sqlite3.Connection) -> set[str]:
    """Return the names of the steps this database has had."""
    if sql.first(db, "migration_table") is None:
        return set()
    return {row[0] for row in sql.rows(db, "migration_list")}


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date in one transaction; a schema that is up to date is only read."""
    wanted = steps()
    if wanted.keys() <= applied(db):
        return
    sql.change(db, "begin")
    try:
        sql.change(db, "migration_create")
        done = applied(db)
        for name, text in wanted.items():
            if name not in done:
                for statement in _statements(text):
                    db.execute(statement)
                sql.change(db, "migration_add", name)
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise


def _statements(text: str) -> list[str]:
    """Split a script; the driver's own way of running one would end the transaction first."""
    found: list[str] = []
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
