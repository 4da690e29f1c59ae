"""What calls cost: rows that are written again without harm, sums over them, and how long they stay."""

from __future__ import annotations

import asyncio
from typing import Any

from tenuto.ports.store import Store
from tenuto.ports.usage import BILLED, DAY_MS, UsageFilter, UsageRow, UsageSum
from tenuto.testing.conformance import kit


def _call(run: str, seq: int = 1, n: int = 0, **fields: Any) -> UsageRow:
    given: dict[str, Any] = {
        "ns": "default", "step": "s", "call": "model", "as_of": seq, "at": seq, "agent": "a", "workflow": "flow", **fields
    }  # fmt: skip
    return UsageRow(run_id=run, seq=seq, n=n, **given)


async def _total(store: Store, where: UsageFilter | None = None) -> UsageSum:
    (total,) = await store.sum_usage(where or UsageFilter())
    return total


class UsageSuite:
    """What a store keeps of what was paid."""

    async def test_nothing_used_is_a_sum_of_nothing(self, store: Store) -> None:
        """Without calls there is one empty sum, no group and no row."""
        assert await store.sum_usage(UsageFilter()) == [UsageSum()]
        assert await store.sum_usage(UsageFilter(run_id="not an id")) == [UsageSum()]
        assert await store.sum_usage(UsageFilter(), "model") == []
        assert await store.list_usage(UsageFilter(run_id="not an id")) == []
        await store.put_usage("a", [])
        assert await store.list_usage(UsageFilter()) == []

    async def test_usage_is_kept_as_it_was_put(self, store: Store) -> None:
        """Every field comes back, with figures beyond 32 bits."""
        row = _call(
            kit.new_id(), 7, 2, as_of=9, at=2**41, project="p", kind="tool", state="failed", provider="o", model="m",
            purpose="execution", tool="t", tokens=2**40, input_tokens=1, cached_tokens=2, cache_write_tokens=3,
            output_tokens=4, reasoning_tokens=5, cost_usd_micros=2**50 + 1,
        )  # fmt: skip
        await store.put_usage("a", [row])
        (found,) = await store.list_usage(UsageFilter())
        assert found.cursor
        row.cursor = found.cursor
        assert found == row

    async def test_writing_usage_again_changes_nothing(self, store: Store, second_store: Store) -> None:
        """Repeats in any order, in one call, from several processes: the row of the newest record stands."""
        run = kit.new_id()
        lost = _call(run, 3, state="unknown", cost_usd_micros=90)
        paid = _call(run, 3, as_of=8, state="settled", cost_usd_micros=50)
        await store.put_usage("a", [paid, lost])
        await second_store.put_usage("a", [lost])
        await asyncio.gather(*(s.put_usage("a", [lost, paid]) for s in (store, second_store) for _ in range(3)))
        total = await _total(store)
        assert (total.calls, total.unknown, total.cost_usd_micros, total.unknown_cost_usd_micros) == (1, 0, 50, 0)

    async def test_usage_is_summed_by_what_calls_have_in_common(self, store: Store) -> None:
        """Known and unknown amounts stand apart; groups come by cost, days newest first; a limit keeps the first."""
        one, two = kit.new_id(), kit.new_id()
        noon = 20_000 * DAY_MS
        await store.put_usage("a", [
            _call(one, 1, at=noon - 1, model="big", provider="x", tokens=10, input_tokens=7, cached_tokens=2,
                  output_tokens=3, reasoning_tokens=1, cost_usd_micros=1_000_001),
            _call(one, 2, at=noon, model="small", provider="x", project="p", tokens=30, input_tokens=20,
                  output_tokens=10, cache_write_tokens=4, cost_usd_micros=2),
            _call(two, 1, at=noon + DAY_MS - 1, model="small", provider="y", state="failed", tokens=5, cost_usd_micros=1),
            _call(two, 2, at=noon, model="big", provider="y", state="unknown", tokens=1000, cost_usd_micros=7_000_000),
            _call(two, 3, at=noon, kind="tool", tool="search", agent="b"),
        ])  # fmt: skip
        assert await _total(store) == UsageSum(
            runs=2, calls=5, failed=1, unknown=1, tokens=45, input_tokens=27, cached_tokens=2, cache_write_tokens=4,
            output_tokens=13, reasoning_tokens=1, cost_usd_micros=1_000_004, unknown_tokens=1000,
            unknown_cost_usd_micros=7_000_000,
        )  # fmt: skip
        groups = await store.sum_usage(UsageFilter(), "model")
        assert [(g.key, g.runs, g.calls, g.cost_usd_micros, g.unknown_cost_usd_micros) for g in groups] == [
            ("big", 2, 2, 1_000_001, 7_000_000), ("small", 2, 2, 3, 0), ("", 1, 1, 0, 0)
        ]  # fmt: skip
        days = await store.sum_usage(UsageFilter(), "day")
        assert [(g.key, g.calls, g.cost_usd_micros) for g in days] == [("2024-10-04", 4, 3), ("2024-10-03", 1, 1_000_001)]
        assert [g.key for g in await store.sum_usage(UsageFilter(), "run", 1)] == [one]
        for by, keys in {
            "provider": {"x", "y", ""}, "workflow": {"flow"}, "project": {"p", ""}, "agent": {"a", "b"}, "purpose": {""},
            "tool": {"search", ""}, "kind": {"model", "tool"}, "run": {one, two},
        }.items():  # fmt: skip
            assert {g.key for g in await store.sum_usage(UsageFilter(), by)} == keys, by  # type: ignore[arg-type]

    async def test_filters_of_usage_all_apply(self, store: Store) -> None:
        """Each alone picks one call, for sums and lists alike; bounds of time take the start and leave the end."""
        run, other = kit.new_id(), kit.new_id()
        given: dict[str, Any] = {
            "workflow": "w", "project": "p", "provider": "x", "model": "m", "agent": "n", "purpose": "u", "tool": "t",
            "kind": "tool", "state": "failed",
        }  # fmt: skip
        await store.put_usage("a", [_call(run, 5, **given), _call(other, 4), _call(other, 6), _call(other, 5, ns="other")])
        for where in (
            *(UsageFilter(**{name: value}) for name, value in given.items()), UsageFilter(**given, run_id=run),
            UsageFilter(run_id=run), UsageFilter(since=5, until=6),
        ):  # fmt: skip
            assert [row.run_id for row in await store.list_usage(where)] == [run], where
            assert (await _total(store, where)).calls == 1, where
        assert (await _total(store, UsageFilter(since=5))).calls == 2
        assert (await _total(store, UsageFilter(ns="other"))).calls == 1

    async def test_calls_are_listed_in_pages(self, store: Store) -> None:
        """Newest first, each once, also those of one millisecond and of one record."""
        runs = [kit.new_id() for _ in range(2)]
        rows = [_call(run, seq, n, at=seq // 2) for run in runs for seq in range(1, 5) for n in range(2)]
        await store.put_usage("a", rows)
        found: list[UsageRow] = []
        after = ""
        while page := await store.list_usage(UsageFilter(), after=after, limit=3):
            found += page
            after = page[-1].cursor
        order = sorted(((r.at, r.run_id, r.seq, r.n) for r in rows), reverse=True)
        assert [(r.at, r.run_id, r.seq, r.n) for r in found] == order
        assert len(await store.list_usage(UsageFilter(), after="foreign")) == len(rows)

    async def test_usage_outlives_its_run_and_a_rebuilding(self, store: Store) -> None:
        """A deleted run's calls stay, also when the projection begins anew; those of runs that exist are dropped."""
        kept = await kit.created(store)
        gone = await kit.owned_after(store, "w", kept)
        assert (await gone.write(store, gone.change("done"))).row_applied
        await store.put_usage("a", [_call(kept.id), _call(gone.id)])
        await store.put_usage("b", [_call(kept.id, 2)])
        assert await store.delete_runs("default", run_id=gone.id) == 1
        assert (await _total(store)).calls == 3
        await store.reset_projection("a")
        assert {(row.run_id, row.seq) for row in await store.list_usage(UsageFilter())} == {(gone.id, 1), (kept.id, 2)}

    async def test_a_bill_outlives_a_rebuilding(self, store: Store) -> None:
        """What no journal tells is neither dropped with what one does nor replaced by it."""
        run = await kit.created(store)
        await store.put_usage("a", [_call(run.id), _call(run.id, 2, state="unknown", cost_usd_micros=9)])
        await store.put_usage("a", [_call(run.id, 2, as_of=BILLED, cost_usd_micros=4)])
        await store.reset_projection("a")
        await store.put_usage("a", [_call(run.id, 2, state="unknown", cost_usd_micros=9)])
        assert [(row.seq, row.state, row.cost_usd_micros) for row in await store.list_usage(UsageFilter())] == [(2, "settled", 4)]

    async def test_usage_of_long_ago_can_be_forgotten(self, store: Store) -> None:
        """Only what is older goes, at most so much at a time."""
        run = kit.new_id()
        await store.put_usage("a", [_call(run, seq) for seq in range(1, 6)])
        assert await store.prune_usage(4, 2) == 2
        assert await store.prune_usage(4, 2) == 1
        assert await store.prune_usage(4) == 0
        assert [row.seq for row in await store.list_usage(UsageFilter())] == [5, 4]
