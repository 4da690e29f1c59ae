"""What every group of the store's methods works with."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from tenuto.adapters.stores.sqlite.connection import Connect
from tenuto.adapters.stores.sqlite.readers import Readers
from tenuto.adapters.stores.sqlite.writer import Writer

LOOK_S = 0.05


class Parts:
    """The connections of one process.

    Attributes:
        taker: Marks the outbox rows that this process is delivering.
    """

    def __init__(
        self, connect: Connect, connect_reader: Connect, clock: Callable[[], int], readers: int
    ) -> None:
        self.clock = clock
        self.connect = connect
        self.taker = secrets.randbits(62) + 1
        self.hints = Hints()
        self.writer = Writer(connect, clock, self.hints.poke)
        self.readers = Readers(connect_reader, readers)
        self.writer.start()

    def health(self) -> str:
        """Return what is wrong, or an empty text."""
        return self.writer.trouble or self.readers.trouble

    async def wait(self, timeout_s: float) -> None:
        """Return when something may be found to do, or after the time; others' commits are looked for meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while not self.hints.take():
            version = await self.writer.foreign_version()
            if self.hints.version not in (-1, version):
                self.hints.version = version
                return
            self.hints.version = version
            left = until - loop.time()
            if left <= 0:
                return
            await self.hints.wait(min(LOOK_S, left))

    async def close(self) -> None:
        """Finish what was accepted and release the connections."""
        await self.writer.stop()
        await self.readers.stop()


class Hints:
    """Whether this process itself gave somebody something to do."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self.version = -1

    def poke(self) -> None:
        """Wake those who wait, or the next one who does."""
        self._heard.set()

    def take(self) -> bool:
        """Tell whether there was a poke since the last call."""
        heard = self._heard.is_set()
        self._heard.clear()
        return heard

    async def wait(self, timeout_s: float) -> None:
        """Return at a poke or after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._heard.wait()
        except TimeoutError:
            pass


class Part:
    """A group of the store's methods; `SqliteStore` joins the groups."""

    @property
    def parts(self) -> Parts:
        """The connections; only between `open` and `close`."""
        raise NotImplementedError
