"""A store that any thread and any event loop may use: it lives on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tenuto.errors import InvalidSettings
from tenuto.ports.store import Store

T = TypeVar("T")
Work = Callable[[Store], Coroutine[Any, Any, T]]


class Line:
    """A way to a store, opened when it is first used.

    Args:
        make: Opens and returns the store.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Store]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: Store | None = None
        self._closed = False
        self._accepted: set[asyncio.Task[Any]] = set()

    def now(self, work: Work[T]) -> T:
        """Do some work on the store and block this thread until it is done.

        Raises:
            InvalidSettings: The store cannot be opened, or the line is closed.
        """
        loop = self._running()
        return asyncio.run_coroutine_threadsafe(self._do(work), loop).result()

    async def soon(self, work: Work[T]) -> T:
        """Do some work on the store; the caller's loop goes on meanwhile.

        Raises:
            InvalidSettings: The store cannot be opened, or the line is closed.
        """
        loop = self._running()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._do(work), loop))

    def close(self) -> None:
        """Finish what was accepted and release the store; idempotent, and final."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._release(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise InvalidSettings("the saver is closed; make another one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._opening = asyncio.Lock()
                threading.Thread(target=_serve, args=(self._loop,), name="tenuto-bridge", daemon=True).start()
            return self._loop

    async def _do(self, work: Work[T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)
        async with self._opening:
            if self._store is None:
                self._store = await self._make()
        return await work(self._store)

    async def _release(self) -> None:
        # Only what was accepted: the store has tasks of its own, which end when it is closed.
        await asyncio.gather(*self._accepted, return_exceptions=True)
        store, self._store = self._store, None
        if store is not None:
            await store.close()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
