"""The store on PostgreSQL: plain SQL over a handful of connections, no extensions, no rights beyond its own tables."""

from __future__ import annotations

from functools import partial

import asyncpg

from tenuto.adapters.stores.postgres import faults, schema
from tenuto.adapters.stores.postgres.artifacts import Artifacts
from tenuto.adapters.stores.postgres.cache import Cache
from tenuto.adapters.stores.postgres.checkpoints import Checkpoints
from tenuto.adapters.stores.postgres.data_keys import DataKeys
from tenuto.adapters.stores.postgres.findings import Findings
from tenuto.adapters.stores.postgres.funds import Funds
from tenuto.adapters.stores.postgres.journal import Journal
from tenuto.adapters.stores.postgres.lineage import Lineage
from tenuto.adapters.stores.postgres.link import Health, Link
from tenuto.adapters.stores.postgres.messages import Messages
from tenuto.adapters.stores.postgres.notifications import Notifications
from tenuto.adapters.stores.postgres.ownership import Ownership
from tenuto.adapters.stores.postgres.parts import Parts
from tenuto.adapters.stores.postgres.plugins import Plugins
from tenuto.adapters.stores.postgres.proposals import Proposals
from tenuto.adapters.stores.postgres.reading import Definitions, Projections, Reading
from tenuto.adapters.stores.postgres.reports import Reports
from tenuto.adapters.stores.postgres.starts import Starts
from tenuto.adapters.stores.postgres.upkeep import Upkeep
from tenuto.adapters.stores.postgres.url import place_of
from tenuto.adapters.stores.postgres.usage import Usage
from tenuto.errors import InvalidSettings

OLDEST_SERVER = 15
LEASE_MS = 10_000
READERS = 3


class PostgresStore(
    Journal, Messages, Funds, Ownership, Definitions, Reading, Projections, Upkeep, Artifacts, Checkpoints,
    DataKeys, Usage, Reports, Findings, Lineage, Starts, Proposals, Plugins, Cache,
    Notifications,
):  # fmt: skip
    """All that outlives a process, in one PostgreSQL database (15 or newer), shared by any number of processes.

    Args:
        url: `postgresql://` or `postgres://` URL; options for TLS are the driver's (`sslmode`, `sslrootcert`, …).
        lease_ms: The lease workers will use; statements are limited to half of it.
        readers: Most connections used for reading; with four more for other purposes.

    Raises:
        InvalidSettings: The URL is of another kind or names no database.
    """

    def __init__(self, url: str, *, lease_ms: int = LEASE_MS, readers: int = READERS) -> None:
        self.url = url
        self._place = place_of(url)
        self._lease_ms = lease_ms
        self._readers = readers
        self._open: Parts | None = None
        self._health: Health | str = "the store is not open"

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
        """Connect and bring the schema up to date. Idempotent, safe when many processes start at once.

        Raises:
            InvalidSettings: The server is too old, refuses the credentials, or has no such database.
        """
        if self._open is not None:
            return
        parts = Parts(self.url, self._place, self._lease_ms, self._readers)
        self._health = parts.health
        try:
            await self._refuse_mistakes(parts.pool.links[0])
            await parts.pool.links[0].call(partial(self._first_contact, migrate))
        except BaseException:
            await parts.close()
            raise
        self._open = parts

    async def close(self) -> None:
        """Release connections. Commits already accepted are finished first."""
        parts, self._open = self._open, None
        if parts is not None:
            await parts.close()
            self._health = "the store is closed"

    async def migrations(self) -> list[tuple[str, bool]]:
        """Return the names of all schema steps, in order, and whether each is applied."""
        done = await self.parts.pool.call(lambda connection, again: schema.applied(connection))
        return [(name, name in done) for name in schema.steps()]

    def health(self) -> str:
        """Return an empty string while the database answers, else what is wrong, for a person."""
        return str(self._health)

    async def now(self) -> int:
        """Return the store's clock."""
        return await self.parts.pool.value("clock_now")

    async def _refuse_mistakes(self, link: Link) -> None:
        """Fail at once on what waiting cannot mend; an outage is waited for by whoever calls next."""
        try:
            await link.probe()
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise InvalidSettings(f"PostgreSQL at {self._place}: {faults.describe(error)}") from error
        except Exception as error:
            if faults.classify(error) is None:
                raise

    async def _first_contact(self, migrate: bool, connection: asyncpg.Connection, again: bool) -> None:
        version = connection.get_server_version()
        if version.major < OLDEST_SERVER:
            raise InvalidSettings(
                f"PostgreSQL at {self._place} is version {version.major}.{version.minor}; "
                f"{OLDEST_SERVER} or newer is needed"
            )
        if migrate:
            await schema.migrate(connection)
