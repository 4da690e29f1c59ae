"""What no journal can hold is the affair of whoever says it, never of the runs beside it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from tenuto import App, Context
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.worker.attempts import Attempt
from tenuto.wiring import Runtime, running

HALF = "a \ud800 b"


class Unshowable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError


def app() -> App:
    made = App("t")

    @made.step
    async def raises(value: Any) -> None:
        raise ValueError(HALF)

    @made.step
    async def raises_unshowable(value: Any) -> None:
        raise Unshowable

    @made.step
    async def waits(ctx: Context) -> Any:
        return await ctx.wait_signal(HALF)

    @made.step
    async def asks(ctx: Context) -> Any:
        return await ctx.approve("May I?", data={"what": object()})

    @made.step
    async def says(ctx: Context) -> str:
        ctx.log("look", big=2**70, pair={(1, 2): 3}, half=HALF, long="x" * 50_000, own=ctx)
        return "said"

    @made.step
    async def fine(value: Any) -> int:
        return 1

    for step in (raises, raises_unshowable, waits, asks, says, fine):
        made.workflow(step.__name__).step(step, id="s")
    return made


@pytest.fixture
async def runtime(url: str) -> Any:
    async with running(url, app().catalog()) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "told"),
    [("raises", "a ? b"), ("raises_unshowable", "Unshowable"), ("waits", "surrogates"), ("asks", "object")],
)
async def test_the_step_fails_and_the_others_go_on(runtime: Runtime, name: str, told: str):
    async with asyncio.timeout(20):
        outcome = await runtime.engine.runs.execute(name, {})
        assert (outcome.status, (await runtime.engine.runs.execute("fine", {})).status) == ("failed", "completed")
    assert outcome.error is not None
    assert told in outcome.error.message


async def test_a_run_that_cannot_be_written_is_refused_and_the_others_go_on(runtime: Runtime):
    async with asyncio.timeout(20):
        assert (await runtime.engine.runs.execute("fine", {})).status == "completed"
        with pytest.raises(UnicodeEncodeError):
            await runtime.engine.runs.start("fine", {}, goal=HALF)
        assert (await runtime.engine.runs.execute("fine", {})).status == "completed"


async def test_what_a_step_says_cannot_fail_it_because_somebody_watches(runtime: Runtime):
    run = runtime.engine.context.ids.new()
    lines: list[Any] = []
    with runtime.bus.subscribe(run) as watch:
        watch.hears = True
        started = await runtime.engine.runs.submit(StartRun(id=run, workflow="says", input={}))
        view = await runtime.engine.runs.get(started.id, wait_s=20)
        lines = [line for _, line in watch.said()]
    assert (view.status, view.output) == ("completed", {"s": "said"})
    (line,) = lines
    assert line.fields["half"] == "a ? b"
    assert len(str(line.fields["long"])) <= 10_000
    assert set(line.fields) == {"big", "pair", "half", "long", "own"}


async def test_an_attempt_that_ended_is_not_left_to_the_garbage_collector(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    made: list[weakref.ref[Attempt]] = []

    class Seen(Attempt):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(weakref.ref(self))

    monkeypatch.setattr("tenuto.runtime.worker.actor.Attempt", Seen)
    gc.disable()
    try:
        assert (await runtime.engine.runs.execute("fine", {})).status == "completed"
        async with asyncio.timeout(10):
            while any(ref() is not None for ref in made):
                await asyncio.sleep(0)
    finally:
        gc.enable()
    assert len(made) == 1
