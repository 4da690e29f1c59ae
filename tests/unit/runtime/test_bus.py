"""Waiting for a run's end: told by the bus, given up by a sweep, paid for by nobody alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from msgspec import Raw

from tenuto.domain.runs.events import Body, RunCompleted, RunStarted
from tenuto.runtime.bus import END_WITHIN_S, Bus
from tenuto.testing.loop import VirtualLoop

END = RunCompleted(output=Raw(b"1"))


def lived(work: Coroutine[Any, Any, Any]) -> tuple[Any, VirtualLoop]:
    """Run a coroutine in virtual time; return what it returns, and the loop."""
    loop = VirtualLoop()
    return loop.run_until_complete(work), loop


def test_whoever_waits_is_told_of_the_end_and_of_nothing_else() -> None:
    async def wait() -> Any:
        bus = Bus()
        end, other = bus.end_of("a"), bus.end_of("b")
        bus.publish("a", 1, Body(1, (RunStarted(),)))
        assert not end.done()
        bus.publish("a", 2, Body(2, (END,)))
        assert not other.done()
        return await end

    told, loop = lived(wait())
    assert told == END and loop.time() == 0.0


def test_a_run_that_ends_elsewhere_is_given_up_after_one_to_two_periods() -> None:
    async def wait() -> tuple[float, float]:
        bus, loop = Bus(), asyncio.get_running_loop()
        first = bus.end_of("a")
        await asyncio.sleep(END_WITHIN_S / 2)
        began, second = loop.time(), bus.end_of("b")
        assert await first is None
        gone = loop.time()
        assert not second.done()
        assert await second is None
        return gone, loop.time() - began

    (first, second), _ = lived(wait())
    assert first == END_WITHIN_S
    assert END_WITHIN_S <= second <= 2 * END_WITHIN_S


class Counting(VirtualLoop):
    """Counts the timers that are armed."""

    armed = 0

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        self.armed += 1
        return super().call_later(delay, callback, *args, context=context)


def test_many_who_wait_share_one_timer_and_none_is_armed_again_when_nobody_waits() -> None:
    async def wait() -> list[int]:
        bus = Bus()
        for i in range(1000):
            bus.end_of(str(i))
        for i in range(1000):
            bus.forget_end(str(i))
        busy, loop.armed = loop.armed, 0
        await asyncio.sleep(3 * END_WITHIN_S)  # a timer of its own
        return [busy, loop.armed]

    loop = Counting()
    assert loop.run_until_complete(wait()) == [1, 1]
