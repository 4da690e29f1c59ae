"""Proposals for workflows, plug-ins, and what ended runs have shown."""

from __future__ import annotations

import asyncio

import msgspec

from tenuto.ports.lineage import TagMove
from tenuto.ports.optimizers import Statistics
from tenuto.ports.plugins import LookRow, OptimizerRow
from tenuto.ports.proposals import ProposalFilter, ProposalRow, Settled
from tenuto.ports.store import StepRow, Store, WorkflowRow
from tenuto.ports.usage import UsageRow
from tenuto.testing.conformance import kit

_FLOW = ProposalFilter(workflow="flow")


def _row(name: str, digest: str = "d2", **more: str) -> ProposalRow:
    given = {"workflow": "flow", "tag": "latest", "base": "d1", **more}
    return ProposalRow(id=name, ns="default", digest=digest, body=b'{"reason":"r"}', **given)  # type: ignore[arg-type]


def _settled(name: str, state: str, text: bytes = b"{}") -> Settled:
    return Settled(ns="default", id=name, state=state, answer=text)  # type: ignore[arg-type]


def _move(digest: str = "d2", former: str = "d1") -> TagMove:
    return TagMove(ns="default", name="flow", tag="latest", digest=digest, former=former, kind="patch", author="optimizer")


def _version(digest: str) -> WorkflowRow:
    return WorkflowRow(ns="default", name="flow", digest=digest, body=b"{}", created_at=1)


class ProposalSuite:
    """What waits for somebody to decide, and what became of it."""

    async def test_the_same_change_waits_once(self, store: Store, second_store: Store) -> None:
        """However many propose it at a time; once it was turned down, only those that ask for that find it again."""
        rows = [_row(f"p{n}", optimizer="o", rule="r") for n in range(4)]
        found = await asyncio.gather(*(one.put_proposal(row) for row in rows for one in (store, second_store)))
        (name,) = {row.id for row in found if row is not None}
        (kept,) = await store.list_proposals(_FLOW)
        assert (kept.id, kept.state, kept.body, kept.optimizer, kept.rule) == (name, "proposed", b'{"reason":"r"}', "o", "r")
        assert kept.at > 0 and kept.answer == b"" and kept.decided_at == 0
        assert await second_store.settle_proposal(_settled(name, "rejected", b'{"by":"ann"}'))
        known = await store.put_proposal(_row("p8"), known=("rejected",))
        assert known is not None and (known.id, known.answer) == (name, b'{"by":"ann"}') and known.decided_at >= known.at
        again = await store.put_proposal(_row("p9"))
        assert again is not None and again.id == "p9"

    async def test_a_proposal_is_settled_once(self, store: Store, second_store: Store) -> None:
        """Of two decisions one stands, whatever they say."""
        await store.put_proposal(_row("p"))
        answers = await asyncio.gather(
            store.settle_proposal(_settled("p", "rejected", b"1")), second_store.settle_proposal(_settled("p", "refused", b"2"))
        )
        assert sorted(answers) == [False, True]
        assert not await store.settle_proposal(_settled("none", "rejected"))
        found = await store.get_proposal("default", "p")
        assert found is not None and found.answer == (b"1" if answers[0] else b"2")
        assert await store.get_proposal("other", "p") is None

    async def test_a_proposal_is_applied_with_the_move_of_its_tag(self, store: Store, second_store: Store) -> None:
        """Both or neither: not where the tag points elsewhere, not where somebody has decided, and once of many times."""
        await store.move_tag(TagMove(ns="default", name="flow", tag="latest", digest="d1", former="", kind="tag"), _version("d1"))
        for name, digest in (("p", "d2"), ("q", "d3"), ("r", "d4")):
            await store.put_proposal(_row(name, digest))
        await store.settle_proposal(_settled("r", "rejected"))
        assert not await store.apply_proposal(_move("d4"), _version("d4"), _settled("r", "applied"))
        answers = await asyncio.gather(*(
            one.apply_proposal(_move("d2"), _version("d2"), _settled("p", "applied", b"1")) for one in (store, second_store)
        ))
        assert sorted(answers) == [False, True]
        assert not await store.apply_proposal(_move("d3"), _version("d3"), _settled("q", "applied"))
        states = {row.id: row.state for row in await second_store.list_proposals(_FLOW)}
        assert states == {"p": "applied", "q": "proposed", "r": "rejected"}
        assert await store.resolve_tag("default", "flow", "latest") == "d2"
        assert {row.digest for row in await store.list_workflows("default", "flow")} == {"d1", "d2"}
        assert [(move.digest, move.author) for move in await store.tag_moves("default", "flow")][1:] == [("d2", "optimizer")]

    async def test_only_so_many_wait(self, store: Store) -> None:
        """Those that were decided do not count, and what is there already is found all the same."""
        assert await store.put_proposal(_row("p1", "d1x"), most=2) is not None
        assert await store.put_proposal(_row("p2", "d2x"), most=2) is not None
        assert await store.put_proposal(_row("p3", "d3x"), most=2) is None
        assert (await store.put_proposal(_row("p4", "d1x"), most=2)).id == "p1"  # type: ignore[union-attr]
        await store.settle_proposal(_settled("p1", "superseded"))
        assert await store.put_proposal(_row("p3", "d3x"), most=2) is not None

    async def test_proposals_are_listed_newest_first_in_pages(self, store: Store) -> None:
        """By workflow, tag, author and state, and each once; a foreign cursor is the beginning."""
        for n in range(5):
            await store.put_proposal(_row(f"p{n}", f"x{n}", author="agent" if n % 2 else "optimizer"))
        await store.put_proposal(_row("else", workflow="other", tag="prod"))
        await store.settle_proposal(_settled("p0", "stale"))
        whole = await store.list_proposals(_FLOW)
        assert {row.id for row in whole} == {f"p{n}" for n in range(5)}
        assert [row.at for row in whole] == sorted((row.at for row in whole), reverse=True)
        paged, after = list[str](), ""
        while part := await store.list_proposals(_FLOW, after=after, limit=2):
            paged += [row.id for row in part]
            after = part[-1].cursor
        assert paged == [row.id for row in whole]
        assert len(await store.list_proposals(_FLOW, after="nonsense")) == 5
        narrow = ProposalFilter(author="optimizer", states=("proposed",))
        assert {row.id for row in await store.list_proposals(narrow)} == {"p2", "p4"}
        assert [row.id for row in await store.list_proposals(ProposalFilter(tag="prod"))] == ["else"]
        assert await store.list_proposals(ProposalFilter(ns="other")) == []


