"""Work in flight that its owner left without a word is lost, however the next owner comes by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenuto import App
from tenuto.domain.runs.events import LeaseTaken
from tenuto.domain.runs.wire import decode
from tenuto.runtime.worker import actor, opening
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, running

OPTIONS = WorkerOptions(lease_ms=3000, idle_s=0.05)


class Paying:
    """A step with an effect that never comes to its end the first time."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Event] = []
        self.app = App("t")

        @self.app.step(effect="effect")
        async def pay(value: Any) -> str:
            self.begun.append(asyncio.Event())
            if len(self.begun) == 1:
                await asyncio.Event().wait()
            return "paid"

        self.app.workflow("w").step(pay, id="pay")

    @asynccontextmanager
    async def started(self, url: str) -> AsyncGenerator[tuple[Runtime, str]]:
        """Run on a worker until the effect is under way."""
        async with running(url, self.app.catalog(), options=OPTIONS) as runtime:
            run = (await runtime.engine.runs.start("w", {})).id
            async with asyncio.timeout(10):
                while not self.begun:
                    await asyncio.sleep(0)
            yield runtime, run

    async def is_asked_about(self, runtime: Runtime, run: str) -> None:
        """The effect is not repeated before a person has said what became of it; the journal says why."""
        async with asyncio.timeout(20):
            while not (found := (await runtime.engine.tickets.list(kind="unknown_outcome", run=run)).items):
                assert len(self.begun) == 1, "the effect was repeated"
                await runtime.store.wait_hint(0.05)
        await runtime.engine.tickets.decide(found[0].id, "retry")
        view = await runtime.engine.runs.get(run, wait_s=20)
        assert (view.status, view.output, len(self.begun)) == ("completed", {"pay": "paid"}, 2)
        assert (await runtime.engine.audit.verify(run)).ok


async def takings(runtime: Runtime, run: str) -> list[LeaseTaken]:
    events = [event for item in await runtime.store.records(run) for event in decode(item).ev]
    return [event for event in events if isinstance(event, LeaseTaken)]


@pytest.fixture
def shared(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/t.db"


async def test_a_stolen_run_given_back_for_want_of_a_handler_keeps_its_loss(shared: str):
    paying = Paying()
    async with paying.started(shared) as (able, run), running(shared, App("other").catalog(), options=OPTIONS) as unable:
        assert able.worker is not None and unable.worker is not None
        await unable.store.adopt(unable.worker.id, able.worker.id)
        unable.worker.runs.nudge.set()
        await paying.is_asked_about(able, run)
        assert [taken.by for taken in await takings(able, run)] == [unable.worker.id, able.worker.id]


async def test_a_run_stopped_with_work_in_flight_has_lost_it(url: str, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    paying = Paying()
    async with paying.started(url) as (runtime, run):
        with monkeypatch.context() as patch:
            patch.setattr(actor, "decide", broken)
            await runtime.engine.runs.signal(run, "anything")
            async with asyncio.timeout(10):
                while (await runtime.engine.runs.get(run)).status != "paused":
                    await asyncio.sleep(0)
        await runtime.engine.runs.resume(run)
        await paying.is_asked_about(runtime, run)
        (taken,) = await takings(runtime, run)
        assert runtime.worker is not None
        assert (taken.by, taken.from_) == (runtime.worker.id, runtime.worker.id)


async def test_a_run_of_a_newer_version_is_not_taken_over_and_over(url: str, monkeypatch: pytest.MonkeyPatch):
    app = App("t")
    app.workflow("w").approval("ask", message="May I?")
    async with running(url, app.catalog(), options=OPTIONS) as runtime:
        run = (await runtime.engine.runs.start("w", {})).id
        async with asyncio.timeout(10):
            while (await runtime.store.get_run(run)).state != "waiting":  # type: ignore[union-attr]
                await asyncio.sleep(0)

        def newer(*_: Any) -> Any:
            raise opening.UnknownEvent("run.dreamt")

        with monkeypatch.context() as patch:
            patch.setattr(opening, "restore", newer)
            await runtime.engine.runs.signal(run, "anything")
            async with asyncio.timeout(10):
                while (row := await runtime.store.get_run(run)) is None or row.state != "ready" or row.epoch < 2:
                    await asyncio.sleep(0)
            assert (row.epoch, row.wake_at > await runtime.store.now()) == (2, True), "it is left to others for a while"
        (ticket,) = (await runtime.engine.tickets.list(run=run)).items
        await runtime.engine.tickets.decide(ticket.id, "approve")
        assert (await runtime.engine.runs.get(run, wait_s=20)).status == "completed"
