"""What changes saved: told when there are enough runs, and marked where things got worse."""

from __future__ import annotations

import asyncio

import pytest

from tenuto.errors import Unavailable
from tenuto.ports.optimizers import Statistics
from tenuto.runtime.optimizer.gains import compare
from tenuto.runtime.optimizer.looking import keep_looking

NOTHING = (None, None)


def took(ms: float, runs: int = 20, failed: int = 0, steps: float = 3.0, cost: float = 0.0) -> Statistics:
    return Statistics(runs=runs, failed=failed, p50_ms=ms, steps=steps, cost_usd_micros=cost)


def test_nothing_is_claimed_of_too_few_runs():
    """Neither of the new version nor against too few of the former one; failed runs are runs."""
    few = compare(took(100), took(50, runs=3), NOTHING, 20)
    assert (few.status, few.note, few.ms, few.worse) == ("waiting", "not enough runs yet (3 of 20)", None, "")
    assert compare(took(100, runs=2), took(50), NOTHING, 20).note == "not enough runs of the former version (2 of 20)"
    assert compare(took(100), took(50, runs=15, failed=5), NOTHING, 20).status == "measured"


def test_what_was_saved_is_the_difference_and_may_be_negative():
    """Median time, and averages of steps, requests and cost; where nothing is known, nothing is said."""
    found = compare(took(100, cost=500), took(80, steps=2.0, cost=600), (4.0, 2.0), 20)
    assert (found.ms, found.steps, found.requests, found.cost_usd_micros) == (20.0, 1.0, 2.0, -100.0)
    lost = compare(took(100), Statistics(failed=20, steps=1.0), NOTHING, 20)
    assert (lost.status, lost.ms, lost.requests) == ("measured", None, None)


@pytest.mark.parametrize(("after", "worse"), [
    (took(111, cost=100), "a run takes 111 ms instead of 100"), (took(109, cost=100), ""), (took(50, cost=100), ""),
    (took(100, cost=112), "a run costs 0.000112 USD instead of 0.000100"), (took(100, cost=108), ""),
    (took(100, 18, 2, cost=100), "10% of the runs fail instead of 0%"), (took(100, 19, 1, cost=100), ""),
    (took(200, cost=900), "a run takes 200 ms instead of 100; a run costs 0.000900 USD instead of 0.000100"),
])  # fmt: skip
def test_what_got_worse_is_named(after: Statistics, worse: str):
    """Slower or costlier by more than a tenth, or failing more often; noise is not."""
    assert compare(took(100, cost=100), after, NOTHING, 20).worse == worse


def test_times_of_a_few_milliseconds_are_noise():
    """They are whole ones: 1 ms more is no tenth of anything."""
    assert compare(took(1), took(3), NOTHING, 20).worse == ""
    assert compare(took(1), took(4), NOTHING, 20).worse != ""


async def test_only_who_leads_looks_and_an_outage_is_outlived():
    """Whoever does not lead asks nobody; a look that fails is followed by the next."""
    looks, led = list[int](), list[int]()
    done = asyncio.Event()

    async def look() -> int:
        looks.append(len(led))
        if len(looks) == 1:
            raise Unavailable("the store is away")
        if len(looks) == 2:
            raise RecursionError("what nobody has foreseen")
        done.set()
        return 1

    def leads() -> bool:
        led.append(1)
        return len(led) > 2

    task = asyncio.ensure_future(keep_looking(look, 0, leads))
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    assert looks[:3] == [3, 4, 5]
