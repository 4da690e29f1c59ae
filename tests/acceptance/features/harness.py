"""What the tests of features share: runs to their end, what happened in them, an HTTP client, a victim process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx

from tenuto import App
from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.api.server import serve
from tenuto.domain.runs.public import PublicEvent
from tenuto.domain.runs.views import RunView, StepView
from tenuto.runtime.services.engine import Engine
from tenuto.settings import Settings

LONG_S = 20
VICTIM = Path(__file__).with_name("victim.py")


async def ended(engine: Engine, run_id: str) -> RunView:
    """Wait until a run has ended or stopped."""
    return await engine.runs.result(run_id, timeout_s=LONG_S)


async def ran(engine: Engine, workflow: Any, given: Any = None, **options: Any) -> RunView:
    """Start a run and wait for its end."""
    started = await engine.runs.start(workflow, given, **options)
    return await ended(engine, started.id)


async def seen(engine: Engine, run_id: str, wanted: Callable[[PublicEvent], bool] | str) -> PublicEvent:
    """Follow a run until an event comes, given by its type or by a condition."""
    test = (lambda event: event.type == wanted) if isinstance(wanted, str) else wanted
    async with asyncio.timeout(LONG_S), aclosing(cast("Any", engine.history.stream(run_id))) as stream:
        async for event in stream:
            if test(event):
                return event
    raise AssertionError(f"run {run_id} ended without {wanted}")


async def events(engine: Engine, run_id: str) -> list[PublicEvent]:
    """Return everything that happened in a run."""
    return (await engine.history.events(run_id, limit=1000)).items


async def types(engine: Engine, run_id: str) -> list[str]:
    """Return the types of a run's events, in order."""
    return [event.type for event in await events(engine, run_id)]


def steps(view: RunView) -> dict[str, StepView]:
    """Return a run's steps by id."""
    return {step.id: step for step in view.steps}


def statuses(view: RunView) -> dict[str, str]:
    """Return the status of each step by its id."""
    return {step.id: step.status for step in view.steps}


@asynccontextmanager
async def served(app: App, url: str, home: Path, **options: Any) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """Yield an app's engine and a client of its API."""
    async with app.engine(url, **options) as engine:
        api = create_app(engine, Settings(data_dir=str(home)), auth=Auth("", required=False))
        transport = httpx.ASGITransport(api)
        base = "http://127.0.0.1/api/v1"
        async with httpx.AsyncClient(transport=transport, base_url=base, timeout=60) as client:
            yield engine, client


@asynccontextmanager
async def reachable(app: App, url: str, home: Path, **options: Any) -> AsyncIterator[tuple[Engine, str]]:
    """Yield an app's engine behind a real server, and its address."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = Settings(port=0, no_auth=True, data_dir=str(home))
    async with app.engine(url, **options) as engine:
        serving = asyncio.ensure_future(serve(engine, settings, stop=stop, ready=ready.set_result, out=io.StringIO()))
        try:
            yield engine, await ready
        finally:
            stop.set()
            await asyncio.wait_for(serving, 10)


@asynccontextmanager
async def listening(app: App, url: str, home: Path, **options: Any) -> AsyncIterator[tuple[Engine, Callable[..., Any]]]:
    """Yield an app's engine behind a real server, and the command line talking to it: `await command(*argv)`."""
    async with reachable(app, url, home, **options) as (engine, address):

        async def command(*argv: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(cli, *argv, TENUTO_API_URL=address, TENUTO_HOME=str(home))

        yield engine, command


class Gate:
    """Holds code at a place: `reached` says that it came there, `open` lets it go on."""

    def __init__(self) -> None:
        """Begin closed."""
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = 0

    async def __call__(self) -> None:
        """Wait here until the gate is open."""
        self.reached.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def wait(self) -> None:
        """Wait until somebody is here."""
        await asyncio.wait_for(self.reached.wait(), LONG_S)


class Ledger:
    """Effects as a file that outlives processes: one line each."""

    def __init__(self, path: Path) -> None:
        """Use a file, which need not exist."""
        self.path = path

    def write(self, what: str, **facts: Any) -> None:
        """Add an effect, in one write."""
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"what": what, **facts}) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all effects, in order."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def names(self) -> list[str]:
        """Return what happened, in order."""
        return [entry["what"] for entry in self.read()]


def killed_in(scenarios: Sequence[str], url: str, ledger: Ledger) -> dict[str, str]:
    """Start runs in a process of its own, SIGKILL it when each is where it hangs; return the runs by scenario."""
    process = subprocess.Popen(
        [sys.executable, str(VICTIM), url, str(ledger.path), *scenarios], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        runs = {scenario: process.stdout.readline().strip() for scenario in scenarios}
        reached = [process.stdout.readline().strip() for _ in scenarios]
        assert reached == ["reached"] * len(scenarios), (runs, reached)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return runs


def cli(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would."""
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", "tenuto", *argv], capture_output=True, text=True, env=env, timeout=30, check=False
    )
