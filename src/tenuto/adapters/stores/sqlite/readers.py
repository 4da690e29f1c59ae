"""Connections that only read: a few threads, so that a slow list does not hold up a page of one run."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.connection import Connect, is_broken, outage
from tenuto.errors import Corrupt

T = TypeVar("T")
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


class Readers:
    """A pool of reading connections; each read sees everything committed before it began."""

    def __init__(self, connect: Connect, threads: int) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tenuto-sqlite-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self.trouble = ""

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `read` finds; wait while the file cannot be read.

        Raises:
            Corrupt: The file is damaged.
        """
        pause = _FIRST_PAUSE_S
        while True:
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)
            except sqlite3.Error as error:
                if is_broken(error):
                    raise Corrupt(f"the database file is damaged: {error}") from error
                self.trouble = outage(error)
                if not self.trouble:
                    raise
            else:
                self.trouble = ""
                return result
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def rows(self, name: str, *args: Any) -> list[Any]:
        """Return all rows of a named query."""
        return await self.run(lambda db: sql.rows(db, name, *args))

    async def first(self, name: str, *args: Any) -> Any:
        """Return the first row of a named query, or `None`."""
        return await self.run(lambda db: sql.first(db, name, *args))

    async def stop(self) -> None:
        """Finish what runs and release the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        for db in self._connections:
            db.close()

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = self._connect()
            with self._lock:
                self._connections.append(db)
        return read(db)
