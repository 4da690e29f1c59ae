"""The window slides exactly: on a clock of the test's own, no minute ever holds more than the limit, and none wastes room."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.sqlite import SqliteStore
from tenuto.ports.starts import WINDOW_MS
from tenuto.ports.store import Store
from tenuto.runtime.services.pace import tier_of

Clock = Callable[[], int]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("limit", [1, 5])
async def test_no_minute_holds_more_than_the_limit_and_none_less_than_it_could(kind: str, limit: int, tmp_path: Path):
    now, rng, taken = 1_000_000, random.Random(limit), list[int]()

    def clock() -> int:
        return now

    store: Store = MemoryStore(clock) if kind == "memory" else SqliteStore(tmp_path / "t.db", clock=clock)
    await store.open()
    try:
        for number in range(400):
            now += rng.choice((0, 1, 900, 7_000, 59_999, 60_000) if number % 9 == 0 else (0, 1, 2_000))
            turn = await store.take_start("default", "ann", "heavy", str(number), limit)
            held = [at for at in taken if at > now - WINDOW_MS]
            assert turn.taken == (len(held) < limit)
            if turn.taken:
                taken.append(now)
                assert turn.count == len(held) + 1
            else:
                assert turn.count == limit
                assert turn.wait_ms == held[0] + WINDOW_MS - now
                if number % 5 == 0:  # to the millisecond: not a moment earlier, and then at once
                    now += turn.wait_ms - 1
                    assert not (await store.take_start("default", "ann", "heavy", f"{number}-early", limit)).taken
                    now += 1
                    assert (await store.take_start("default", "ann", "heavy", f"{number}-due", limit)).taken
                    taken.append(now)
        assert len(taken) > 50
        assert all(sum(at <= other < at + WINDOW_MS for other in taken) <= limit for at in taken)
    finally:
        await store.close()


def test_the_tier_follows_the_number_of_agents():
    assert [tier_of(agents) for agents in (0, 1, 2, 3, 50)] == ["simple", "standard", "standard", "heavy", "heavy"]
