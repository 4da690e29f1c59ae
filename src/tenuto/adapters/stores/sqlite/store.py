"""The store in one SQLite file: no service, and several processes may share the file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenuto.adapters.stores.sqlite import schema, sql
from tenuto.adapters.stores.sqlite.artifacts import Artifacts
from tenuto.adapters.stores.sqlite.cache import Cache
from tenuto.adapters.stores.sqlite.checkpoints import Checkpoints
from tenuto.adapters.stores.sqlite.connection import (
    Connect,
    connect,
    connect_reader,
    make_place,
    outage,
    require_library,
)  # fmt: skip
from tenuto.adapters.stores.sqlite.data_keys import DataKeys
from tenuto.adapters.stores.sqlite.findings import Findings
from tenuto.adapters.stores.sqlite.funds import Funds
from tenuto.adapters.stores.sqlite.journal import Journal
from tenuto.adapters.stores.sqlite.lineage import Lineage
from tenuto.adapters.stores.sqlite.messages import Messages
from tenuto.adapters.stores.sqlite.notifications import Notifications
from tenuto.adapters.stores.sqlite.ownership import Ownership
from tenuto.adapters.stores.sqlite.parts import Parts
from tenuto.adapters.stores.sqlite.plugins import Plugins
from tenuto.adapters.stores.sqlite.proposals import Proposals
from tenuto.adapters.stores.sqlite.reading import Definitions, Projections, Reading
from tenuto.adapters.stores.sqlite.reports import Reports
from tenuto.adapters.stores.sqlite.starts import Starts
from tenuto.adapters.stores.sqlite.upkeep import Upkeep
from tenuto.adapters.stores.sqlite.usage import Usage
from tenuto.errors import InvalidSettings

READERS = 3
_OPEN_PAUSE_S = 0.05
_OPEN_TRIES = 200


def wall_clock() -> int:
    """Return the machine's time in ms since 1970; processes that share a file share the machine."""
    return int(time.time() * 1000)


class SqliteStore(
    Journal, Messages, Funds, Ownership, Definitions, Reading, Projections, Upkeep, Artifacts, Checkpoints,
    DataKeys, Usage, Reports, Findings, Lineage, Starts, Proposals, Plugins, Cache,
    Notifications,
):  # fmt: skip
    """All that outlives a process, in one file, safe for several processes of one machine.

    Args:
        path: The file; it and its folder are created, readable by their owner alone.
        clock: The store's clock; all processes that share the file must agree on it.
        connect: How the writing connection is made; for tests that let the disk fail.
    """

    def __init__(
        self, path: Path | str, *, clock: Callable[[], int] = wall_clock, readers: int = READERS,
        connect: Connect | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self.url = f"sqlite:///{self.path}"
        self._clock = clock
        self._readers = readers
        self._connect = connect or self._connect_writer
        self._open: Parts | None = None

    @property
    def parts(self) -> Parts:
        """The connections.

        Raises:
            RuntimeError: The store is not open.
        """
        if self._open is None:
            raise RuntimeError("the store is not open; call open() first")
        return self._open

    async def open(self, *, migrate: bool = True) -> None:
        """Create the file if needed and bring the schema up to date. Idempotent, safe when many processes start.

        Raises:
            InvalidSettings: Python's SQLite is too old, or the file cannot be used.
        """
        if self._open is not None:
            return
        require_library()
        for left in reversed(range(_OPEN_TRIES)):
            try:
                await asyncio.to_thread(self._first_contact, migrate)
                break
            except OSError as error:
                raise InvalidSettings(f"the database {self.path} cannot be used: {error}") from error
            except sqlite3.Error as error:
                if not left or not outage(error):
                    raise InvalidSettings(f"the database {self.path} cannot be opened: {error}") from error
                await asyncio.sleep(_OPEN_PAUSE_S)
        self._open = Parts(self._connect, lambda: connect_reader(self.path), self._clock, self._readers)

    async def close(self) -> None:
        """Release connections. Commits already accepted are finished first."""
        parts, self._open = self._open, None
        if parts is not None:
            await parts.close()

    async def migrations(self) -> list[tuple[str, bool]]:
        """Return the names of all schema steps, in order, and whether each is applied."""
        done = await self.parts.readers.run(schema.applied)
        return [(name, name in done) for name in schema.steps()]

    def health(self) -> str:
        """Return an empty string while the file can be written, else what is wrong, for a person."""
        if self._open is None:
            return "the store is not open"
        trouble = self._open.health()
        return f"SQLite at {self.path}: {trouble}" if trouble else ""

    async def now(self) -> int:
        """Return the store's clock."""
        return self._clock()

    async def stats(self) -> dict[str, Any]:
        """Return sizes and counts for `doctor`."""

        def read(db: sqlite3.Connection) -> dict[str, Any]:
            cursor = db.execute(sql.SQL["stats"])
            counts = cursor.fetchone()
            names = [column[0] for column in cursor.description]
            return {
                "backend": "sqlite", **dict(zip(names, counts, strict=True)), "path": str(self.path),
                "journal_mode": db.execute("pragma journal_mode").fetchone()[0], "synchronous": "full",
                "bytes": sum(size for size in map(_size, self._files())),
                "log_bytes": _size(self._files()[1]),
            }  # fmt: skip

        return await self.parts.readers.run(read)

    def _files(self) -> tuple[Path, Path]:
        return self.path, self.path.with_name(self.path.name + "-wal")

    def _connect_writer(self) -> sqlite3.Connection:
        return connect(self.path)

    def _first_contact(self, migrate: bool) -> None:
        make_place(self.path)
        db = connect(self.path)
        try:
            (schema.migrate if migrate else schema.applied)(db)
        finally:
            db.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
