"""The group commit on a healthy server: guilty commits alone are refused, and creation keys hold under races."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from postgres_journals import Journals

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.domain.runs import wire
from tenuto.errors import InvalidSettings, KeyReused
from tenuto.ports.store import Claim, Commit, RowChange, TicketRow, WorkerRow
from tenuto.testing.conformance import kit

pytestmark = pytest.mark.postgres


async def test_only_the_guilty_are_refused(store: PostgresStore, journals: Journals):
    """Texts the database cannot hold stop their own commit, told why without the value; neighbours stand."""
    batch = [journals.create(goal=goal) for goal in ("a", "secret\0", "b", "c", "secret\ud800", "d", "e")]
    outcomes = await store.commit(batch)
    assert [o.outcome for o in outcomes] == ["ok", "poison", "ok", "ok", "poison", "ok", "ok"]
    assert all("secret" not in o.error for o in outcomes)
    assert await store.get_run(batch[1].run_id) is None
    assert await store.records(batch[1].run_id) == []
    groups = await store.tail({})
    assert [group.n for group in groups] == list(range(1, len(groups) + 1))
    assert sum(len(group.runs) for group in groups) == 5


async def test_a_fenced_commit_leaves_its_neighbours(store: PostgresStore, journals: Journals):
    """A taken position and an old epoch are fenced; the other commits of the group stand."""
    batch = [journals.create() for _ in range(3)]
    await store.commit(batch)
    for worker in ("a", "b"):
        await store.claim(worker, 3)
        for commit in batch[:1] if worker == "a" else ():
            release = RowChange(state="ready", status="queued", inbox_seen=0)
            await store.commit([Commit(run_id=commit.run_id, epoch=1, row=release)])
    group = [journals.append(commit.run_id, epoch=1) for commit in batch]
    group[0].tickets = (TicketRow(id="t", ns="default", run_id=batch[0].run_id, step="s", kind="approval"),)
    outcomes = await store.commit(group)
    assert [o.outcome for o in outcomes] == ["fenced", "ok", "ok"]
    assert await store.get_ticket("default", "t") is None
    assert [o.outcome for o in await store.commit(group[1:])] == ["ok", "ok"]  # the same again is ours
    run, taken = (
        batch[1].run_id,
        wire.Record(2, 1, b"other", wire.link(wire.ZERO, batch[1].run_id, 2, 1, b"other")),
    )
    rival = Commit(run_id=run, epoch=1, record=taken, blobs=(("sha256:rival", b"x"),))
    assert [o.outcome for o in await store.commit([rival])] == ["fenced"]
    assert await store.get_blobs(["sha256:rival"]) == {}
    assert len(await store.records(run)) == 2


async def test_one_run_per_key_under_a_race(store: PostgresStore, postgres_url: str, journals: Journals):
    """Sixty creations with one idempotency key from two processes make one run; so do those with one business key."""
    other = PostgresStore(postgres_url)
    await other.open()
    made = await asyncio.gather(
        *((store, other)[n % 2].create_once(journals.create(), "k", "d") for n in range(60))
    )
    assert len({run for run, _ in made}) == 1
    assert [new for _, new in made].count(True) == 1
    commits = [journals.create() for _ in range(60)]
    for commit in commits:
        assert commit.new is not None
        commit.new.business_key = "order-7"
    made = await asyncio.gather(*((store, other)[n % 2].create_business(c) for n, c in enumerate(commits)))
    assert len({run for run, _ in made}) == 1
    assert [new for _, new in made].count(True) == 1
    with pytest.raises(KeyReused, match="'k'"):
        await store.create_once(journals.create(), "k", "another body")
    await other.close()


async def test_no_message_is_lost_or_read_twice(store: PostgresStore, postgres_url: str, journals: Journals):
    """Runs park while another process sends: every message is consumed once, and no run sleeps on one."""
    sender = PostgresStore(postgres_url)
    await sender.open()
    await store.commit([journals.create() for _ in range(8)])
    runs = list(journals.seqs)
    eaten: list[tuple[str, str]] = []
    sending = asyncio.gather(*(_send_all(sender, runs, f"{n}-") for n in range(4)))
    while not sending.done() or len(eaten) < 4 * 8 * 25:
        for claim in await store.claim("w", 8):
            epoch, seen = claim.epoch, claim.inbox_seq
            while True:
                messages = await store.inbox(claim.run_id)
                eaten += [(claim.run_id, message.key) for message in messages]
                park = RowChange(
                    state="waiting", status="waiting", inbox_seen=max([seen, *(m.n for m in messages)])
                )
                step = journals.append(claim.run_id, epoch=epoch, row=park)
                step.eaten = [message.n for message in messages]
                (outcome,) = await store.commit([step])
                assert outcome.outcome == "ok"
                if outcome.row_applied:
                    break
                row = await store.get_run(claim.run_id)
                assert row is not None and (row.state, row.epoch) == ("owned", epoch)
                seen = park.inbox_seen
    await sending
    assert len(eaten) == len(set(eaten)) == 4 * 8 * 25
    rows = [await store.get_run(run) for run in runs]
    assert {row.state for row in rows if row is not None} == {"waiting"}
    await sender.close()


async def _send_all(store: PostgresStore, runs: list[str], prefix: str) -> None:
    for n in range(25):
        for run in runs:
            assert await store.send(run, f"{prefix}{n}", b"m") == "accepted"


async def test_takeovers_and_their_victims_exclude_each_other(
    store: PostgresStore, postgres_url: str, direct: asyncpg.Connection, journals: Journals
):
    """Three thieves race each other and the owner, who goes on writing: one owner per epoch, no record lost."""
    thieves = [PostgresStore(postgres_url) for _ in range(3)]
    for thief in thieves:
        await thief.open()
        await thief.register(WorkerRow(id=f"t{thieves.index(thief)}"), 60_000)
    await store.commit([journals.create() for _ in range(100)])
    runs = [claim.run_id for claim in await store.claim("zombie", 100)]
    await store.unregister("zombie")

    async def write() -> set[str]:
        mine = set(runs)
        while mine:
            group = [journals.append(run) for run in sorted(mine)]
            for commit, outcome in zip(group, await store.commit(group), strict=True):
                if outcome.outcome == "fenced":
                    mine.discard(commit.run_id)
        return mine

    async def steal(thief: PostgresStore) -> list[Claim]:
        taken: list[Claim] = []
        while len(await direct_owned("zombie")):
            taken += await thief.steal(f"t{thieves.index(thief)}", 40)
        return taken

    async def direct_owned(worker: str) -> list[str]:
        async with reading:
            return [row["id"] for row in await direct.fetch("select id from run where worker = $1", worker)]

    reading = asyncio.Lock()
    _, *taken = await asyncio.wait_for(asyncio.gather(write(), *(steal(thief) for thief in thieves)), 60)
    claims = [claim for part in taken for claim in part]
    assert sorted(claim.run_id for claim in claims) == sorted(runs)
    assert {(claim.epoch, claim.stolen_from) for claim in claims} == {(2, "zombie")}
    for run in runs:
        records = await store.records(run)
        wire.verify(run, wire.ZERO, records)
        assert [record.epoch for record in records][-1] == 2
        assert b"run.lease_taken" in records[-1].body
    for thief in thieves:
        await thief.close()


async def test_many_processes_may_start_at_once(postgres_url: str):
    """Eight stores that open an empty database together all find the schema complete."""
    stores = [PostgresStore(postgres_url) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert all(done for _, done in await store.migrations())
    await asyncio.gather(*(store.close() for store in stores))


async def test_mistakes_in_the_url_are_told_at_once(postgres_url: str):
    """Another scheme, no database, an unknown database and a wrong password are named, without the password."""
    with pytest.raises(InvalidSettings, match="starts with 'mysql'"):
        PostgresStore("mysql://localhost/x")
    with pytest.raises(InvalidSettings, match="names no database"):
        PostgresStore("postgresql://user:hidden@localhost:5432")
    with pytest.raises(InvalidSettings, match="does not exist"):
        await PostgresStore(postgres_url + "_nowhere").open()
    scheme, _, rest = postgres_url.partition("://")
    login, _, place = rest.partition("@")
    wrong = f"{scheme}://{login.partition(':')[0]}:hidden@{place}"
    with pytest.raises(InvalidSettings, match="password authentication failed") as caught:
        await PostgresStore(wrong).open()
    assert "hidden" not in str(caught.value)


async def test_new_work_wakes_who_waits(store: PostgresStore, postgres_url: str, journals: Journals):
    """A new run wakes whoever waits, in the process that made it and in others."""
    other = PostgresStore(postgres_url)
    await other.open()
    waiting = [asyncio.create_task(each.wait_hint(60)) for each in (store, other)]
    while not all(task.done() for task in waiting):  # listening begins in the background
        await store.commit([journals.create()])
        await asyncio.wait(waiting, timeout=0.02)
    await other.close()


async def test_a_message_under_way_holds_up_a_record_of_time(
    store: PostgresStore, direct: asyncpg.Connection, journals: Journals
):
    """A message whose transaction began first is waited for; the record that did not know of it is refused."""
    await store.commit([creation := journals.create()])
    (claim,) = await store.claim("w", 1)
    timed = kit.Journal(run_id=creation.run_id)
    await timed.catch_up(store)
    timed.epoch = claim.epoch
    sending = direct.transaction()
    await sending.start()
    await direct.execute("update run set inbox_seq = inbox_seq + 1 where id = $1", creation.run_id)
    committing = asyncio.create_task(timed.write(store, timed.next(inbox_seen=0)))
    while not await direct.fetchval("select count(*) from pg_locks where not granted"):
        assert not committing.done()
    await sending.commit()
    assert (await committing).outcome == "moved"
    assert len(await store.records(creation.run_id)) == 1
