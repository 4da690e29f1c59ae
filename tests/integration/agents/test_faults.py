"""What goes wrong with models and tools, end to end: a provider over HTTP, `tenuto worker` as a process, SQLite."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tenuto.ports.providers import Provider, Providers
from tenuto.runtime.services.engine import Engine
from tenuto.testing.servers import Answer, Asked, OpenAiServer, ToolUse
from tenuto.testing.servers.script import Rates
from tenuto.wiring import running
from tests.integration.agents.faults_app import app

ROOT = Path(__file__).parents[3]
CANARY = "sk-canary-93b1c7"
APP = "tests.integration.agents.faults_app:app"
SCRIPTS: dict[str, list[Answer]] = {
    "busy": [Answer(status=429, message="too many", retry_after="2"), Answer(text="ok")],
    "cut": [Answer(text="half of it", cut_after=0, input_tokens=90, output_tokens=9), Answer(text="ok")],
    "never": [Answer(text="x", cut_after=0)],
    "malformed": [
        Answer(tools=(ToolUse("add", '{"a": 1, "b"'), ToolUse("add", {"a": 1, "b": "two"}))), Answer(text="ok"),
    ],
    "hang": [Answer(tools=(ToolUse("look"),)), Answer(text="ok")],
    "lost": [Answer(tools=(ToolUse("pay"),)), Answer(text="ok")],
    "echo": [Answer(status=400, message=f"the key {CANARY} may not do this")],
}


@dataclass
class Place:
    """Where all of it happens: a database, a worker of its own process, a provider on a thread."""

    folder: Path
    server: OpenAiServer
    env: dict[str, str]
    times: dict[int, float] = field(default_factory=dict[int, float])

    @property
    def url(self) -> str:
        """Return the database."""
        return f"sqlite:///{self.folder}/t.db"

    @property
    def log(self) -> str:
        """Return what the worker has logged."""
        return (self.folder / "worker.log").read_text()

    def asked(self, run: str) -> list[Asked]:
        """Return the requests made for a run."""
        return [asked for asked in self.server.asked if asked.key.startswith(run)]

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """Open the database for a client."""
        names = ("mine", "narrow", "keyless")
        providers = {name: Provider(name=name, base_urls=(self.server.base_url,)) for name in names}
        async with running(self.url, app.catalog(), worker=False, providers=Providers(providers=providers)) as runtime:
            yield runtime.engine


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One provider and one worker for all of these tests."""
    folder = tmp_path_factory.mktemp("faults")
    counts: dict[str, int] = {}
    times: dict[int, float] = {}

    def script(asked: Asked) -> Answer:
        times[asked.n] = time.monotonic()
        prompt = next(message["content"] for message in asked.body["messages"] if message["role"] == "user")
        run = asked.key.partition("/")[0]
        counts[run] = counts.get(run, 0) + 1
        answers = SCRIPTS[prompt]
        return answers[min(counts[run], len(answers)) - 1]

    with _served(OpenAiServer(script, rates=Rates(input="3", output="15"), secret=CANARY)) as server:
        mine: dict[str, Any] = {"base_urls": [server.base_url], "key_env": "MINE_API_KEY"}
        env = {
            **os.environ, "MINE_API_KEY": CANARY, "TENUTO_HOME": str(folder), "TENUTO_STOP_GRACE_S": "0.2",
            "TENUTO_PROVIDERS": json.dumps(
                {"mine": mine, "narrow": {**mine, "window": 100}, "keyless": {**mine, "key_env": "NO_SUCH_API_KEY"}}
            ),
            "TENUTO_PRICES": json.dumps({"mine:m": {"input_usd": 3, "output_usd": 15}}),
        }
        found = Place(folder, server, env, times)
        command = [sys.executable, "-m", "tenuto", "worker", APP, "--database", found.url]
        with (folder / "worker.log").open("wb") as out:
            worker = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield found
        finally:
            worker.kill()
            worker.wait()


class _served:
    """A server on a loop and a thread of its own, as long as the block lasts."""

    def __init__(self, server: OpenAiServer) -> None:
        self._server = server
        self._ready: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    async def _serve(self) -> None:
        async with self._server:
            self._ready.set_result(None)
            await self._stop.wait()

    def __enter__(self) -> OpenAiServer:
        self._thread.start()
        self._ready.result(10)
        return self._server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


async def ended(engine: Engine, run: str) -> Any:
    return await engine.runs.result(run, timeout_s=60)


async def events(engine: Engine, run: str) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in (await engine.history.events(run, limit=1000)).items]


async def test_a_busy_provider_is_left_alone_as_long_as_it_says_and_why_tells_so(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("busy")).id
        async with asyncio.timeout(60):
            while (await engine.runs.get(run)).status != "waiting":
                await asyncio.sleep(0.02)  # another process works on it
        why = await engine.runs.why(run)
        view = await ended(engine, run)
    assert "mine:m asks to come back later (status 429): too many; try 2 of 6 follows" in why.summary
    assert why.waits[0].until is not None
    assert view.output["a"]["content"] == "ok"
    first, second = place.asked(run)
    assert first.key == second.key
    assert place.times[second.n] - place.times[first.n] >= 2
    assert view.budget.unknown.get("cost_usd_micros", 0) == 0


