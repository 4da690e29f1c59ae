"""Generated requests: every operation answers as its document says, whatever it is sent."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.schemas import APIOperation

from tenuto.adapters.clock import SystemClock
from tenuto.adapters.objects.memory import MemoryDepot
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.api.app import create_app
from tenuto.api.server import serve
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.bus import Bus
from tenuto.runtime.committer import Committer
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.optimizer.options import Optimizing
from tenuto.runtime.optimizer.panel import Panel
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.tools.catalog import Catalog
from tenuto.settings import Settings
from tenuto.wiring import builtin_optimizers, open_sandbox

load_all_checks()
EXAMPLES = 8
KEPT = {
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
}  # fmt: skip


async def _serve(ready: list[str], started: threading.Event, stop: asyncio.Event, data_dir: Path) -> None:
    store = MemoryStore()
    await store.open()
    committer, bus = Committer(store), Bus()
    committer.start()
    panel = Panel(Optimizing(open=open_sandbox, builtin=builtin_optimizers))
    engine = Engine(
        store, committer, Definitions(store), Catalog(), bus=bus, clock=SystemClock().now, panel=panel,
        shelf=Shelf(store, MemoryDepot(), spool=data_dir / "spool"),
    )

    def note(url: str) -> None:
        ready.append(url)
        started.set()

    await serve(engine, Settings(port=0, no_auth=True, data_dir=str(data_dir)), stop=stop, ready=note, out=io.StringIO())
    panel.close()
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


def _operations() -> list[APIOperation[Any, Any, Any, Any]]:
    """Return what the application says of itself; streams never end and are tested elsewhere."""
    app = create_app(cast("Engine", None), Settings(no_auth=True))
    schema = schemathesis.openapi.from_dict(app.openapi()).exclude(path_regex=r"/stream$")
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fit", "unfit"])
@pytest.mark.parametrize("operation", _operations(), ids=lambda operation: operation.label)
def test_every_operation_keeps_to_its_document(
    url: str, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode
) -> None:
    """No fault of the server, no status or answer the document does not have."""
    checks = [check for check in CHECKS.get_all() if check.__name__ in KEPT]

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=url, checks=checks)

    try:
        send()
    except Unsatisfiable:
        pytest.skip("nothing about this operation can be unfit")
