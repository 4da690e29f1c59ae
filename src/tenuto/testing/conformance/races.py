"""Many hands at once: no wake-up lost, no message twice, one linear journal."""

from __future__ import annotations

import asyncio
import random

from tenuto.domain.runs import wire
from tenuto.ports.store import Claim, Commit, Store
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import Journal

RUNS = 6
MESSAGES = 25


class RaceSuite:
    """Hammering with two stores on one database."""

    async def test_no_wake_up_is_lost(self, store: Store, second_store: Store) -> None:
        """Senders race with an owner that parks whenever it has read everything; in the end all was read, once."""
        journals = {journal.id: journal for journal in [await kit.created(store) for _ in range(RUNS)]}
        await kit.enlist(store, "w")
        read: dict[str, list[str]] = {run: [] for run in journals}
        stop = asyncio.Event()

        async def send(run: str, through: Store) -> None:
            for n in range(MESSAGES):
                assert await through.send(run, f"m{n}", b"%d" % n) == "accepted"
                if n % 5 == 0:
                    await asyncio.sleep(0)

        async def own(journal: Journal) -> None:
            """Read until there is nothing new, then park; keep the run when parking is left out."""
            seen = 0
            while True:
                fresh = await store.inbox(journal.id, seen)
                read[journal.id] += [message.key for message in fresh]
                seen = max([seen, *(message.n for message in fresh)])
                commit = journal.change("waiting", inbox_seen=seen)
                commit.eaten = [message.n for message in fresh]
                answer = await journal.write(store, commit)
                assert answer.outcome == "ok"
                if answer.row_applied:
                    return

        async def work() -> None:
            last = False
            while True:
                claims = await store.claim("w", 3)
                for claim in claims:
                    journals[claim.run_id].epoch = claim.epoch
                await asyncio.gather(*(own(journals[claim.run_id]) for claim in claims))
                if not claims and last:
                    return
                last = stop.is_set()
                await asyncio.sleep(0)

        worker = asyncio.create_task(work())
        await asyncio.gather(*(
            send(run, store if n % 2 else second_store) for n, run in enumerate(journals)
        ))  # fmt: skip
        stop.set()
        await worker
        for run, journal in journals.items():
            assert read[run] == [f"m{n}" for n in range(MESSAGES)]
            assert await store.inbox(run) == []
            row = await store.get_run(run)
            assert row is not None and (row.state, row.inbox_seq) == ("waiting", MESSAGES)
            assert wire.verify(run, wire.ZERO, await store.records(run)) == journal.chain

    async def test_rivals_for_positions_leave_one_linear_journal(self, store: Store, second_store: Store) -> None:
        """Writers that fight for the same runs through two stores: each position has one winner, who was told so."""
        run_ids = [(await kit.created(store)).id for _ in range(4)]
        won: dict[tuple[str, int], bytes] = {}

        async def fight(through: Store, seed: int) -> None:
            chance = random.Random(seed)
            for turn in range(15):
                mine: list[Commit] = []
                for run in chance.sample(run_ids, 3):
                    journal = Journal(run_id=run)
                    await journal.catch_up(through)
                    mine.append(journal.next(t=1000 * seed + turn))
                for commit, answer in zip(mine, await through.commit(mine), strict=True):
                    assert commit.record is not None
                    if answer.outcome == "ok":
                        place = (commit.run_id, commit.record.seq)
                        assert place not in won
                        won[place] = commit.record.chain

        await asyncio.gather(*(fight(store if n % 2 else second_store, n) for n in range(1, 7)))
        for run in run_ids:
            records = await store.records(run)
            wire.verify(run, wire.ZERO, records)
            assert [won[run, record.seq] for record in records[1:]] == [record.chain for record in records[1:]]
        assert len(won) + len(run_ids) == sum([len(await store.records(run)) for run in run_ids])

    async def test_zombies_and_thieves(self, store: Store, second_store: Store) -> None:
        """Owners that lose their lease while they write never get a record in after the takeover."""
        journals = [kit.Journal() for _ in range(5)]
        await store.commit([journal.creation() for journal in journals])
        owner = "w0"
        await kit.enlist(store, owner)
        while claims := await store.claim(owner, 10):
            for journal in journals:
                journal.epoch = next((c.epoch for c in claims if c.run_id == journal.id), journal.epoch)
        for journal in journals:
            journal.took(journal.creation())

        async def keep_writing(mine: list[Journal]) -> int:
            fenced = 0
            for _ in range(6):
                commits = [journal.next() for journal in mine]
                for journal, commit, answer in zip(mine, commits, await store.commit(commits), strict=True):
                    if answer.outcome == "ok":
                        journal.took(commit)
                    else:
                        fenced += 1
            return fenced

        for turn in range(1, 4):
            zombies = [journal.twin() for journal in journals]
            thief = f"w{turn}"
            await kit.enlist(second_store, thief)
            writing = asyncio.create_task(keep_writing(zombies))
            await second_store.unregister(owner)
            claims: list[Claim] = []
            while len(claims) < len(journals):
                claims += await second_store.steal(thief, 2)
            epochs = {claim.run_id: claim.epoch for claim in claims}
            for journal in journals:
                journal.epoch = epochs[journal.id]
                await journal.catch_up(second_store)
            await writing
            assert await keep_writing(zombies) == 30
            assert await keep_writing(journals) == 0
            owner = thief
        for journal in journals:
            records = await store.records(journal.id)
            wire.verify(journal.id, wire.ZERO, records)
            epochs_seen = [record.epoch for record in records]
            assert epochs_seen == sorted(epochs_seen)
