"""Connections lost at the worst moments: nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from postgres_journals import PARK, Journals
from postgres_proxy import Proxy

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.bundled.postgres import LocalPostgres
from tenuto.domain.runs import wire
from tenuto.ports.store import Commit, RowChange, TaskRow, WorkerRow

pytestmark = pytest.mark.postgres


async def _started(store: PostgresStore, journals: Journals, count: int) -> list[str]:
    """Create runs and claim them for the worker `w`."""
    await store.register(WorkerRow(id="w"), 60_000)
    outcomes = await store.commit([journals.create() for _ in range(count)])
    assert {outcome.outcome for outcome in outcomes} == {"ok"}
    return [claim.run_id for claim in await store.claim("w", count)]


async def _check(store: PostgresStore, journals: Journals) -> None:
    """Every journal is dense, chained, and exactly what was acknowledged; every record is listed once, in order."""
    for run, seq in journals.seqs.items():
        records = await store.records(run, limit=100_000)
        assert len(records) == seq
        assert wire.verify(run, wire.ZERO, records) == journals.chains[run]
    listed: list[tuple[str, int]] = []
    positions: dict[int, int] = {}
    for group in await store.tail({}, 100_000):
        positions[group.writer] = positions.get(group.writer, 0) + 1
        assert group.n == positions[group.writer]
        listed += group.runs
    assert sorted(listed) == sorted((run, n) for run, seq in journals.seqs.items() for n in range(1, seq + 1))


async def _write(store: PostgresStore, journals: Journals, runs: list[str], stop: asyncio.Event) -> int:
    groups = 0
    while not stop.is_set():
        outcomes = await store.commit([journals.append(run) for run in runs])
        assert {outcome.outcome for outcome in outcomes} == {"ok"}
        groups += 1
    return groups


async def _rounds(store: PostgresStore, journals: Journals, runs: list[str], n: int) -> None:
    seen = journals.seqs[runs[0]] + n
    while journals.seqs[runs[0]] < seen:
        await asyncio.sleep(0.001)


async def test_restarts_of_the_server_lose_and_double_nothing(
    fragile_server: LocalPostgres, journals: Journals
):
    """Three immediate restarts under a stream of commits leave exactly what was acknowledged."""
    store = PostgresStore(fragile_server.create_database())
    await store.open()
    runs = await _started(store, journals, 20)
    stop = asyncio.Event()
    writing = asyncio.create_task(_write(store, journals, runs, stop))
    for _ in range(3):
        await _rounds(store, journals, runs, 5)
        await asyncio.to_thread(fragile_server.restart, "immediate")
    await _rounds(store, journals, runs, 5)
    stop.set()
    assert await writing >= 20
    await _check(store, journals)
    assert store.health() == ""
    await store.close()


async def test_killed_backends_lose_and_double_nothing(
    store: PostgresStore, direct: asyncpg.Connection, journals: Journals
):
    """Ending the committing backend again and again leaves exactly what was acknowledged."""
    runs = await _started(store, journals, 20)
    stop = asyncio.Event()
    writing = asyncio.create_task(_write(store, journals, runs, stop))
    for _ in range(8):
        await _rounds(store, journals, runs, 2)
        await direct.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and query like '%insert into rec%' and pid <> pg_backend_pid()"
        )
    await _rounds(store, journals, runs, 2)
    stop.set()
    await writing
    await _check(store, journals)


@pytest.mark.parametrize("cut", ["statement", "answer"])
async def test_a_commit_cut_off_is_ours(
    cut: str, distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """Whether the statement or its answer is lost, the commit is answered `ok`, its row change included."""
    runs = await _started(distant, journals, 3)
    await store.send(runs[0], "hello", b"m")
    eats = journals.append(runs[0], row=RowChange(state="waiting", status="waiting", inbox_seen=1))
    eats.eaten = (1,)
    batch = [eats, journals.append(runs[1], row=PARK), journals.append(runs[2])]
    assert batch[0].record is not None
    proxy.arm(cut, batch[0].record.body)  # pyright: ignore[reportArgumentType]
    outcomes = await asyncio.wait_for(distant.commit(batch), 20)
    assert proxy.cut.is_set()
    assert [(o.outcome, o.row_applied) for o in outcomes] == [("ok", True), ("ok", True), ("ok", False)]
    assert await store.inbox(runs[0]) == []
    rows = [await store.get_run(run) for run in runs]
    assert [row.state for row in rows if row is not None] == ["waiting", "waiting", "owned"]
    await distant.commit([journals.append(runs[2])])
    await _check(store, journals)


async def test_a_creation_cut_off_is_made_once(
    distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """A creation under an idempotency key whose answer is lost is still told as created now."""
    creation = journals.create()
    proxy.arm("answer", b"the-key")
    assert await asyncio.wait_for(distant.create_once(creation, "the-key", "digest"), 20) == (
        creation.run_id,
        True,
    )
    other = Journals().create()
    assert await distant.create_once(other, "the-key", "digest") == (creation.run_id, False)
    assert proxy.cut.is_set()
    await _check(store, journals)


async def test_a_parked_run_claimed_meanwhile_is_left_alone(
    distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """The answer to a parking is lost, a message arrives, another worker claims: the first owner lets go."""
    (run,) = await _started(distant, journals, 1)
    parking = journals.append(run, row=PARK)
    assert parking.record is not None
    proxy.arm("answer", parking.record.body, stay_closed=True)
    asking = asyncio.create_task(distant.commit([parking]))
    await asyncio.wait_for(proxy.cut.wait(), 20)
    assert await store.send(run, "k", b"m") == "accepted"
    (claim,) = await store.claim("other", 5)
    (outcome,) = await store.commit([journals.append(run, epoch=claim.epoch)])
    assert outcome.outcome == "ok"
    assert "does not answer" in distant.health()
    proxy.mend()
    (first,) = await asyncio.wait_for(asking, 20)
    assert (first.outcome, first.row_applied) == ("ok", True)
    assert distant.health() == ""
    await _check(store, journals)


async def test_a_commit_that_never_arrived_is_fenced_by_a_takeover(
    distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """The statement is lost, the run is taken over before it is sent again: fenced, and nothing of it stays."""
    (run,) = await _started(distant, journals, 1)
    late = journals.append(run, row=PARK)
    assert late.record is not None
    late.blobs = (("sha256:late", b"x"),)
    proxy.arm("statement", late.record.body, stay_closed=True)
    asking = asyncio.create_task(distant.commit([late]))
    await asyncio.wait_for(proxy.cut.wait(), 20)
    await store.adopt("other", "w")
    (claim,) = await store.steal("other", 5)
    assert (claim.run_id, claim.stolen_from) == (run, "w")
    proxy.mend()
    (outcome,) = await asyncio.wait_for(asking, 20)
    assert outcome.outcome == "fenced"
    assert await store.get_blobs(["sha256:late"]) == {}
    records = await store.records(run)
    assert [record.epoch for record in records] == [0, 2]
    wire.verify(run, wire.ZERO, records)


async def test_claims_cut_off_are_found_again(
    distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """The answer to a claim is lost: the same runs are returned, none is claimed twice or forgotten."""
    await distant.register(WorkerRow(id="cut-worker"), 60_000)
    await store.commit([journals.create() for _ in range(5)])
    proxy.arm("answer", b"cut-worker")
    claims = await asyncio.wait_for(distant.claim("cut-worker", 3), 20)
    assert proxy.cut.is_set()
    assert len(claims) == 3 and {claim.epoch for claim in claims} == {1}
    owned = [run for run in await store.load(list(journals.seqs)) if run.run_id in {c.run_id for c in claims}]
    assert len(owned) == 3
    assert len(await store.claim("other", 9)) == 2


async def test_tasks_cut_off_are_found_again(
    distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """The answer to taking a task is lost: it is still told, with the executor that died with it."""
    creation = journals.create()
    task = TaskRow(id="t", ns="default", run_id=creation.run_id, step="s", attempt=1, handler="h", body=b"{}")
    creation.tasks = (task,)
    await store.commit([creation])
    assert [taken.worker for taken in await store.take_tasks("zombie", 5, ["h"])] == [None]
    await store.unregister("zombie")
    await distant.register(WorkerRow(id="cut-worker"), 60_000)
    proxy.arm("answer", b"cut-worker")
    (found,) = await asyncio.wait_for(distant.take_tasks("cut-worker", 5, ["h"]), 20)
    assert proxy.cut.is_set()
    assert (found.id, found.worker) == ("t", "zombie")
    assert not await store.drop_task("t", "zombie")
    assert await store.drop_task("t", "cut-worker")


async def test_takeovers_cut_off_are_found_again(
    distant: PostgresStore, store: PostgresStore, proxy: Proxy, journals: Journals
):
    """The answer to a takeover is lost: it is still told, with one `LeaseTaken` in the journal."""
    await store.commit([journals.create()])
    (claim,) = await store.claim("zombie", 1)
    await store.unregister("zombie")
    await distant.register(WorkerRow(id="cut-worker"), 60_000)
    proxy.arm("answer", b"run.lease_taken")
    (taken,) = await asyncio.wait_for(distant.steal("cut-worker", 5), 20)
    assert proxy.cut.is_set()
    assert (taken.run_id, taken.epoch) == (claim.run_id, 2)
    assert len(await store.records(claim.run_id)) == 2


async def test_hints_survive_a_lost_listener(
    store: PostgresStore, distant: PostgresStore, direct: asyncpg.Connection, journals: Journals
):
    """After the listening backend was ended the next wait listens anew."""
    ended: list[object] = []
    while not ended:
        await distant.wait_hint(0.01)
        ended = await direct.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and query ilike 'listen%'"
        )
    await asyncio.wait_for(distant.wait_hint(60), 10)
    hearing = asyncio.create_task(distant.wait_hint(60))
    while not hearing.done():
        await store.commit([journals.create()])
        await asyncio.wait([hearing], timeout=0.02)


async def test_a_cancelled_caller_does_not_cut_a_commit(store: PostgresStore, journals: Journals):
    """Cancelling who waits for a commit leaves the commit, and the next one, whole."""
    runs = await _started(store, journals, 4)
    for _ in range(5):
        asking = asyncio.create_task(store.commit([journals.append(run) for run in runs]))
        await asyncio.sleep(0)
        asking.cancel()
    await store.commit([Commit(run_id=runs[0], epoch=1)])
    await _check(store, journals)
