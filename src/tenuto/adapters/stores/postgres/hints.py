"""Wake-ups between processes: at most one empty notification in ten milliseconds, never on the commit's connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from tenuto.adapters.stores.postgres import faults
from tenuto.adapters.stores.postgres.link import Link, Pool
from tenuto.errors import StatementRefused

CHANNEL = "tenuto"
INTERVAL_S = 0.01


class Hints:
    """Tells other processes that there is work, and hears the same from them."""

    def __init__(self, pool: Pool, listener: Link, ours: Callable[[], set[int]]) -> None:
        self._pool = pool
        self._listener = listener
        self._ours = ours
        self._heard = asyncio.Event()
        self._wanted = False
        self._telling: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[None] | None = None
        self._listening: Any = None

    def poke(self) -> None:
        """Have others woken soon, and whoever waits in this process now; returns at once."""
        self._heard.set()
        self._wanted = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def wait(self, timeout_s: float) -> None:
        """Return when somebody has poked since the last call, or after the time."""
        if self._listening is None or self._listening.is_closed():
            self._listening = None
            if self._joining is None or self._joining.done():
                # On its own, so that a short wait does not cut off a connection in the making.
                self._joining = asyncio.get_running_loop().create_task(self._listen())
        try:
            async with asyncio.timeout(timeout_s):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()

    async def close(self) -> None:
        """Stop telling and listening."""
        tasks = [task for task in (self._telling, self._joining) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._pool.value("notify", CHANNEL)
            except (asyncpg.PostgresError, StatementRefused):
                return  # others find the work by polling
            await asyncio.sleep(INTERVAL_S)

    async def _listen(self) -> None:
        try:
            connection = await self._listener.probe()
            await connection.add_listener(CHANNEL, self._hear)
        except Exception as error:
            if faults.classify(error) is None:
                raise
            return  # the next wait tries again
        connection.add_termination_listener(self._lose)
        if connection.is_closed():
            self._lose(connection)  # it went before anybody was told
        self._listening = connection

    def _lose(self, _connection: Any) -> None:
        self._heard.set()  # who waits must not wait for a connection that is gone

    def _hear(self, _connection: Any, pid: int, _channel: str, _payload: str) -> None:
        if pid not in self._ours():
            self._heard.set()
