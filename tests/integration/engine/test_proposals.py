"""Changes of workflows that wait for somebody: proposed once, decided once, applied with their tag or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tenuto import App
from tenuto.errors import Conflict, Denied, Invalid, InvalidPatch, ProposalMissing, WorkflowMissing
from tenuto.ports.optimizers import Gain
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.proposal_views import ProposalView
from tenuto.runtime.services.requests import ProposePatch

LONG_S = 20


def build(**patches: Any) -> App:
    app = App("t")

    @app.step
    async def work(value: Any) -> str:
        return "done"

    nodes = [{"id": name, "kind": "function", "config": {"handler": "work"}} for name in ("first", "last")]
    edges = [{"from": "first", "to": "last"}]
    app.register({"name": "w", "nodes": nodes, "edges": edges, **({"patches": patches} if patches else {})})
    return app


def behind(name: str) -> list[dict[str, Any]]:
    return [
        {"op": "add", "path": "/nodes/-", "value": {"id": name, "kind": "function", "config": {"handler": "work"}}},
        {"op": "add", "path": "/edges/-", "value": {"from": "first", "to": name}},
    ]


async def propose(engine: Engine, name: str = "x", **more: Any) -> ProposalView:
    return await engine.proposals.propose("w", ProposePatch(operations=behind(name), by="ann", **more))


async def by_optimizer(engine: Engine, name: str = "x", **more: Any) -> ProposalView:
    return await propose(engine, name, author="optimizer", optimizer="o", rule="r", **more)


async def latest(engine: Engine) -> str:
    return (await engine.workflows.get("w")).version


async def test_a_proposal_waits_is_shown_and_is_decided_once(url: str) -> None:
    """It says what it changes and why; approved, its tag moves; the same again is a repeat, anything else is refused."""
    async with build(approval=["all"]).engine(url) as engine:
        before = await latest(engine)
        made = await propose(engine, title="more", reason="because", gain=Gain(ms=5), evidence={"runs": 3})
        assert (made.status, made.asks, made.base_digest) == ("proposed", "every patch is approved by a person", before)
        whole = await engine.proposals.get(made.id)
        assert whole.difference is not None and whole.difference.nodes_added == ("x",)
        assert (whole.operations, whole.expected.ms, whole.evidence) == (behind("x"), 5.0, {"runs": 3})
        assert await latest(engine) == before
        with pytest.raises(Denied):
            await engine.proposals.decide(made.id, "approve", by="ann")
        with pytest.raises(Conflict, match="leads to"):
            await engine.proposals.decide(made.id, "approve", by="bob", digest="sha256:other")
        answers = await asyncio.gather(
            *(engine.proposals.decide(made.id, "approve", by=by, digest=made.digest) for by in ("bob", "cyd")),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Conflict) for answer in answers) == 1
        done = await engine.proposals.get(made.id)
        assert (done.status, done.decided_by in ("bob", "cyd"), await latest(engine)) == ("applied", True, done.digest)
        again = await engine.proposals.decide(made.id, "approve", by=done.decided_by)
        assert again.replayed and again.decided_at == done.decided_at
        with pytest.raises(Conflict, match="applied already by"):
            await engine.proposals.decide(made.id, "reject", reason="no", by=done.decided_by)
        (move,) = [move for move in await engine.versions.moves("w") if move.kind == "patch"]
        assert (move.by, move.reason, move.evidence["proposal"], move.evidence["runs"]) == ("ann", "because", made.id, 3)
        run = await engine.runs.start("w", None)
        assert set((await engine.runs.result(run.id, timeout_s=LONG_S)).output) == {"last", "x"}
        assert (await engine.versions.undo("w")).version == before


async def test_who_decided_is_what_happened_not_what_was_claimed(url: str) -> None:
    """Evidence names no other decider and no other proposal; and nobody in particular is not somebody else."""
    async with build(approval=["all"]).engine(url) as engine:
        made = await propose(engine, evidence={"decided_by": "the chief", "proposal": "pp-other", "runs": 3})
        with pytest.raises(Denied, match="say who approves"):
            await engine.proposals.decide(made.id, "approve")
        await engine.proposals.decide(made.id, "approve", by="bob")
        moved = (await engine.store.tag_moves("default", "w", "latest"))[-1]
        assert msgspec.json.decode(moved.evidence) == {"decided_by": "bob", "proposal": made.id, "runs": 3}


async def test_what_was_retired_is_not_brought_back_by_a_proposal(url: str) -> None:
    """Neither by one that waited for a person nor by one that needs none; nothing moves, and it says why."""
    async with build(approval=["person"], authors=["person", "optimizer"]).engine(url) as engine:
        waits = await propose(engine)
        before = await latest(engine)
        await engine.workflows.retire("w")
        with pytest.raises(Conflict, match="is retired"):
            await engine.proposals.decide(waits.id, "approve", by="bob")
        view = await engine.proposals.get(waits.id)
        assert (view.status, [one.code for one in view.findings]) == ("refused", ["proposal.retired"])
        with pytest.raises(Conflict, match="is retired"):
            await by_optimizer(engine, "y")
        assert await latest(engine) == before
        with pytest.raises(WorkflowMissing):
            await engine.workflows.resolve("w")


async def test_policy_says_who_is_asked(url: str) -> None:
    """By author and kind, the workflow's own words first; what nobody has to approve is applied at once, by policy."""
    async with build(approval=["optimizer"]).engine(url) as engine:
        waits = await by_optimizer(engine)
        assert (waits.status, waits.asks) == ("proposed", "patches by an optimizer are approved by a person")
        at_once = await propose(engine, "y", author="agent")
        assert (at_once.status, at_once.decided_by) == ("applied", "policy")
        stale = await engine.proposals.get(waits.id)
        assert stale.status == "stale" and "propose it anew" in stale.note
        with pytest.raises(Conflict, match="propose it anew"):
            await engine.proposals.decide(waits.id, "approve", by="bob")
        assert [(one.id, one.status) for one in (await engine.proposals.list("w", states=("stale",))).items] == [
            (waits.id, "stale")
        ]
        with pytest.raises(Conflict):
            await engine.proposals.decide(waits.id, "approve", by="bob")
        with pytest.raises(Conflict, match="does not point at"):
            await propose(engine, "z", base=waits.base_digest)
    async with build(authors=["person"]).engine("memory:") as engine:
        with pytest.raises(InvalidPatch) as refused:
            await by_optimizer(engine)
        assert [problem.code for problem in refused.value.problems] == ["patch.author"]
        assert (await engine.proposals.list("w")).items == []


