"""One connection that is replaced whenever it breaks, and a small pool of them.

A link never gives up on an outage: a statement that meets one is sent again until it is answered. For links whose
statements must not run twice, the lost connection's backend is ended before anything is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar, cast

import asyncpg

from tenuto.adapters.stores.postgres import faults
from tenuto.adapters.stores.postgres.sql import SQL

T = TypeVar("T")
Connection = Any  # asyncpg ships no type hints for its connections
_driver_connect: Callable[..., Awaitable[Any]] = cast("Any", asyncpg).connect
FIRST_DELAY_S = 0.02
LAST_DELAY_S = 1.0
CONNECT_TIMEOUT_S = 10


class Health:
    """What is wrong with each connection just now; shared by all links of a store."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._trouble: dict[str, str] = {}

    def note(self, link: str, text: str) -> None:
        """Remember why a connection does not answer."""
        self._trouble[link] = text

    def clear(self, link: str) -> None:
        """Forget the trouble of a connection that answered."""
        if self._trouble:
            self._trouble.pop(link, None)

    def __str__(self) -> str:
        """Return one sentence, empty while all is well."""
        for link, text in self._trouble.items():
            return f"PostgreSQL at {self.place} does not answer ({link}): {text}"
        return ""


class Link:
    """A connection with a purpose, made when first used and again whenever it is lost.

    Args:
        exclusive: Before a statement is sent again, end the backend that may still be executing it.
        statement_s: Longest time a statement may take; 0 sets no limit.
        lock_s: Longest wait for a lock; 0 sets no limit.
        hash_only: Plan joins of statement parameters as hash joins only.
        generic: Plan each statement once.
    """

    def __init__(
        self,
        url: str,
        name: str,
        health: Health,
        *,
        exclusive: bool = False,
        statement_s: float = 0,
        lock_s: float = 0,
        hash_only: bool = False,
        generic: bool = False,
    ) -> None:
        self.name = name
        self.pids: set[int] = set()
        self._url = url
        self._health = health
        self._exclusive = exclusive
        self._statement_s = statement_s
        self._lock_s = lock_s
        self._hash_only = hash_only
        self._generic = generic
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._backend: tuple[int, datetime] | None = None
        self._lost: tuple[int, datetime] | None = None

    @property
    def busy(self) -> bool:
        """Whether a statement is under way."""
        return self._lock.locked()

    async def call(self, work: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Return what `work(connection, again)` returns, however often the connection is lost meanwhile.

        Args:
            work: Sends one statement, or several that may be repeated as a whole. `again` tells whether it may
                have been executed before.

        Raises:
            asyncpg.PostgresError: The database refuses the statement for good, because of what it carries.
            StatementRefused: It refuses the statement whatever it carries.
        """
        async with self._lock:
            delay, again = FIRST_DELAY_S, False
            while True:
                try:
                    connection = self._connection
                    if connection is None or connection.is_closed():
                        connection = await self._connect()
                    result = await work(connection, again)
                    self._health.clear(self.name)
                    return result
                except Exception as error:
                    fault = faults.classify(error)
                    if fault not in ("outage", "again"):
                        self._health.clear(self.name)
                        if fault == "broken":
                            raise faults.broken(error, self._health.place) from error
                        raise
                    if fault == "outage":
                        self._drop()
                        again = True
                    self._health.note(self.name, faults.describe(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, LAST_DELAY_S)

    async def attempt(self, work: Callable[[Connection, bool], Awaitable[T]]) -> T | None:
        """Do as `call`, but return `None` when the statement loses to a lock, a deadlock or its time limit."""

        async def once(connection: Connection, again: bool) -> T | None:
            try:
                return await work(connection, again)
            except asyncpg.PostgresError as error:
                if faults.classify(error) == "again":
                    return None
                raise

        return await self.call(once)

    async def fetch(self, name: str, *args: object) -> list[Any]:
        """Return the rows of a named statement."""
        return await self.call(lambda connection, again: connection.fetch(SQL[name], *args))

    async def first(self, name: str, *args: object) -> Any:
        """Return the first row of a named statement, or `None`."""
        return await self.call(lambda connection, again: connection.fetchrow(SQL[name], *args))

    async def value(self, name: str, *args: object) -> Any:
        """Return the first column of the first row of a named statement, or `None`."""
        return await self.call(lambda connection, again: connection.fetchval(SQL[name], *args))

    async def probe(self) -> Connection:
        """Return a connection or fail at once; for the first contact, when waiting for ever would hide a mistake."""
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                return await self._connect()
            return self._connection

    async def limit_statements(self, seconds: float) -> None:
        """Change the longest time a statement may take, from now on."""
        if seconds != self._statement_s:
            self._statement_s = seconds
            await self.fetch("session_timeout", _milliseconds(seconds))

    async def close(self) -> None:
        """Finish the statement under way and disconnect."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None and not connection.is_closed():
                try:
                    await connection.close(timeout=2)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    connection.terminate()

    async def _connect(self) -> Connection:
        self._drop()
        wait = self._statement_s * 2 if self._statement_s else None
        connection = await _driver_connect(
            self._url, timeout=CONNECT_TIMEOUT_S, command_timeout=wait, max_cached_statement_lifetime=0
        )
        try:
            row = await connection.fetchrow(
                SQL["session"],
                _milliseconds(self._statement_s),
                _milliseconds(self._lock_s),
                "off",
                "off" if self._hash_only else "on",
                "force_generic_plan" if self._generic else "auto",
            )
            if row["standby"]:
                raise faults.Standby("the server is a standby and takes no writes; waiting for the primary")
            if self._lost is not None:
                await self._end(connection, *self._lost)
        except BaseException:
            connection.terminate()
            raise
        self._lost = None
        if row["started"] is not None:
            self._backend = (row["pid"], row["started"])
        self.pids.add(row["pid"])
        self._connection = connection
        return connection

    async def _end(self, connection: Connection, pid: int, started: datetime) -> None:
        """Return once the backend is gone."""
        while await connection.fetchrow(SQL["end_backend"], pid, started) is not None:
            self._health.note(self.name, f"waiting for the backend {pid} of a lost connection to end")
            await asyncio.sleep(FIRST_DELAY_S)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            if self._exclusive and self._backend is not None:
                self._lost = self._backend
        if self._backend is not None:
            self.pids.discard(self._backend[0])
            self._backend = None


class Pool:
    """A few links for statements of which several may be under way at once."""

    def __init__(self, links: list[Link]) -> None:
        self.links = links
        self._next = 0

    def pick(self) -> Link:
        """Return an idle link if there is one, the earliest first, so that few connections are made."""
        for link in self.links:
            if not link.busy:
                return link
        self._next = (self._next + 1) % len(self.links)
        return self.links[self._next]

    async def call(self, work: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Do as `Link.call`."""
        return await self.pick().call(work)

    async def fetch(self, name: str, *args: object) -> list[Any]:
        """Return the rows of a named statement."""
        return await self.pick().fetch(name, *args)

    async def first(self, name: str, *args: object) -> Any:
        """Return the first row of a named statement, or `None`."""
        return await self.pick().first(name, *args)

    async def value(self, name: str, *args: object) -> Any:
        """Return the first column of the first row of a named statement, or `None`."""
        return await self.pick().value(name, *args)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