async def test_an_answer_that_broke_off_is_flagged_and_paid_for_until_somebody_knows(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("cut")).id
        view, happened = await ended(engine, run), await events(engine, run)
    assert view.output["a"]["content"] == "ok"
    assert len({asked.key for asked in place.asked(run)}) == 1
    assert len(place.asked(run)) == 2
    holds = [data["reserved"]["cost_usd_micros"] for kind, data in happened if kind == "call.started"]
    known = [data["used"]["cost_usd_micros"] for kind, data in happened if kind == "call.completed"]
    assert [kind for kind, _ in happened].count("call.unknown") == 1
    assert view.budget.unknown["cost_usd_micros"] == holds[0] > 0
    assert view.budget.spent["cost_usd_micros"] == holds[0] + known[0]
    billed = sum(bill.cost_usd_micros for bill in place.server.bills if bill.key.startswith(run))
    assert known[0] < billed <= view.budget.spent["cost_usd_micros"]


async def test_a_request_that_always_breaks_off_fails_and_its_reservation_stays(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("never")).id
        view, happened = await ended(engine, run), await events(engine, run)
    assert (view.status, view.error.code, len(place.asked(run))) == ("failed", "model.cut", 1)
    assert [kind for kind, _ in happened].count("call.unknown") == 1
    assert view.budget.unknown["cost_usd_micros"] == view.budget.spent["cost_usd_micros"] > 0
    assert view.budget.reserved.get("cost_usd_micros", 0) == 0


async def test_malformed_arguments_go_back_to_the_model_and_reach_no_tool(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("malformed")).id
        view, happened = await ended(engine, run), await events(engine, run)
    assert (view.output["a"]["content"], view.output["a"]["bad_calls"]) == ("ok", 2)
    told = [message["content"] for message in place.asked(run)[1].body["messages"] if message["role"] == "tool"]
    assert "its arguments are no JSON object" in told[0]
    assert "/b" in told[1]
    assert "its arguments do not fit" in told[1]
    assert {data["kind"] for kind, data in happened if kind == "call.started"} == {"model"}


async def test_a_tool_that_hangs_is_cancelled_and_reported(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("hang")).id
        view, happened = await ended(engine, run), await events(engine, run)
    assert view.output["a"]["content"] == "ok"
    failed = [data["error"] for kind, data in happened if kind == "call.failed"]
    assert [error["code"] for error in failed] == ["tool.timed_out"]
    told = place.asked(run)[1].body["messages"][-1]["content"]
    assert "tool 'look' gave no result within 0.2 s and was cancelled" in told


async def test_an_effect_that_hangs_is_unknown_and_a_person_is_asked(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("lost")).id
        async with asyncio.timeout(60):
            while not (found := (await engine.tickets.list(run=run, state="open")).items):
                await asyncio.sleep(0.02)  # another process works on it
        assert (found[0].kind, len(place.asked(run))) == ("unknown_outcome", 1)
        await engine.tickets.decide(found[0].id, "succeeded", data={"paid": True}, by="ann")
        view, happened = await ended(engine, run), await events(engine, run)
    assert view.output["a"]["tools"] == {"pay": {"paid": True}}
    assert [kind for kind, _ in happened].count("call.unknown") == 1
    assert json.loads(place.asked(run)[1].body["messages"][-1]["content"]) == {"paid": True}


async def test_a_prompt_larger_than_the_window_is_refused_before_it_is_sent(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("long", {"text": "x" * 9000})).id
        view = await ended(engine, run)
    assert (view.status, view.error.code) == ("failed", "model.prompt_too_long")
    assert "window of narrow:m holds 100" in view.error.message
    assert not place.asked(run)
    assert view.budget.spent.get("cost_usd_micros", 0) == 0


async def test_a_missing_key_is_named_by_the_worker_the_doctor_and_the_error(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("keyless")).id
        view = await ended(engine, run)
    assert (view.status, view.error.code) == ("failed", "model.key_missing")
    assert "NO_SUCH_API_KEY" in view.error.message
    assert not place.asked(run)
    warned = [line for line in place.log.splitlines() if "keyless:m" in line and "WARNING" in line]
    assert "NO_SUCH_API_KEY" in warned[0]
    command = [sys.executable, "-m", "tenuto", "doctor", APP, "--database", place.url]
    told = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=place.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert "NO_SUCH_API_KEY" in told.stdout
    assert CANARY not in told.stdout + told.stderr


async def test_a_key_is_in_no_file_event_or_log_even_when_the_provider_shows_it(place: Place) -> None:
    async with place.engine() as engine:
        run = (await engine.runs.start("echo")).id
        view = await ended(engine, run)
        seen = f"{view!r} {await events(engine, run)!r} {await engine.runs.why(run)!r}"
    assert (view.status, view.error.code) == ("failed", "model.refused")
    assert "the key *** may not do this" in view.error.message
    assert all(asked.secret for asked in place.server.asked)
    files = {path.name: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    assert {"t.db", "worker.log"} <= files.keys()
    assert b"may not do this" in b"".join(files.values())
    for name, body in {**files, "shown": seen.encode()}.items():
        assert CANARY.encode() not in body, name
