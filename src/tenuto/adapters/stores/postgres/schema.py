"""Schema steps: SQL files applied once, in order, by whichever process comes first."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from tenuto.adapters.stores.postgres.sql import SQL


def steps() -> dict[str, str]:
    """Return the text of every step by name, in order."""
    folder = files("tenuto.adapters.stores.postgres").joinpath("migrations")
    found = {item.name.removesuffix(".sql"): item for item in folder.iterdir() if item.name.endswith(".sql")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


async def applied(connection: Any) -> set[str]:
    """Return the names of the steps this database has had."""
    if not await connection.fetchval(SQL["migration_table"]):
        return set()
    return {row["name"] for row in await connection.fetch(SQL["migration_list"])}


async def migrate(connection: Any) -> None:
    """Bring the schema up to date in one transaction; a schema that is up to date is only read."""
    wanted = steps()
    if wanted.keys() <= await applied(connection):
        return
    async with connection.transaction():
        await connection.execute(SQL["migration_lock"])
        await connection.execute(SQL["migration_create"])
        done = await applied(connection)
        for name, text in wanted.items():
            if name not in done:
                await connection.execute(text)
                await connection.execute(SQL["migration_add"], name)
