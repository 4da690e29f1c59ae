"""The journal: dense, fenced, whole or not at all."""

from __future__ import annotations

import asyncio

import pytest

from tenuto.domain.runs import wire
from tenuto.errors import KeyReused
from tenuto.ports.store import Commit, OutboxRow, RowChange, Store, TaskRow, TicketRow
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import DIGEST, Journal


def _ticket(run: str, ticket: str = "t1") -> TicketRow:
    return TicketRow(id=ticket, ns="default", run_id=run, step="s", kind="approval", created_at=5)


class JournalSuite:
    """Appending and reading back."""

    async def test_records_come_back_as_they_were_stored(self, store: Store) -> None:
        """Bodies, chains and epochs are kept byte by byte, in order, and pages follow each other."""
        journal = await kit.created(store)
        for _ in range(5):
            await journal.write(store)
        records = await store.records(journal.id)
        assert [record.seq for record in records] == [1, 2, 3, 4, 5, 6]
        assert wire.verify(journal.id, wire.ZERO, records) == journal.chain
        assert await store.records(journal.id, 2, 2) == records[2:4]
        assert await store.records(journal.id, 6) == []
        assert await store.records(kit.new_id()) == []

    async def test_one_of_two_writers_of_a_position_is_fenced(self, store: Store, second_store: Store) -> None:
        """The later writer of a position is refused; its neighbours in the group stand."""
        journal, neighbour = await kit.created(store), await kit.created(store)
        rival = journal.twin()
        assert (await journal.write(store)).outcome == "ok"
        beside = neighbour.next()
        answers = await second_store.commit([rival.next(t=2), beside])
        assert [answer.outcome for answer in answers] == ["fenced", "ok"]
        assert [record.chain for record in await store.records(journal.id, 1)] == [journal.chain]
        assert len(await store.records(neighbour.id)) == 2

    async def test_a_record_may_change_the_graph_its_run_goes_by(self, store: Store) -> None:
        """The row names the new graph once the record stands, and no neighbour's; beside a fenced record it stays."""
        journal, neighbour = await kit.created(store), await kit.created(store)
        zombie, graph = journal.twin(), "sha256:" + "7" * 64
        answers = await store.commit([journal.next(graph=graph), neighbour.next()])
        assert [answer.outcome for answer in answers] == ["ok", "ok"]
        rows = [await store.get_run(run) for run in (journal.id, neighbour.id)]
        assert [row.digest for row in rows if row is not None] == [graph, DIGEST]
        answers = await store.commit([zombie.next(t=2, graph=DIGEST)])
        assert answers[0].outcome == "fenced"
        row = await store.get_run(journal.id)
        assert row is not None
        assert row.digest == graph

    async def test_nothing_beside_a_fenced_record_is_stored(self, store: Store) -> None:
        """Blobs, snapshot, tickets, messages, tasks and row changes fall with their record."""
        journal = await kit.owned(store, "w")
        await store.send(journal.id, "m", b"{}")
        zombie = journal.twin()
        await journal.write(store)
        full = zombie.next(
            t=2, row=RowChange(state="done", status="completed", inbox_seen=1), blobs=[("sha256:x", b"x")],
            eaten=[1], snapshot=b"state", tickets=[_ticket(journal.id)],
            outbox=[OutboxRow(ns="default", target=kit.new_id(), key="k", kind="send", body=b"{}")],
            tasks=[TaskRow(id="r/s/1", ns="default", run_id=journal.id, step="s", attempt=1, handler="h", body=b"{}")],
        )  # fmt: skip
        answers = await store.commit([full])
        assert (answers[0].outcome, answers[0].row_applied) == ("fenced", False)
        assert await store.get_blobs(["sha256:x"]) == {}
        assert len(await store.inbox(journal.id)) == 1
        assert (await store.load([journal.id]))[0].snapshot is None
        assert await store.get_ticket("default", "t1") is None
        assert await store.outbox(10) == []
        assert await store.take_tasks("w", 10, ["h"]) == []
        row = await store.get_run(journal.id)
        assert row is not None and row.state == "owned"

    async def test_everything_beside_a_record_is_stored_with_it(self, store: Store) -> None:
        """The rows of an accepted commit are all there, and consumed messages are gone."""
        journal = await kit.owned(store, "w")
        await store.send(journal.id, "m1", b"1")
        await store.send(journal.id, "m2", b"2")
        commit = journal.next(
            blobs=[("sha256:x", b"x"), ("sha256:y", b"y")], eaten=[1], snapshot=b"state",
            tickets=[_ticket(journal.id)],
            outbox=[OutboxRow(ns="default", target=kit.new_id(), key="k", kind="send", body=b"{}")],
            tasks=[TaskRow(id="r/s/1", ns="default", run_id=journal.id, step="s", attempt=1, handler="h", body=b"{}")],
        )  # fmt: skip
        assert (await journal.write(store, commit)).outcome == "ok"
        assert await store.get_blobs(["sha256:x", "sha256:y", "sha256:z"]) == {"sha256:x": b"x", "sha256:y": b"y"}
        assert [message.n for message in await store.inbox(journal.id)] == [2]
        ticket = await store.get_ticket("default", "t1")
        assert ticket is not None and (ticket.run_id, ticket.state) == (journal.id, "open")
        assert [row.key for row in await store.outbox(10)] == ["k"]
        assert [task.id for task in await store.take_tasks("w", 10, ["h"])] == ["r/s/1"]

    async def test_a_replaced_owner_is_fenced_though_its_position_is_free(
        self, store: Store, second_store: Store
    ) -> None:
        """After a clean release and another claim, the first owner's next position is free, and still refused."""
        journal = await kit.owned(store, "w1")
        zombie = journal.twin()
        await journal.write(store, journal.change("ready"))
        zombie.took(journal.next())
        zombie.seq, zombie.chain = journal.seq, journal.chain
        await kit.enlist(second_store, "w2")
        (claim,) = await second_store.claim("w2", 1)
        assert claim.epoch == zombie.epoch + 1
        assert (await zombie.write(store)).outcome == "fenced"
        assert (await zombie.write(second_store)).outcome == "fenced"
        journal.epoch = claim.epoch
        assert (await journal.write(store)).outcome == "ok"

    async def test_a_change_of_ownership_alone(self, store: Store) -> None:
        """A commit without a record parks a run, and is fenced for a replaced owner or a run that is not there."""
        journal = await kit.owned(store, "w")
        zombie = journal.twin()
        row = RowChange(state="ready", status="running", inbox_seen=0)
        alone = Commit(run_id=journal.id, epoch=journal.epoch, row=row)
        (answer,) = await store.commit([alone])
        assert (answer.outcome, answer.row_applied) == ("ok", True)
        await store.claim("w", 1)
        (answer,) = await store.commit([Commit(run_id=journal.id, epoch=zombie.epoch, row=row)])
        assert (answer.outcome, answer.row_applied) == ("fenced", False)
        (answer,) = await store.commit([Commit(run_id=kit.new_id(), epoch=1, row=row)])
        assert answer.outcome == "fenced"
        assert len(await store.records(journal.id)) == 1

    async def test_one_commit_that_cannot_be_stored_stands_alone(self, store: Store) -> None:
        """The guilty commit is `poison` with a reason and leaves nothing; all others of the group stand."""
        journals = [await kit.created(store) for _ in range(5)]
        good = [journal.next() for journal in journals]
        bad = Journal()
        guilty = bad.creation()
        guilty.record, guilty.blobs = wire.Record(1, 0, None, b"c" * 32), [("sha256:bad", b"b")]  # type: ignore[arg-type]
        answers = await store.commit([*good[:3], guilty, *good[3:]])
        assert [answer.outcome for answer in answers] == ["ok"] * 3 + ["poison"] + ["ok"] * 2
        assert answers[3].error
        assert await store.records(bad.id) == []
        assert await store.get_run(bad.id) is None
        assert await store.get_blobs(["sha256:bad"]) == {}
        for journal in journals:
            assert len(await store.records(journal.id)) == 2

    async def test_guilt_is_found_among_fenced_and_accepted(self, store: Store) -> None:
        """A group with every outcome answers each commit truthfully."""
        fresh, taken, rival = await kit.created(store), await kit.created(store), Journal()
        zombie = taken.twin()
        await taken.write(store)
        first = Journal()
        second = Journal()
        await first.write(store, first.creation(business_key="b"))
        answers = await store.commit([
            fresh.next(), zombie.next(t=3), second.creation(business_key="b"), rival.creation()
        ])  # fmt: skip
        assert [answer.outcome for answer in answers] == ["ok", "fenced", "poison", "ok"]
        assert await store.get_run(second.id) is None
        assert await store.records(second.id) == []

    async def test_creating_twice_is_fenced(self, store: Store) -> None:
        """A run is created once; the second creation neither adds a record nor touches the row."""
        journal = Journal()
        assert (await journal.write(store, journal.creation(goal="one"))).outcome == "ok"
        again = Journal(run_id=journal.id)
        (answer,) = await store.commit([again.creation(goal="two", t=2)])
        assert answer.outcome == "fenced"
        row = await store.get_run(journal.id)
        assert row is not None and row.goal == "one"

    async def test_the_same_commit_again_is_ours(self, store: Store) -> None:
        """A commit whose answer got lost may be sent again: it is `ok`, and nothing of it is stored twice."""
        journal = Journal()
        creation = journal.creation()
        await journal.write(store, creation)
        await kit.enlist(store, "w")
        (claim,) = await store.claim("w", 1)
        journal.epoch = claim.epoch
        commit = journal.change("waiting")
        commit.outbox = [OutboxRow(ns="default", target=kit.new_id(), key="k", kind="send", body=b"{}")]
        assert (await journal.write(store, commit)).row_applied
        answers = [(await store.commit([again]))[0] for again in (creation, commit)]
        assert [(a.outcome, a.row_applied) for a in answers] == [("ok", False), ("ok", True)]
        assert len(await store.records(journal.id)) == 2
        assert len(await store.outbox(10)) == 1
        row = await store.get_run(journal.id)
        assert row is not None and row.state == "waiting"

    async def test_a_record_of_no_run_is_refused(self, store: Store) -> None:
        """Only a creation brings a journal into being."""
        journal = Journal()
        journal.took(journal.creation())
        journal.epoch = 1
        assert (await journal.write(store)).outcome == "fenced"
        assert await store.records(journal.id) == []

    async def test_the_first_start_is_kept(self, store: Store) -> None:
        """A change of ownership that names no start leaves the one that is there."""
        journal = await kit.owned(store, "w")
        await journal.write(store, journal.change("ready", started_at=5))
        (claim,) = await store.claim("w", 1)
        journal.epoch = claim.epoch
        await journal.write(store, journal.change("done", finished_at=9))
        row = await store.get_run(journal.id)
        assert row is not None and (row.started_at, row.finished_at) == (5, 9)

    async def test_an_empty_group_is_nothing(self, store: Store) -> None:
        """No commits, no answers, no group in the tail."""
        assert await store.commit([]) == []
        assert await store.tail({}) == []

    async def test_a_large_group_is_stored_whole(self, store: Store) -> None:
        """Hundreds of runs share one transaction and are listed as groups that name each position once."""
        journals = [Journal() for _ in range(300)]
        assert {a.outcome for a in await store.commit([j.creation() for j in journals])} == {"ok"}
        for journal in journals:
            journal.took(journal.creation())
        assert {a.outcome for a in await store.commit([j.next() for j in journals])} == {"ok"}
        listed = [place for group in await store.tail({}) for place in group.runs]
        assert sorted(listed) == sorted((j.id, seq) for j in journals for seq in (1, 2))

    async def test_loading_begins_at_the_newest_snapshot(self, store: Store) -> None:
        """A history is the newest snapshot and the records after it; unknown runs are left out."""
        journal, plain = await kit.created(store), await kit.created(store)
        await journal.write(store)
        await journal.write(store, journal.next(snapshot=b"at 3"))
        await journal.write(store)
        await journal.write(store, journal.next(snapshot=b"at 5"))
        await journal.write(store)
        unknown = kit.new_id()
        found = {history.run_id: history for history in await store.load([journal.id, unknown, plain.id])}
        assert set(found) == {journal.id, plain.id}
        assert (found[journal.id].snapshot_seq, found[journal.id].snapshot) == (5, b"at 5")
        assert [record.seq for record in found[journal.id].records] == [6]
        assert (found[plain.id].snapshot_seq, found[plain.id].snapshot) == (0, None)
        assert [record.seq for record in found[plain.id].records] == [1]

    async def test_blobs_are_kept_once(self, store: Store) -> None:
        """Storing a digest again is harmless, in a commit too."""
        await store.put_blobs([("sha256:a", b"a"), ("sha256:b", b"b" * 100_000)])
        await store.put_blobs([("sha256:a", b"a")])
        journal = await kit.created(store)
        assert (await journal.write(store, journal.next(blobs=[("sha256:a", b"a")]))).outcome == "ok"
        found = await store.get_blobs(["sha256:a", "sha256:b", "sha256:none"])
        assert found == {"sha256:a": b"a", "sha256:b": b"b" * 100_000}
        assert await store.get_blobs([]) == {}

    async def test_an_idempotency_key_makes_one_run(self, store: Store, second_store: Store) -> None:
        """The same key and body give the first run again; another body is refused; namespaces do not share keys."""
        first, again, other = Journal(), Journal(), Journal()
        assert await store.create_once(first.creation(), "key", "body") == (first.id, True)
        assert await second_store.create_once(again.creation(), "key", "body") == (first.id, False)
        with pytest.raises(KeyReused):
            await store.create_once(other.creation(), "key", "another body")
        elsewhere = Journal("other")
        assert await store.create_once(elsewhere.creation(), "key", "another body") == (elsewhere.id, True)
        assert await store.get_run(again.id) is None
        assert await store.records(again.id) == []

    async def test_simultaneous_requests_with_a_key_make_one_run(self, store: Store, second_store: Store) -> None:
        """Whoever comes first creates; all others learn that run's id."""
        journals = [Journal() for _ in range(12)]
        answers = await asyncio.gather(*(
            (store if n % 2 else second_store).create_once(journal.creation(), "key", "body")
            for n, journal in enumerate(journals)
        ))  # fmt: skip
        assert sum(new for _, new in answers) == 1
        assert len({run for run, _ in answers}) == 1
        assert len(await store.list_runs(kit.everything())) == 1

    async def test_a_business_key_names_one_unfinished_run(self, store: Store, second_store: Store) -> None:
        """Starting attaches to the unfinished run of the key; once it has ended, the key makes a new one."""
        journals = [Journal() for _ in range(8)]
        answers = await asyncio.gather(*(
            (store if n % 2 else second_store).create_business(journal.creation(business_key="order-1"))
            for n, journal in enumerate(journals)
        ))  # fmt: skip
        assert sum(new for _, new in answers) == 1
        (run,) = {run for run, _ in answers}
        journal = next(j for j in journals if j.id == run)
        journal.took(journal.creation(business_key="order-1"))
        await kit.enlist(store, "w")
        (claim,) = await store.claim("w", 5)
        journal.epoch = claim.epoch
        assert (await journal.write(store, journal.change("done"))).row_applied
        fresh = Journal()
        assert await store.create_business(fresh.creation(business_key="order-1")) == (fresh.id, True)
        elsewhere = Journal("other")
        assert await store.create_business(elsewhere.creation(business_key="order-1")) == (elsewhere.id, True)

    async def test_a_created_row_reads_back_whole(self, store: Store) -> None:
        """Every field of a new run's row is kept."""
        journal = Journal("team")
        commit = journal.creation(
            t=77, goal="doc\u00fcments", labels={'a"b': "1", "c": "\u00e9"}, parent=kit.new_id(), priority=2,
            replay_of=kit.new_id(), business_key="b", status="queued", wake_at=kit.FAR_AWAY_MS,
        )  # fmt: skip
        await journal.write(store, commit)
        row = await store.get_run(journal.id)
        assert row is not None and commit.new is not None
        row.cursor = ""
        assert row == commit.new
        assert (row.digest, row.ns) == (DIGEST, "team")

    async def test_a_run_may_end_in_the_commit_that_creates_it(self, store: Store) -> None:
        """A change of ownership that rides with a creation is applied to the new row."""
        journal = Journal()
        commit = journal.creation()
        commit.row = RowChange(state="done", status="completed", inbox_seen=0, finished_at=9)
        assert (await store.commit([commit]))[0].row_applied
        row = await store.get_run(journal.id)
        assert row is not None and (row.state, row.status, row.finished_at) == ("done", "completed", 9)
        await kit.enlist(store, "w")
        assert await store.claim("w", 10) == []
