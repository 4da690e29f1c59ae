"""Deleted findings: remembered once, for the run and for its replays, as long as the run lives."""

from __future__ import annotations

from tenuto.ports.findings import DeletedFinding
from tenuto.ports.store import Store
from tenuto.testing.conformance import kit


async def _deleted(store: Store, run: str, ns: str = "default") -> list[tuple[str, str, str, str]]:
    return [(row.run_id, row.id, row.by, row.reason) for row in await store.deleted_findings(ns, run)]


class FindingSuite:
    """What a store remembers of findings that a person deleted."""

    async def test_a_deleted_finding_is_remembered_once(self, store: Store, second_store: Store) -> None:
        """The first time counts: who, why and when; a repeat is no error and changes nothing."""
        run = (await kit.created(store)).id
        before = await store.now()
        assert await store.delete_finding("default", DeletedFinding(run_id=run, id="b", by="ann", reason="old")) is True
        assert await second_store.delete_finding("default", DeletedFinding(run_id=run, id="b", by="bob")) is True
        assert await store.delete_finding("default", DeletedFinding(run_id=run, id="a")) is True
        assert await _deleted(second_store, run) == [(run, "a", "", ""), (run, "b", "ann", "old")]
        assert all(row.at >= before for row in await store.deleted_findings("default", run))

    async def test_findings_belong_to_a_run_of_their_namespace(self, store: Store) -> None:
        """Nothing is remembered of a run that is not there, or is somebody else's, and nobody else reads it."""
        run = (await kit.created(store)).id
        for ns, name in (("default", kit.new_id()), ("default", "no id"), ("other", run)):
            assert await store.delete_finding(ns, DeletedFinding(run_id=name, id="a")) is False
            assert await store.deleted_findings(ns, name) == []
        await store.delete_finding("default", DeletedFinding(run_id=run, id="a"))
        assert await store.deleted_findings("other", run) == []

    async def test_a_replay_leaves_out_what_its_origins_leave_out(self, store: Store) -> None:
        """Deleting reaches replays of replays; what is deleted of a replay leaves its origin as it is."""
        first = (await kit.created(store)).id
        second = (await kit.created(store, replay_of=first)).id
        third = (await kit.created(store, replay_of=second)).id
        await store.delete_finding("default", DeletedFinding(run_id=first, id="a"))
        await store.delete_finding("default", DeletedFinding(run_id=third, id="c"))
        assert [row[:2] for row in await _deleted(store, first)] == [(first, "a")]
        assert [row[:2] for row in await _deleted(store, second)] == [(first, "a")]
        assert [row[:2] for row in await _deleted(store, third)] == [(first, "a"), (third, "c")]

    async def test_deleted_findings_are_forgotten_with_their_run(self, store: Store) -> None:
        """A run that is deleted takes them with it; others stay."""
        run, other = await kit.owned(store, "w"), await kit.owned_after(store, "w")
        for journal in (run, other):
            await store.delete_finding("default", DeletedFinding(run_id=journal.id, id="a"))
        await run.write(store, run.change("done", finished_at=await store.now()))
        assert await store.delete_runs("default", run_id=run.id) == 1
        again = kit.Journal(run_id=run.id)
        await again.write(store, again.creation())
        assert await _deleted(store, run.id) == [], "a run that got the same id knows nothing of them"
        assert len(await _deleted(store, other.id)) == 1
