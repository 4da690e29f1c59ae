"""Who may move a run: claims, leases, takeovers, tasks."""

from __future__ import annotations

import asyncio

from tenuto.domain.runs import wire
from tenuto.domain.runs.events import LeaseTaken
from tenuto.ports.store import Store, TaskRow, WorkerRow
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import FAR_AWAY_MS, LONG_MS


def _task(run: str, name: str, handler: str = "h") -> TaskRow:
    return TaskRow(
        id=f"{run}/{name}/1", ns="default", run_id=run, step=name, attempt=1, handler=handler, body=b"{}"
    )


class OwnershipSuite:
    """Claims, leases, takeovers and tasks."""

    async def test_each_run_goes_to_one_claimer(self, store: Store, second_store: Store) -> None:
        """Many claimers at once share the runs out without one run given twice or left behind."""
        journals = [kit.Journal() for _ in range(40)]
        await store.commit([journal.creation() for journal in journals])
        for worker in ["w", *(f"w{n}" for n in range(12))]:
            await kit.enlist(store, worker)
        rounds = await asyncio.gather(*(
            (store if n % 2 else second_store).claim(f"w{n}", 5) for n in range(12)
        ))  # fmt: skip
        taken = [claim for claims in rounds for claim in claims]
        while rest := await store.claim("w", 100):
            taken += rest
        assert sorted(kit.ids(taken)) == sorted(journal.id for journal in journals)
        assert {claim.epoch for claim in taken} == {1}
        for n, claims in enumerate(rounds):
            for claim in claims:
                row = await store.get_run(claim.run_id)
                assert row is not None and (row.state, row.worker) == ("owned", f"w{n}")

    async def test_a_claim_says_what_is_needed(self, store: Store) -> None:
        """A claim carries namespace, epoch, definition, the newest message's number, and how the run stood before."""
        journal = await kit.created(store, "team", digest="sha256:d")
        await store.send(journal.id, "k", b"{}")
        await kit.enlist(store, "w")
        (claim,) = await store.claim("w", 1)
        assert (claim.run_id, claim.ns, claim.epoch, claim.digest) == (journal.id, "team", 1, "sha256:d")
        assert (claim.inbox_seq, claim.stolen_from, claim.status) == (1, None, "queued")
        row = await store.get_run(journal.id)
        assert row is not None and (row.status, row.worker) == ("running", "w")

    async def test_only_living_workers_take_runs(self, store: Store) -> None:
        """A worker whose lease has ended, or that nobody knows, claims and steals nothing."""
        await kit.owned(store, "gone")
        waiting = await kit.created(store)
        await store.unregister("gone")
        await kit.enlist(store, "dead", 0)
        for worker in ("dead", "unknown", "gone"):
            assert await store.claim(worker, 10) == []
            assert await store.steal(worker, 10) == []
        await kit.enlist(store, "dead")
        assert kit.ids(await store.claim("dead", 10)) == [waiting.id]
        assert len(await store.steal("dead", 10)) == 1

    async def test_excluded_definitions_are_left_alone(self, store: Store) -> None:
        """A worker that cannot serve a definition leaves its runs to others."""
        mine = await kit.created(store, digest="sha256:mine")
        other = await kit.created(store, digest="sha256:other")
        await kit.enlist(store, "w")
        assert kit.ids(await store.claim("w", 10, ["sha256:other"])) == [mine.id]
        assert kit.ids(await store.claim("w", 10)) == [other.id]

    async def test_priority_first_then_the_longest_waiting(self, store: Store) -> None:
        """High before medium before low; within one priority the run that waits longest."""
        now = await store.now()
        low = await kit.created(store, priority=2, wake_at=now - 3000)
        newer = await kit.created(store, priority=1, wake_at=now - 1000)
        older = await kit.created(store, priority=1, wake_at=now - 2000)
        high = await kit.created(store, priority=0, wake_at=now - 500)
        await kit.enlist(store, "w")
        order = [kit.ids(await store.claim("w", 1)) for _ in range(5)]
        assert order == [[high.id], [older.id], [newer.id], [low.id], []]

    async def test_ageing_lets_no_run_starve(self, store: Store) -> None:
        """A low run that has waited for very long goes before a high one that has just come."""
        now = await store.now()
        high = await kit.created(store, t=now, priority=0)
        low = await kit.created(store, t=now - 3_600_000, priority=2)
        await kit.enlist(store, "w")
        assert kit.ids(await store.claim("w", 2)) == [low.id, high.id]

    async def test_a_run_starts_at_its_time(self, store: Store) -> None:
        """A run with a start in the future is not claimable; one whose start has passed is."""
        now = await store.now()
        await kit.created(store, wake_at=now + FAR_AWAY_MS)
        due = await kit.created(store, wake_at=now - 1)
        await kit.enlist(store, "w")
        assert kit.ids(await store.claim("w", 10)) == [due.id]
        assert not (await store.poll("w")).claimable

    async def test_a_parked_run_wakes_by_time_alone(self, store: Store) -> None:
        """Parked until a moment, a run is claimable from then on; without one, only a message wakes it."""
        now = await store.now()
        timer = await kit.owned(store, "w")
        await timer.write(store, timer.change("waiting", wake_at=now - 1))
        forever = await kit.owned_after(store, "w", timer)
        await forever.write(store, forever.change("waiting"))
        later = await kit.owned_after(store, "w")
        await later.write(store, later.change("waiting", wake_at=now + FAR_AWAY_MS))
        row = await store.get_run(later.id)
        assert row is not None
        assert (row.state, row.status, row.wake_at, row.worker) == ("waiting", "waiting", now + FAR_AWAY_MS, None)
        assert await store.claim("w", 10) == []

    async def test_a_due_timer_makes_a_claim(self, store: Store) -> None:
        """The wake-up moves the epoch on, so nothing written before can be mistaken for it."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.change("waiting", wake_at=await store.now() - 1))
        assert (await store.poll("w")).claimable
        (claim,) = await store.claim("w", 10)
        assert (claim.run_id, claim.epoch) == (journal.id, journal.epoch + 1)
        row = await store.get_run(journal.id)
        assert row is not None and (row.state, row.wake_at) == ("owned", 0)

    async def test_a_heartbeat_never_revives_an_ended_lease(self, store: Store) -> None:
        """Extending works while the lease runs; after its end, or without a worker, the answer is `None`."""
        before = await store.now()
        await kit.enlist(store, "live")
        await kit.enlist(store, "dead", 0)
        beat = await store.heartbeat("live", LONG_MS)
        assert beat is not None and beat >= before
        assert await store.heartbeat("dead", LONG_MS) is None
        assert await store.heartbeat("nobody", LONG_MS) is None
        leases = {worker.id: worker.lease_until for worker in await store.workers()}
        assert leases["live"] > before + LONG_MS - 1000
        assert leases["dead"] <= await store.now()

    async def test_workers_are_listed_with_what_they_serve(self, store: Store) -> None:
        """Registering again replaces the row; the manifest is what was announced."""
        await store.register(WorkerRow(id="w", host="a", pid=7, manifest=b'{"x":1}'), LONG_MS)
        await store.register(WorkerRow(id="w", host="b", pid=8, manifest=b'{"x":2}'), LONG_MS)
        (worker,) = await store.workers()
        assert (worker.id, worker.host, worker.pid, worker.manifest) == ("w", "b", 8, b'{"x":2}')
        await store.unregister("w")
        assert await store.workers() == []

    async def test_a_running_lease_protects(self, store: Store, second_store: Store) -> None:
        """Runs of a worker whose lease runs cannot be stolen."""
        journal = await kit.owned(store, "w1")
        await kit.enlist(second_store, "w2")
        assert await second_store.steal("w2", 10) == []
        assert not (await second_store.poll("w2")).expired
        assert (await journal.write(store)).outcome == "ok"

    async def test_a_takeover_is_in_the_journal(self, store: Store, second_store: Store) -> None:
        """The thief gets the next epoch and a `LeaseTaken` record that continues the chain; time never goes back."""
        journal = await kit.owned(store, "w1")
        ahead = await store.now() + FAR_AWAY_MS
        await journal.write(store, journal.next(t=ahead))
        await store.register(WorkerRow(id="w1"), 0)
        await kit.enlist(second_store, "w2")
        assert (await second_store.poll("w2")).expired
        (claim,) = await second_store.steal("w2", 10)
        assert (claim.run_id, claim.epoch, claim.stolen_from) == (journal.id, journal.epoch + 1, "w1")
        records = await store.records(journal.id)
        wire.verify(journal.id, wire.ZERO, records)
        assert (records[-1].seq, records[-1].epoch) == (journal.seq + 1, claim.epoch)
        body = wire.decode(records[-1])
        assert body.ev == (LeaseTaken(epoch=claim.epoch, by="w2", from_="w1"),)
        assert body.t == ahead
        row = await store.get_run(journal.id)
        assert row is not None and (row.state, row.worker, row.epoch) == ("owned", "w2", claim.epoch)
        assert (journal.id, records[-1].seq) in [place for group in await store.tail({}) for place in group.runs]
        assert await second_store.steal("w2", 10) == []

    async def test_a_zombie_never_writes(self, store: Store, second_store: Store) -> None:
        """After a takeover the old owner is refused, even when it writes before the new owner's first record."""
        journal = await kit.owned(store, "w1")
        await journal.write(store)
        mine = await kit.stolen(second_store, journal, "w2")
        assert (await journal.write(store)).outcome == "fenced"
        behind = journal.twin()
        behind.seq, behind.chain = mine.seq, mine.chain
        assert (await behind.write(store)).outcome == "fenced"
        (answer,) = await store.commit([behind.change("done")])
        assert (answer.outcome, answer.row_applied) == ("fenced", False)
        assert (await mine.write(second_store)).outcome == "ok"
        assert (await journal.write(store)).outcome == "fenced"
        records = await store.records(journal.id)
        wire.verify(journal.id, wire.ZERO, records)
        epochs = [record.epoch for record in records]
        assert epochs == sorted(epochs)

    async def test_a_departed_worker_leaves_its_runs_at_once(self, store: Store, second_store: Store) -> None:
        """Runs of a worker that unregistered, or was declared dead, are stealable without waiting for the lease."""
        gone = await kit.owned(store, "w1")
        dead = await kit.owned_after(store, "w2")
        await kit.enlist(second_store, "w3")
        assert await second_store.steal("w3", 10) == []
        await store.unregister("w1")
        assert kit.ids(await second_store.steal("w3", 10)) == [gone.id]
        assert await second_store.adopt("w3", "w2") == 1
        assert await store.heartbeat("w2", LONG_MS) is None
        (claim,) = await second_store.steal("w3", 10)
        assert (claim.run_id, claim.stolen_from) == (dead.id, "w2")
        assert await second_store.adopt("w3", "nobody") == 0

    async def test_thieves_share_what_a_dead_worker_left(self, store: Store, second_store: Store) -> None:
        """Each of a dead worker's runs goes to exactly one of many thieves, one record each."""
        journals = [kit.Journal() for _ in range(30)]
        await store.commit([journal.creation() for journal in journals])
        await kit.enlist(store, "dead")
        while await store.claim("dead", 100):
            pass
        await store.unregister("dead")
        await kit.enlist(store, "a")
        await kit.enlist(store, "b")
        taken = [claim for claims in await asyncio.gather(
            store.steal("a", 20), second_store.steal("b", 20), store.steal("a", 20), second_store.steal("b", 20)
        ) for claim in claims]  # fmt: skip
        while rest := await store.steal("a", 100):
            taken += rest
        assert sorted(kit.ids(taken)) == sorted(journal.id for journal in journals)
        for journal in journals:
            records = await store.records(journal.id)
            assert [record.epoch for record in records] == [0, 2]
            wire.verify(journal.id, wire.ZERO, records)

    async def test_a_worker_sees_what_it_owns(self, store: Store, second_store: Store) -> None:
        """Owned runs are told with their epochs; parked, ended and others' runs are not."""
        mine = await kit.owned(store, "w1")
        parked = await kit.owned_after(store, "w1")
        other = await kit.owned_after(second_store, "w2")
        assert set(await second_store.owned("w1")) == {(mine.id, mine.epoch), (parked.id, parked.epoch)}
        await parked.write(store, parked.change("waiting"))
        assert await store.owned("w1") == [(mine.id, mine.epoch)]
        assert await store.owned("w2") == [(other.id, other.epoch)]
        assert await store.owned("nobody") == []

    async def test_a_worker_retakes_what_it_lost_sight_of(self, store: Store, second_store: Store) -> None:
        """Its own run gets the next epoch and a `LeaseTaken` record; what is not its own, or has moved on, stays."""
        lost = await kit.owned(store, "w1")
        await lost.write(store)
        other = await kit.owned_after(second_store, "w2")
        parked = await kit.owned_after(store, "w1")
        await parked.write(store, parked.change("waiting"))
        asked = [(lost.id, lost.epoch), (other.id, other.epoch), (parked.id, parked.epoch), ("no id", 1)]
        assert await store.retake("w1", [(lost.id, lost.epoch - 1)]) == []
        (claim,) = await store.retake("w1", asked)
        assert (claim.run_id, claim.epoch, claim.stolen_from) == (lost.id, lost.epoch + 1, "w1")
        records = await store.records(lost.id)
        wire.verify(lost.id, wire.ZERO, records)
        assert wire.decode(records[-1]).ev == (LeaseTaken(epoch=claim.epoch, by="w1", from_="w1"),)
        assert (lost.id, records[-1].seq) in [place for group in await store.tail({}) for place in group.runs]
        assert (await lost.write(store)).outcome == "fenced"
        assert await store.retake("w1", asked) == []
        assert await store.retake("w1", []) == []
        await store.register(WorkerRow(id="w1"), 0)
        assert await store.retake("w1", [(lost.id, claim.epoch)]) == []

    async def test_a_poll_knows_what_there_is_to_do(self, store: Store, second_store: Store) -> None:
        """Claimable runs, our unread messages, ended leases, undelivered messages and waiting tasks, each told."""
        await kit.enlist(store, "w")
        idle = await store.poll("w")
        assert (idle.claimable, idle.inbox, idle.expired, idle.outbox, idle.tasks) == (False, (), False, False, False)
        assert abs(idle.now - await store.now()) < 60_000
        journal = await kit.created(store)
        assert (await second_store.poll("w")).claimable
        (claim,) = await store.claim("w", 1)
        journal.epoch = claim.epoch
        await store.send(journal.id, "k", b"{}")
        assert (await store.poll("w")).inbox == (journal.id,)
        assert (await store.poll("other")).inbox == ()
        await journal.write(store, journal.next(eaten=[1], tasks=[_task(journal.id, "s")]))
        found = await store.poll("w")
        assert (found.inbox, found.tasks) == ((), True)

    async def test_a_hint_ends_when_another_process_commits(self, store: Store, second_store: Store) -> None:
        """Waiting ends early when there is something new; without it, after the time."""
        await store.wait_hint(0)
        waiting = asyncio.create_task(store.wait_hint(30))
        async with asyncio.timeout(15):
            while not waiting.done():
                await kit.created(second_store)
                await asyncio.wait([waiting], timeout=0.2)
        await waiting

    async def test_a_task_goes_to_one_executor_that_knows_its_handler(
        self, store: Store, second_store: Store
    ) -> None:
        """Waiting attempts are handed out once, oldest first, to those who serve the handler."""
        await kit.enlist(store, "e1")
        await kit.enlist(store, "e2")
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tasks=[_task(journal.id, f"s{n}") for n in range(6)]))
        assert await store.take_tasks("e1", 10, ["other"]) == []
        rounds = await asyncio.gather(
            store.take_tasks("e1", 2, ["h"]), second_store.take_tasks("e2", 2, ["h"]),
            store.take_tasks("e1", 2, ["h"]), second_store.take_tasks("e2", 2, ["h"]),
        )  # fmt: skip
        taken = [task for tasks in rounds for task in tasks]
        taken += await store.take_tasks("e1", 10, ["h", "other"])
        assert sorted(task.step for task in taken) == [f"s{n}" for n in range(6)]
        assert {task.run_id for task in taken} == {journal.id}
        assert {task.worker for task in taken} == {None}
        assert not (await store.poll("w")).tasks

    async def test_a_task_is_taken_over_and_dropped_by_its_holder_only(self, store: Store) -> None:
        """An attempt of a dead executor goes to another, who learns of whom; whoever lost it can no longer remove it."""
        await kit.enlist(store, "e1")
        await kit.enlist(store, "e2")
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.next(tasks=[_task(journal.id, "s"), _task(journal.id, "t")]))
        assert len(await store.take_tasks("e1", 10, ["h"])) == 2
        assert await store.take_tasks("e2", 10, ["h"]) == []
        await store.unregister("e1")
        assert (await store.poll("e2")).tasks
        assert [task.worker for task in await store.take_tasks("e2", 10, ["h"])] == ["e1", "e1"]
        assert not await store.drop_task(f"{journal.id}/s/1", "e1")
        assert await store.drop_task(f"{journal.id}/s/1", "e2")
        assert not await store.drop_task(f"{journal.id}/s/1", "e2")
        await journal.write(store, journal.next(tasks_done=[f"{journal.id}/t/1"]))
        assert not await store.drop_task(f"{journal.id}/t/1", "e2")
