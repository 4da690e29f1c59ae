"""Lists, deletion, the tail and projections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tenuto.ports.store import RunFilter, StepFilter, StepRow, Store, TicketRow
from tenuto.testing.conformance import kit
from tenuto.testing.conformance.kit import Journal


def _step(
    run: str, step: str, *, status: str = "completed", started_at: int = 1, ns: str = "default", as_of: int = 0
) -> StepRow:  # fmt: skip
    return StepRow(
        ns=ns, run_id=run, step=step, node="n", kind="function", status=status, started_at=started_at, as_of=as_of
    )


async def _ended(store: Store, finished_at: int, ns: str = "default", **row: Any) -> Journal:
    journal = await kit.owned(store, "w", ns, **row)
    assert (await journal.write(store, journal.change("done", finished_at=finished_at))).row_applied
    return journal


class ListSuite:
    """What people see across runs."""

    async def test_runs_are_listed_newest_first_in_pages(self, store: Store) -> None:
        """Pages show every run once, in order, also those created in the same millisecond."""
        journals = [await kit.created(store, t=1 + n // 3) for n in range(10)]
        expected = sorted(((1 + n // 3, j.id) for n, j in enumerate(journals)), reverse=True)
        found: list[str] = []
        after = ""
        while page := await store.list_runs(kit.everything(), after=after, limit=3):
            found += [row.id for row in page]
            after = page[-1].cursor
        assert found == [run for _, run in expected]

    async def test_pages_are_stable_while_runs_are_added(self, store: Store) -> None:
        """A run created between two pages neither repeats nor hides another."""
        journals = [await kit.created(store, t=n + 1) for n in range(6)]
        page = await store.list_runs(kit.everything(), limit=3)
        await kit.created(store, t=100)
        rest = await store.list_runs(kit.everything(), after=page[-1].cursor, limit=10)
        assert [row.id for row in [*page, *rest]] == [journal.id for journal in reversed(journals)]

    async def test_filters_all_apply(self, store: Store) -> None:
        """Each filter alone and all together; labels must all match, text looks at goal and id in any case."""
        origin = kit.new_id()
        rich = await kit.created(
            store, t=50, workflow="rich", digest="sha256:r", labels={"team": "a", "env": "prod"}, goal="Fix The Build",
            replay_of=origin, parent=origin, status="running",
        )  # fmt: skip
        plain = await kit.created(store, t=60, labels={"team": "a"})

        async def found(where: RunFilter) -> list[str]:
            return [row.id for row in await store.list_runs(where)]

        assert await found(RunFilter()) == [plain.id, rich.id]
        for where in (
            RunFilter(statuses=("running", "failed")), RunFilter(workflow="rich"), RunFilter(digest="sha256:r"),
            RunFilter(labels={"env": "prod", "team": "a"}), RunFilter(replay_of=origin), RunFilter(parent=origin),
            RunFilter(text="the bUILD"), RunFilter(text=rich.id), RunFilter(created_before=60),
            RunFilter(workflow="rich", statuses=("running",), labels={"env": "prod"}, text="fix", created_after=49),
        ):  # fmt: skip
            assert await found(where) == [rich.id], where
        assert await found(RunFilter(created_after=50)) == [plain.id]
        assert await found(RunFilter(labels={"team": "a"})) == [plain.id, rich.id]
        for where in (
            RunFilter(ns="other"), RunFilter(labels={"team": "b"}), RunFilter(text="100%"), RunFilter(text="_"),
            RunFilter(statuses=("waiting",)),
        ):  # fmt: skip
            assert await found(where) == [], where

    async def test_runs_are_counted_by_status(self, store: Store) -> None:
        """Counts follow the row, in one namespace."""
        await _ended(store, 1)
        await kit.created(store)
        await kit.created(store)
        await kit.created(store, "other")
        assert await store.count_runs("default") == {"completed": 1, "queued": 2}
        assert await store.count_runs("other") == {"queued": 1}
        assert await store.count_runs("none") == {}

    async def test_deleting_takes_all_a_run_owns(self, store: Store) -> None:
        """Journal, inbox, state, tickets, key and view are gone; other runs keep theirs."""
        journal = Journal()
        await store.create_once(journal.creation(), "key", "body")
        journal.took(journal.creation())
        kept = await kit.created(store)
        await kit.enlist(store, "w")
        for claim in await store.claim("w", 10):
            for run in (journal, kept):
                run.epoch = claim.epoch if run.id == claim.run_id else run.epoch
        for n, run in enumerate((journal, kept)):
            ticket = TicketRow(id=f"t{n}", ns="default", run_id=run.id, step="s", kind="approval")
            await run.write(store, run.next(snapshot=b"s", tickets=[ticket]))
            await store.send(run.id, "k", b"{}")
        await store.project_steps("steps", [_step(journal.id, "a"), _step(kept.id, "a")], {})
        assert await store.delete_runs("default", run_id=journal.id) == 0, "a run that has not ended stays"
        assert (await journal.write(store, journal.change("done", inbox_seen=1))).row_applied
        assert await store.delete_runs("other", run_id=journal.id) == 0
        assert await store.delete_runs("default", run_id=journal.id) == 1
        assert await store.delete_runs("default", run_id=journal.id) == 0
        assert await store.get_run(journal.id) is None
        assert await store.records(journal.id) == [] == await store.inbox(journal.id)
        assert [history.run_id for history in await store.load([journal.id, kept.id])] == [kept.id]
        assert [ticket.id for ticket in await store.tickets("default")] == ["t1"]
        assert [row.run_id for row in await store.list_steps(StepFilter())] == [kept.id]
        again = Journal()
        assert await store.create_once(again.creation(), "key", "other body") == (again.id, True)
        assert len(await store.inbox(kept.id)) == 1 and len(await store.records(kept.id)) == 2

    async def test_pruning_by_time(self, store: Store) -> None:
        """Only runs that ended before the moment go, at most so many, none that another run replays."""
        old = [await _ended(store, 100 + n) for n in range(3)]
        young = await _ended(store, 900)
        origin = await _ended(store, 50)
        await kit.created(store, replay_of=origin.id, t=1)
        other = await _ended_elsewhere(store)
        assert await store.delete_runs("default", before=0) == 0
        assert await store.delete_runs("default", before=500, limit=2) == 2
        assert await store.delete_runs("default", before=500) == 1
        assert await store.delete_runs("default", before=500) == 0
        for journal in old:
            assert await store.get_run(journal.id) is None
        for journal in (young, origin, other):
            assert await store.get_run(journal.id) is not None

    async def test_the_tail_is_dense_and_complete(self, store: Store, second_store: Store) -> None:
        """A reader that follows cursors while two processes commit sees every record once, groups in order."""
        journals = [Journal() for _ in range(8)]
        seen: list[tuple[str, int]] = []
        cursors: dict[int, int] = {}
        done = asyncio.Event()

        async def follow() -> None:
            last = False
            while True:
                groups = await store.tail(cursors, 3)
                for group in groups:
                    assert group.n == cursors.get(group.writer, 0) + 1
                    cursors[group.writer] = group.n
                    seen.extend(group.runs)
                if not groups and last:
                    return
                last = done.is_set()
                await asyncio.sleep(0)

        async def write(mine: list[Journal], through: Store) -> None:
            assert {a.outcome for a in await through.commit([j.creation() for j in mine])} == {"ok"}
            for journal in mine:
                journal.took(journal.creation())
            for _ in range(12):
                commits = [journal.next() for journal in mine]
                assert {a.outcome for a in await through.commit(commits)} == {"ok"}
                for journal, commit in zip(mine, commits, strict=True):
                    journal.took(commit)

        following = asyncio.create_task(follow())
        await asyncio.gather(write(journals[:4], store), write(journals[4:], second_store))
        done.set()
        await following
        assert sorted(seen) == sorted((j.id, seq) for j in journals for seq in range(1, 14))
        assert await store.tail_heads() == cursors
        for journal in journals:
            mine = [seq for run, seq in seen if run == journal.id]
            assert mine == sorted(mine)

    async def test_projections_remember_where_they_stand(self, store: Store) -> None:
        """Rows and cursors move together, cursors never back; a reset drops both, for this projection alone."""
        run, other = (await kit.created(store)).id, (await kit.created(store, "other")).id
        await store.project_steps("a", [_step(run, "s1", status="running")], {1: 5, 2: 7})
        await store.project_steps("a", [_step(run, "s1"), _step(run, "s2")], {1: 6})
        await store.project_steps("b", [_step(other, "x", ns="other")], {1: 1})
        await store.project_steps("a", [], {2: 3})
        assert await store.projection_cursors("a") == {1: 6, 2: 7}
        assert await store.projection_cursors("none") == {}
        assert [(row.step, row.status) for row in await store.list_steps(StepFilter())] == [
            ("s2", "completed"), ("s1", "completed")
        ]  # fmt: skip
        await store.reset_projection("a")
        assert await store.projection_cursors("a") == {}
        assert await store.list_steps(StepFilter()) == []
        assert await store.projection_cursors("b") == {1: 1}
        assert len(await store.list_steps(StepFilter(ns="other"))) == 1

    async def test_a_deleted_run_is_not_projected(self, store: Store) -> None:
        """A projector that lags behind a deletion does not bring the run's steps back."""
        run, gone = (await kit.created(store)).id, kit.new_id()
        await store.project_steps("a", [_step(gone, "s"), _step(run, "s")], {1: 1})
        assert [row.run_id for row in await store.list_steps(StepFilter())] == [run]
        assert await store.projection_cursors("a") == {1: 1}

    async def test_of_repeated_steps_the_last_counts(self, store: Store) -> None:
        """One call may carry several states of a step; the newest is kept."""
        run = (await kit.created(store)).id
        await store.project_steps("a", [_step(run, "s", status="running"), _step(run, "s", status="failed")], {})
        assert [row.status for row in await store.list_steps(StepFilter())] == ["failed"]

    async def test_a_projector_that_has_fallen_behind_undoes_nothing(self, store: Store, second_store: Store) -> None:
        """A row made from an older record replaces none, in whatever order and by whomever they are written."""
        run = (await kit.created(store)).id
        old, new = _step(run, "s", status="running", as_of=2), _step(run, "s", as_of=5)
        await store.project_steps("a", [new], {1: 9})
        await second_store.project_steps("a", [old], {1: 4})
        await store.project_steps("a", [_step(run, "t", as_of=5), _step(run, "t", status="running", as_of=2)], {})
        found = await store.list_steps(StepFilter())
        assert [(row.step, row.status, row.as_of) for row in found] == [("t", "completed", 5), ("s", "completed", 5)]
        assert await store.projection_cursors("a") == {1: 9}
        await second_store.project_steps("a", [_step(run, "s", status="failed", as_of=5)], {})
        assert (await store.list_steps(StepFilter()))[1].status == "failed", "the same record's row is written again"
        await store.reset_projection("a")
        await store.project_steps("a", [old], {})
        assert [row.status for row in await store.list_steps(StepFilter())] == ["running"], "rebuilt from the start"

    async def test_steps_are_listed_in_pages(self, store: Store) -> None:
        """Newest first, each once; filters all apply."""
        runs = [(await kit.created(store)).id for _ in range(2)]
        rows = [_step(run, f"s{n}", started_at=1 + n // 2) for run in runs for n in range(6)]
        rows[0].status, rows[1].node, rows[2].kind = "failed", "other", "agent"
        await store.project_steps("a", rows, {})
        found: list[StepRow] = []
        after = ""
        while page := await store.list_steps(StepFilter(), after=after, limit=5):
            found += page
            after = page[-1].cursor
        order = sorted(rows, key=lambda row: (row.started_at, row.run_id, row.step), reverse=True)
        assert [(row.run_id, row.step) for row in found] == [(row.run_id, row.step) for row in order]
        await _expect(store, {
            "failed": StepFilter(statuses=("failed",)), "other": StepFilter(node="other"),
            "agent": StepFilter(kind="agent", run_id=runs[0]),
        }, rows[:3])  # fmt: skip
        assert len(await store.list_steps(StepFilter(after=1, before=3))) == 4
        assert await store.list_steps(StepFilter(ns="other")) == []
        assert await store.list_steps(StepFilter(run_id="not an id")) == []


async def _expect(store: Store, filters: Mapping[str, StepFilter], rows: Sequence[StepRow]) -> None:
    for where, row in zip(filters.values(), rows, strict=True):
        found = await store.list_steps(where)
        assert [(step.run_id, step.step) for step in found] == [(row.run_id, row.step)], where


async def _ended_elsewhere(store: Store) -> Journal:
    await kit.enlist(store, "w")
    journal = await kit.created(store, "other")
    claims = {claim.run_id: claim for claim in await store.claim("w", 10)}
    journal.epoch = claims[journal.id].epoch
    assert (await journal.write(store, journal.change("done", finished_at=100))).row_applied
    return journal
