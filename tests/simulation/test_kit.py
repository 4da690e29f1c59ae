"""The parts of the kit: a loop whose time jumps, processes that freeze and die, a store that may not answer."""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context
from random import Random

import pytest

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.ports.store import WorkerRow
from tenuto.testing import Fault, Faults, FaultyStore, Stalled, VirtualClock, VirtualLoop, run_virtual
from tenuto.testing.clock import store_clock
from tenuto.testing.loop import NODE, cancel_all


def test_a_year_of_sleep_takes_no_time():
    async def work() -> float:
        await asyncio.sleep(365 * 86_400)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run_virtual(work()) == 365 * 86_400
    assert time.perf_counter() - began < 1


def test_timeouts_and_executors_work():
    async def work() -> list[int]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        assert loop.time() == 5
        return [await loop.run_in_executor(None, abs, -3), *(await asyncio.gather(asyncio.sleep(2, 1), asyncio.sleep(1, 2)))]

    assert run_virtual(work()) == [3, 1, 2]


def test_a_wait_that_nothing_can_end_is_reported():
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stalled):
        run_virtual(work())


def test_a_frozen_node_goes_on_where_it_was_and_a_dead_one_never_does():
    loop = VirtualLoop()
    seen: list[tuple[str, float]] = []

    async def tick(name: str) -> None:
        while True:
            await asyncio.sleep(1)
            seen.append((name, loop.time()))

    for name in ("a", "b"):
        context = copy_context()
        context.run(NODE.set, name)
        loop.create_task(tick(name), context=context)

    async def main() -> None:
        await asyncio.sleep(1.5)
        loop.freeze("a")
        loop.kill("b")
        await asyncio.sleep(3)
        loop.thaw("a")
        await asyncio.sleep(0.6)

    loop.run_until_complete(main())
    cancel_all(loop)
    assert seen == [("a", 1), ("b", 1), ("a", 4.5)]


def test_a_clock_is_wrong_until_it_learns_better():
    clock = VirtualClock(skew_ms=500)
    before = clock.now()
    clock.advance(2)
    assert clock.now() - before == 2000
    clock.adjust(before - 500)
    assert clock.now() == before - 500


def test_a_request_reaches_the_store_though_the_one_who_asked_has_died():
    loop = VirtualLoop()
    store = MemoryStore(store_clock(loop.time))
    faults = Faults(Random(1), [Fault("steal.crash", 0.0, 1.0)])
    died: list[str] = []
    faults.kill = lambda node: (died.append(node), loop.kill(node))[0]
    faulty = FaultyStore(store, faults, "w").as_store()
    context = copy_context()
    context.run(NODE.set, "w")
    answered: list[object] = []

    async def worker() -> None:
        await faulty.register(WorkerRow(id="w"), 1000)
        answered.append("registered")
        answered.append(await faulty.steal("w", 5))

    async def main() -> None:
        loop.create_task(worker(), context=context)
        await asyncio.sleep(5)

    loop.run_until_complete(main())
    cancel_all(loop)
    assert answered == ["registered"]
    assert died == ["w"]
    assert faults.happened["steal.crash"] == 1


def test_an_outage_holds_answers_back_until_it_is_over():
    async def work() -> float:
        loop = asyncio.get_running_loop()
        faults = Faults(Random(1))
        faults.out_until = 30.0
        faulty = FaultyStore(MemoryStore(store_clock(loop.time)), faults)
        assert faulty.health()
        await faulty.as_store().now()
        assert not faulty.health()
        return loop.time()

    assert 30 <= run_virtual(work()) < 31