def _plugin(name: str, digest: str = "sha256:1") -> OptimizerRow:
    return OptimizerRow(ns="default", name=name, digest=digest, size=3, by="ann")


class PluginSuite:
    """Optimizers that were added, and what they are told."""

    async def test_a_plugin_is_kept_with_its_module(self, store: Store, second_store: Store) -> None:
        """Every process sees it; the same again changes nothing, another module replaces it, and it can be forgotten."""
        first = await store.put_optimizer(_plugin("b"), b"\0as")
        assert (first.enabled, first.by, first.failures) == (True, "ann", 0) and first.added_at > 0
        await store.put_optimizer(_plugin("a"), b"\0am")
        assert [row.name for row in await second_store.optimizers("default")] == ["a", "b"]
        assert await second_store.optimizer_module("default", "b") == b"\0as"
        assert await store.note_optimizer("default", "b", "sha256:1", "broken", 3) is not None
        assert (await store.put_optimizer(_plugin("b"), b"\0as")).failures == 1
        assert (await store.put_optimizer(_plugin("b", "sha256:2"), b"new")).failures == 0
        assert await store.optimizer_module("default", "b") == b"new"
        assert await store.note_optimizer("default", "b", "sha256:1", "late", 3) is None
        assert await second_store.drop_optimizer("default", "b") and not await store.drop_optimizer("default", "b")
        assert await store.optimizer_module("default", "b") is None and await store.optimizers("other") == []

    async def test_failures_in_a_row_quarantine_a_plugin(self, store: Store) -> None:
        """A good answer ends them; enabling forgets them; whoever disabled it finds it disabled."""
        await store.put_optimizer(_plugin("p"), b"x")
        for error in ("one", "", "two", "three"):
            row = await store.note_optimizer("default", "p", "sha256:1", error, 3)
            assert row is not None and row.quarantined_at == 0
        row = await store.note_optimizer("default", "p", "sha256:1", "four", 3)
        assert row is not None and (row.failures, row.error) == (3, "four") and row.quarantined_at > 0
        assert await store.enable_optimizer("default", "p", True)
        (row,) = await store.optimizers("default")
        assert (row.enabled, row.failures, row.error, row.quarantined_at) == (True, 0, "", 0)
        assert await store.enable_optimizer("default", "p", False)
        assert [row.enabled for row in await store.optimizers("default")] == [False]
        assert not await store.enable_optimizer("default", "none", True)

    async def test_how_far_was_looked_is_remembered(self, store: Store, second_store: Store) -> None:
        """One row a workflow, the last word counts."""
        await store.put_look(LookRow(ns="default", workflow="w", version="d1", mark=5))
        await store.put_look(LookRow(ns="default", workflow="w", version="d2", mark=7))
        await store.put_look(LookRow(ns="other", workflow="w", version="d1"))
        assert [msgspec.structs.astuple(row) for row in await second_store.looks("default")] == [("default", "w", "d2", 7)]

    async def test_ended_runs_say_what_they_took(self, store: Store) -> None:
        """Completed and failed ones of one version, the newest; not replays, nor those that go on, nor other versions."""
        assert await store.statistics("default", "flow", kit.DIGEST, 10) == Statistics()
        runs = [await _ended(store, 100 + n, (n + 1) * 10, "failed" if n == 4 else "completed") for n in range(5)]
        await _ended(store, 200, 999, "completed", digest="sha256:" + "b" * 64)
        await _ended(store, 201, 999, "completed", replay_of=runs[0])
        await _ended(store, 202, 999, "cancelled")
        await kit.created(store, t=203)
        steps = [_step(run, "a", n + 1) for n, run in enumerate(runs)]
        steps += [_step(runs[1], "b", 50, attempt=3), _step(runs[2], "b", 7, status="failed")]
        steps += [_step(runs[3], "b", 0, status="skipped"), msgspec.structs.replace(_step(runs[3], "c", 0), reused=True)]
        await store.project_steps("steps", steps, {})
        await store.put_usage("steps", [_cost(runs[1], 400), _cost(runs[2], 800), _cost(runs[3], 5, state="unknown")])
        found = await store.statistics("default", "flow", kit.DIGEST, 10)
        assert (found.runs, found.failed, found.p50_ms, found.p95_ms) == (4, 1, 20.0, 40.0)
        assert (found.steps, found.cost_usd_micros) == (7 / 5, 240.0)
        a, b = found.nodes["a"], found.nodes["b"]
        assert (a.completed, a.failed, a.retried, a.p50_ms, a.p95_ms) == (5, 0, 0, 3.0, 5.0)
        assert (b.completed, b.failed, b.skipped, b.retried, b.p50_ms, b.cost_usd_micros) == (1, 1, 1, 2, None, 1200.0)
        c = found.nodes["c"]
        assert (c.completed, c.reused, c.p50_ms) == (1, 1, None)
        newest = await store.statistics("default", "flow", kit.DIGEST, 2)
        assert (newest.runs, newest.failed, newest.p50_ms) == (1, 1, 40.0)
        assert await store.statistics("default", "none", kit.DIGEST, 10) == Statistics()
        assert await store.ended_since("default", "flow", kit.DIGEST, 101, 10) == (3, 104)
        assert await store.ended_since("default", "flow", kit.DIGEST, 0, 2) == (2, 104)
        assert await store.ended_since("default", "flow", kit.DIGEST, 104, 10) == (0, 104)


    async def test_a_run_counts_once_all_of_its_steps_are_known(self, store: Store) -> None:
        """While the table of steps is behind a run, half of its steps would look like a run that took half as many."""
        runs = [await _ended(store, 100 + n, 10 * (n + 1), "completed") for n in range(3)]
        steps = [_step(runs[0], "a", 1), _step(runs[0], "b", 1), _step(runs[1], "a", 1)]
        await store.project_steps("steps", [*steps, _step(runs[1], "b", 0, status="running")], {})
        found = await store.statistics("default", "flow", kit.DIGEST, 10)
        assert (found.runs, found.steps, found.p50_ms) == (1, 2.0, 10.0)
        assert (await store.statistics("default", "flow", kit.DIGEST, 1)).runs == 1, "those that do not count take no place"
        behind = msgspec.structs.replace(_step(runs[1], "b", 1), as_of=2)
        await store.project_steps("steps", [behind, _step(runs[2], "a", 1)], {})
        found = await store.statistics("default", "flow", kit.DIGEST, 10)
        assert (found.runs, found.steps) == (3, 5 / 3)


async def _ended(store: Store, created_at: int, took: int, status: str, **row: str) -> str:
    journal = await kit.owned(store, "w", t=created_at, **row)
    await journal.write(store, journal.change("done", status=status, started_at=1000, finished_at=1000 + took))
    return journal.id


def _step(run: str, node: str, took: int, *, status: str = "completed", attempt: int = 1) -> StepRow:
    return StepRow(
        ns="default", run_id=run, step=node, node=node, kind="function", status=status, attempt=attempt, started_at=1000,
        finished_at=1000 + took, as_of=1,
    )


def _cost(run: str, amount: int, *, state: str = "settled") -> UsageRow:
    return UsageRow(
        ns="default", run_id=run, step="b", call="c", seq=1, n=0, as_of=1, at=1, agent="b", workflow="flow",
        cost_usd_micros=amount, state=state,  # type: ignore[arg-type]
    )