async def test_what_an_optimizer_was_refused_it_does_not_propose_again(url: str) -> None:
    """Not while it waits, nor once a person has said no, nor what a person took back; a new version is a new question."""
    async with build(approval=["optimizer"]).engine(url) as engine:
        first = await by_optimizer(engine)
        again = await by_optimizer(engine)
        assert (again.id, again.replayed, first.replayed) == (first.id, True, False)
        with pytest.raises(Invalid, match="reason"):
            await engine.proposals.decide(first.id, "reject", by="bob")
        await engine.proposals.decide(first.id, "reject", reason="too risky", by="bob")
        known = await by_optimizer(engine)
        assert (known.id, known.status, known.decision_reason) == (first.id, "rejected", "too risky")
        by_person = await propose(engine)
        assert by_person.status == "applied"
        await engine.versions.undo("w")
        assert (await by_optimizer(engine)).replayed
        older = await by_optimizer(engine, "z")
        await engine.versions.patch("w", behind("y"))
        anew = await by_optimizer(engine)
        assert (anew.status, anew.replayed) == ("proposed", False)
        assert (await engine.proposals.get(older.id)).status == "superseded"


async def test_what_can_no_longer_be_applied_is_refused_with_the_reasons(url: str) -> None:
    """Also when it was fine when it was proposed: here the terms are stricter by now."""
    async with build(approval=["all"]).engine(url) as engine:
        made = await propose(engine)
        engine.context.terms = type(engine.context.terms)(max_nodes=2)
        with pytest.raises(InvalidPatch, match="at most 2"):
            await engine.proposals.decide(made.id, "approve", by="bob")
        kept = await engine.proposals.get(made.id)
        assert (kept.status, kept.findings[0].code, kept.decided_by) == ("refused", "patch.nodes", "bob")


async def test_what_is_wrong_with_a_proposal_is_told(url: str) -> None:
    """Nothing of it is kept; names that are nearly right are suggested; only so many may wait."""
    async with build(approval=["all"]).engine(url) as engine:
        with pytest.raises(InvalidPatch):
            await engine.proposals.propose("w", ProposePatch(operations=[{"op": "remove", "path": "/nodes/none"}]))
        with pytest.raises(WorkflowMissing):
            await engine.proposals.propose("wx", ProposePatch(operations=[]))
        assert (await engine.proposals.list()).items == []
        made = await propose(engine)
        with pytest.raises(ProposalMissing, match=made.id):
            await engine.proposals.get(made.id[:-1])
        with pytest.raises(Invalid, match="approve"):
            await engine.proposals.decide(made.id, "aprove")
        engine.context.terms = type(engine.context.terms)(max_proposals=1)
        with pytest.raises(Conflict, match="1 proposals"):
            await propose(engine, "y")


async def test_a_large_change_waits_for_a_person_and_a_small_one_does_not() -> None:
    """How many nodes are added, removed or changed decides, where the rules ask so."""
    async with build(approval=["large"]).engine("memory:") as engine:
        assert (await by_optimizer(engine)).status == "applied"
        ops = [op for n in range(5) for op in behind(f"more{n}")]
        five = await engine.proposals.propose("w", ProposePatch(operations=ops, author="optimizer", optimizer="o", rule="five"))
        assert five.status == "applied"
        ops = [{"op": "remove", "path": "/nodes/x"}, {"op": "remove", "path": "/edges/first->x"}]
        ops += [op for n in range(5) for op in behind(f"again{n}")]
        six = await engine.proposals.propose("w", ProposePatch(operations=ops, author="optimizer", optimizer="o", rule="six"))
        assert (six.status, six.asks) == (
            "proposed", "it is large: it adds, removes or changes 6 nodes, and up to 5 need no approval"
        )
