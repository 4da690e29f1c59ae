"""A whole engine in one process on the memory store, with and without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.runtime.services.engine import Engine
from tenuto.wiring import Runtime, running
from tests.unit.services.harness import broken, make_app


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    broken.clear()
    async with running("memory:", make_app().catalog()) as found:
        yield found


@pytest.fixture
def engine(runtime: Runtime) -> Engine:
    return runtime.engine


@pytest.fixture
async def idle() -> AsyncIterator[Engine]:
    """An engine without a worker: runs stay as they were created."""
    async with running("memory:", make_app().catalog(), worker=False, store=MemoryStore()) as found:
        yield found.engine
