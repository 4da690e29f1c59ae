"""Generated requests: every operation answers as its document says, whatever it is sent."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from tenuto.adapters.clock import SystemClock
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.api.server import serve
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.catalog import Catalog
from tenuto.settings import Settings

load_all_checks()
LEFT_OUT = {
    "ignored_auth",  # the server under test asks for no token; the edge's own tests cover it
    "positive_data_acceptance",  # ids that fit the schema name nothing
    "use_after_free",
    "ensure_resource_availability",
    "negative_data_rejection",  # an empty body of a command is a body left out
    "unsupported_method",
}


async def _serve(ready: list[str], started: threading.Event, stop: asyncio.Event, data_dir: Path) -> None:
    store = MemoryStore()
    await store.open()
    committer, bus = Committer(store), Bus()
    committer.start()
    engine = Engine(store, committer, Definitions(store), Catalog(), bus=bus, clock=SystemClock().now)

    def note(url: str) -> None:
        ready.append(url)
        started.set()

    await serve(engine, Settings(port=0, no_auth=True, data_dir=str(data_dir)), stop=stop, ready=note, out=io.StringIO())
    await committer.close()
    await store.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over an empty store, in a thread of its own."""
    ready: list[str] = []
    started = threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    work = _serve(ready, started, stop, tmp_path_factory.mktemp("fuzz"))
    thread = threading.Thread(target=lambda: loop.run_until_complete(work))
    thread.start()
    assert started.wait(20)
    yield ready[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


@pytest.fixture
def api(url: str) -> schemathesis.BaseSchema:
    """What the server says of itself; streams never end and are tested elsewhere."""
    return schemathesis.openapi.from_url(f"{url}/openapi.json").exclude(path_regex=r"/stream$")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
def test_every_operation_keeps_to_its_document(case: schemathesis.Case) -> None:
    """No fault of the server, no status or answer the document does not have."""
    case.call_and_validate(excluded_checks=[check for check in CHECKS.get_all() if check.__name__ in LEFT_OUT])
