"""Shared money: no cap is ever passed, whoever asks, and nobody who waits for room is forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec

from tenuto.domain.budgets.escrow import (
    EVERYWHERE,
    NOW,
    Ask,
    Cap,
    Escrow,
    Place,
    Settled,
    Short,
    Wanted,
    window,
)
from tenuto.ports.store import Committed, Store
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import Journal


async def _cap(store: Store, limit: int, *, scope: str = "", period: str = "total", ns: str = "default") -> None:
    await store.put_cap(Cap(ns=ns, scope=scope, period=period, limit=limit, source="api"))


def _ask(n: int, usd: int, *, project: str = "", slot: str = "") -> Escrow:
    return Escrow(asks=[Ask(n=n, step="s", call=f"c{n}", usd=usd, project=project, slot=slot)])


async def _do(store: Store, journal: Journal, escrow: Escrow) -> Committed:
    return await journal.write(store, journal.next(escrow=escrow))


async def _total(store: Store, scope: str = "", ns: str = "default") -> tuple[int, int, int]:
    found = (await store.balances(ns)).get(Place(ns, scope, "total"))
    return (found.spent, found.held, found.unknown) if found is not None else (0, 0, 0)


class FundsSuite:
    """Caps, holds and waiting."""

    async def test_a_hold_counts_until_it_is_settled(self, store: Store) -> None:
        """What is held gives way to what was used, in every window, and the hold is gone."""
        journal = await kit.created(store)
        assert (await _do(store, journal, _ask(1, 500))).outcome == "ok"
        assert await _total(store) == (0, 500, 0)
        (hold,) = await store.holds("default")
        assert (hold.run, hold.n, hold.usd, hold.lost) == (journal.id, 1, 500, False)
        done = await _do(store, journal, Escrow(settled=[Settled(1, 120)]))
        assert done.freed
        assert await _total(store) == (120, 0, 0)
        assert await store.holds("default") == []
        now = await store.now()
        found = await store.balances("default")
        assert {place.window for place in found} == {window(period, now) for period in ("day", "month", "total")}
        assert {balance.spent for balance in found.values()} == {120}

    async def test_a_commit_without_room_leaves_nothing(self, store: Store) -> None:
        """It is refused with the cap and the numbers; the record can be written with another content."""
        await _cap(store, 1000)
        journal = await kit.created(store)
        assert (await _do(store, journal, _ask(1, 600))).outcome == "ok"
        done = await _do(store, journal, _ask(2, 401))
        assert done.outcome == "refused"
        (short,) = done.shorts
        assert (short.step, short.call, short.period, short.limit) == ("s", "c2", "total", 1000)
        assert (short.spent, short.held, short.ask, short.final) == (0, 600, 401, False)
        assert len(await store.records(journal.id)) == journal.seq
        assert await _total(store) == (0, 600, 0)
        assert (await _do(store, journal, _ask(2, 400))).outcome == "ok", "equality is allowed"

    async def test_what_no_refund_helps_is_final(self, store: Store) -> None:
        """An ask that does not fit beside what was spent is final, and says when its window ends."""
        await _cap(store, 100, period="day")
        journal = await kit.created(store)
        await _do(store, journal, _ask(1, 90))
        await _do(store, journal, Escrow(settled=[Settled(1, 90)]))
        (short,) = (await _do(store, journal, _ask(2, 11))).shorts
        assert short.final
        end = datetime.fromtimestamp(short.until / 1000, UTC)
        assert (end.hour, end.minute, end.second) == (0, 0, 0) and short.until > await store.now()

    async def test_asks_of_one_group_count_together(self, store: Store) -> None:
        """Of several runs in one group only those are refused that no room is left for."""
        await _cap(store, 100)
        journals = [await kit.created(store) for _ in range(4)]
        commits = [journal.next(escrow=_ask(1, 40)) for journal in journals]
        done = await store.commit(commits)
        assert sorted(item.outcome for item in done) == ["ok", "ok", "refused", "refused"]
        assert await _total(store) == (0, 80, 0)

    async def test_asks_of_one_record_count_together(self, store: Store) -> None:
        """A record with several asks stands wholly or not at all; the answer names those without room."""
        await _cap(store, 100)
        journal = await kit.created(store)
        asks = [Ask(n=n, step="s", call=f"c{n}", usd=60) for n in (1, 2)]
        done = await _do(store, journal, Escrow(asks=asks))
        assert [short.call for short in done.shorts] == ["c2"]
        assert await _total(store) == (0, 0, 0)

    async def test_neighbours_of_a_refused_commit_stand(self, store: Store) -> None:
        """Records without money, and those with room, are stored all the same, in any order of the group."""
        await _cap(store, 10)
        journals = [await kit.created(store) for _ in range(3)]
        commits = [journals[0].next(), journals[1].next(escrow=_ask(1, 11)), journals[2].next(escrow=_ask(1, 10))]
        assert [item.outcome for item in await store.commit(commits)] == ["ok", "refused", "ok"]

    async def test_a_fenced_commit_holds_nothing(self, store: Store) -> None:
        """What was never stored never counts."""
        await _cap(store, 1000)
        journal = await kit.created(store)
        rival = journal.next()
        late = journal.next(t=2, escrow=_ask(1, 300))
        other = await kit.created(store)
        assert [item.outcome for item in await store.commit([rival])] == ["ok"]
        done = await store.commit([late, other.next(escrow=_ask(1, 5))])
        assert [item.outcome for item in done] == ["fenced", "ok"]
        assert await _total(store) == (0, 5, 0)

    async def test_the_same_commit_again_counts_once(self, store: Store) -> None:
        """A commit whose answer was lost is sent again; its money counts once, also where it fills the cap."""
        await _cap(store, 100)
        journal = await kit.created(store)
        commit = journal.next(escrow=_ask(1, 100))
        first = await store.commit([commit])
        again = await store.commit([commit])
        assert [item.outcome for item in (*first, *again)] == ["ok", "ok"]
        assert await _total(store) == (0, 100, 0)

    async def test_a_lost_outcome_stays_held(self, store: Store) -> None:
        """Unknown money counts until somebody knows; then it is settled, by the run or beside it."""
        await _cap(store, 1000)
        journal = await kit.created(store)
        await _do(store, journal, _ask(1, 300))
        await _do(store, journal, Escrow(lost=[1]))
        assert await _total(store) == (0, 300, 300)
        await _do(store, journal, _ask(2, 700))
        assert (await _do(store, journal, _ask(3, 1))).outcome == "refused"
        await _do(store, journal, Escrow(lost=[2]))
        assert [hold.n for hold in await store.holds("default", lost=True)] == [1, 2]
        assert await store.holds("default", run_id=journal.id, lost=False) == []
        await _do(store, journal, Escrow(settled=[Settled(1, 50)]))
        assert await _total(store) == (50, 700, 700)
        assert await store.settle_lost("default", journal.id, 2, 700)
        assert not await store.settle_lost("default", journal.id, 2, 700)
        assert not await store.settle_lost("other", journal.id, 2, 700)
        assert await _total(store) == (750, 0, 0)

    async def test_one_record_may_tell_a_hold_s_whole_story(self, store: Store) -> None:
        """Asked for and lost, lost twice over, lost and settled: each counts once, and a provider's place is free again."""
        await _cap(store, 1000)
        await store.put_cap(Cap(ns=EVERYWHERE, scope="provider:p", period=NOW, limit=1))
        journal = await kit.created(store)
        asked = _ask(1, 300, slot="p")
        await _do(store, journal, msgspec.structs.replace(asked, lost=[1, 1]))
        assert await _total(store) == (0, 300, 300)
        assert [(hold.n, hold.lost) for hold in await store.holds("default")] == [(1, True)]
        await _do(store, journal, _ask(2, 40, slot="p"))
        await _do(store, journal, Escrow(lost=[2], settled=[Settled(2, 30)]))
        assert await _total(store) == (30, 300, 300)
        assert (await _do(store, journal, _ask(3, 1, slot="p"))).outcome == "ok"
        assert [hold.n for hold in await store.holds("default")] == [1, 3]

    async def test_a_hold_that_is_not_lost_is_the_run_s_alone(self, store: Store) -> None:
        """Nobody settles beside its run what the run still waits for."""
        journal = await kit.created(store)
        await _do(store, journal, _ask(1, 5))
        assert not await store.settle_lost("default", journal.id, 1, 5)

    async def test_more_than_was_held_is_an_overrun(self, store: Store) -> None:
        """Usage above a hold counts, and what passes the cap is noted apart."""
        await _cap(store, 100)
        journal = await kit.created(store)
        await _do(store, journal, _ask(1, 100))
        await _do(store, journal, Escrow(settled=[Settled(1, 130)]))
        balance = (await store.balances("default"))[Place("default", "", "total")]
        assert (balance.spent, balance.held, balance.overrun) == (130, 0, 30)

    async def test_projects_have_caps_of_their_own(self, store: Store) -> None:
        """A project's money counts for the project and for the namespace; others are not held up."""
        await _cap(store, 50, scope="project:a")
        journal = await kit.created(store)
        assert (await _do(store, journal, _ask(1, 60, project="a"))).shorts[0].scope == "project:a"
        assert (await _do(store, journal, _ask(1, 60, project="b"))).outcome == "ok"
        assert await _total(store) == (0, 60, 0)
        assert await _total(store, "project:b") == (0, 60, 0)

    async def test_namespaces_are_apart(self, store: Store) -> None:
        """Neither caps nor balances of one namespace touch another."""
        await _cap(store, 10, ns="a")
        other = await kit.created(store, ns="b")
        assert (await _do(store, other, _ask(1, 500))).outcome == "ok"
        assert await store.balances("a") == {}
        assert [cap.limit for cap in await store.caps("a")] == [10]
        assert await store.caps("b") == []
        assert await store.holds("a") == []

    async def test_places_of_a_provider_are_shared_by_all(self, store: Store) -> None:
        """Never more calls than the limit, in all namespaces together; a lost call's place is free again."""
        await _cap(store, 2, scope="provider:p", period="now", ns="*")
        journals = [await kit.created(store, ns=ns) for ns in ("a", "b", "c")]
        done = [await _do(store, journal, _ask(1, 0, slot="p")) for journal in journals]
        assert [item.outcome for item in done] == ["ok", "ok", "refused"]
        assert (done[2].shorts[0].scope, done[2].shorts[0].limit) == ("provider:p", 2)
        assert (await _do(store, journals[0], Escrow(lost=[1]))).freed
        assert (await _do(store, journals[2], _ask(1, 0, slot="p"))).outcome == "ok"
        assert (await _do(store, journals[1], Escrow(settled=[Settled(1, 0)]))).freed
        assert (await _do(store, journals[0], _ask(2, 0, slot="p"))).outcome == "ok"

    async def test_settings_leave_a_person_s_cap_alone(self, store: Store) -> None:
        """A cap from settings does not override one that was set by hand; removing names its source."""
        mine = Cap(ns="default", scope="", period="day", limit=7, source="api")
        await store.put_cap(mine)
        await store.put_cap(Cap(ns="default", scope="", period="day", limit=9))
        assert await store.caps("default") == [mine]
        assert not await store.drop_cap("default", "", "day", source="settings")
        assert await store.drop_cap("default", "", "day")
        assert not await store.drop_cap("default", "", "day")

    async def test_one_warning_a_window(self, store: Store) -> None:
        """Past its share a cap asks for a warning until a record gives it; a second one is refused."""
        await _cap(store, 100)
        first, second = await kit.created(store), await kit.created(store)
        await _do(store, first, _ask(1, 80))
        done = await _do(store, first, Escrow(settled=[Settled(1, 80)]))
        (warn,) = done.warn
        assert (warn.place, warn.limit, warn.spent) == (Place("default", "", "total"), 100, 80)
        assert (await _do(store, first, Escrow(warned=[warn.place]))).outcome == "ok"
        again = await _do(store, second, Escrow(warned=[warn.place]))
        assert (again.outcome, again.shorts) == ("refused", ())
        await _do(store, second, _ask(1, 10))
        assert (await _do(store, second, Escrow(settled=[Settled(1, 10)]))).warn == ()

    async def test_who_waits_is_told_of_room(self, store: Store, second_store: Store) -> None:
        """The longest waiting first, no more than there is room for, each once; asking ends the waiting."""
        await _cap(store, 100)
        holder = await kit.created(store)
        await _do(store, holder, _ask(1, 100))
        waiting = [await kit.created(store) for _ in range(3)]
        for n, journal in enumerate(waiting):
            want = Wanted(step="s", call="c1", usd=50, since=1000 - n)
            await _do(store, journal, Escrow(wanted=[want]))
        worker = kit.new_id()
        assert (await store.poll(worker)).waiters
        assert await store.take_waiters() == []
        assert [waiter.run for waiter in await store.waiters("default")] == [j.id for j in reversed(waiting)]
        await _do(store, holder, Escrow(settled=[Settled(1, 0)]))
        told = await store.take_waiters()
        assert [waiter.run for waiter in told] == [waiting[2].id, waiting[1].id]
        assert all(waiter.told_at for waiter in told)
        assert await second_store.take_waiters() == [], "what was offered a moment ago is taken"
        assert (await _do(store, waiting[2], _ask(1, 10))).outcome == "ok"
        assert (await _do(store, waiting[1], Escrow(heard=[("s", "c1")]))).outcome == "ok"
        assert [waiter.run for waiter in await second_store.take_waiters()] == [waiting[0].id]
        await store.drop_waiters(waiting[0].id)
        assert not (await store.poll(worker)).waiters

    async def test_a_higher_cap_makes_room(self, store: Store) -> None:
        """Raising a cap, or removing it, is room for those who wait."""
        await _cap(store, 10)
        journal = await kit.created(store)
        await _do(store, journal, Escrow(wanted=[Wanted(step="s", call="c", usd=50, since=1, final=True)]))
        assert await store.take_waiters() == []
        await _cap(store, 50)
        assert len(await store.take_waiters()) == 1

    async def test_many_at_once_never_pass_a_cap(self, store: Store, second_store: Store) -> None:
        """Two processes that ask and settle at the same time keep to the cap at every moment."""
        await _cap(store, 1000)
        shorts: list[Short] = []

        async def spend(on: Store, journal: Journal) -> None:
            for n in range(1, 9):
                done = await _do(on, journal, _ask(n, 100 + n))
                shorts.extend(done.shorts)
                spent, held, _ = await _total(on)
                assert spent + held <= 1000
                if done.outcome == "ok":
                    await _do(on, journal, Escrow(settled=[Settled(n, n)]))

        journals = [await kit.created(store) for _ in range(12)]
        await asyncio.gather(*(spend((store, second_store)[i % 2], journal) for i, journal in enumerate(journals)))
        assert await _total(second_store) == (sum(range(1, 9)) * 12 - sum(int(s.call[1:]) for s in shorts), 0, 0)
