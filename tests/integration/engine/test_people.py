"""Questions to certain people: quorum, groups, whose own affair it is, forms, and what nobody decides in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tenuto import App, Context
from tenuto.domain.runs.check import check_run
from tenuto.domain.runs.views import RunView
from tenuto.errors import AlreadyDecided, Denied, Invalid, TicketStale
from tenuto.runtime.services.requests import StartRun
from tenuto.runtime.services.results import TicketView
from tenuto.runtime.worker.options import WorkerOptions
from tenuto.wiring import Runtime, start_runtime

GROUPS = {"finance": ("ada", "bob"), "heads": ("eve",)}
FORM = {
    "type": "object", "required": ["amount", "account"], "additionalProperties": False,
    "properties": {"amount": {"type": "number", "maximum": 100}, "account": {"type": "string", "minLength": 3}},
}  # fmt: skip


@asynccontextmanager
async def running(app: App, url: str, *, worker: bool = True) -> AsyncGenerator[Runtime]:
    options = WorkerOptions(lease_ms=2000)
    runtime = await start_runtime(url, app.catalog(), options=options, groups=GROUPS, worker=worker)
    try:
        yield runtime
    finally:
        await runtime.close()


def asking(message: str = "Pay?", **terms: Any) -> App:
    app = App("t")
    app.workflow("w").approval("ok", message, **terms)
    return app


async def asked(runtime: Runtime, by: str = "dan") -> tuple[str, TicketView]:
    run = await runtime.engine.runs.submit(StartRun(workflow="w", input={}, by=by))
    return run.id, await open_ticket(runtime, run.id)


async def open_ticket(runtime: Runtime, run: str, *, other_than: str = "") -> TicketView:
    async with asyncio.timeout(15):
        async for event in runtime.engine.history.stream(run):
            if event.type == "ticket.opened" and event.data["ticket"] != other_than:
                return await runtime.engine.tickets.get(event.data["ticket"])
    raise AssertionError("the run asked nothing")


async def ended(runtime: Runtime, run: str) -> RunView:
    view = await runtime.engine.runs.result(run, timeout_s=15)
    records = await runtime.store.records(run, 0, 1000)
    _, plan, _ = await runtime.engine.context.load(run)
    assert check_run(run, records, lambda _: plan) == []
    return view


async def events(runtime: Runtime, run: str, kind: str) -> list[dict[str, Any]]:
    page = await runtime.engine.history.events(run, limit=500)
    return [event.data for event in page.items if event.type == kind]


async def test_as_many_people_as_it_takes(url: str):
    """One person counts once, and the answers that decide are those of the people who may."""
    async with running(asking(approvers=["group:finance", "cyd"], quorum=2, reject_quorum=2), url) as runtime:
        run, ticket = await asked(runtime)
        assert (ticket.approvers, ticket.quorum, ticket.reject_quorum) == (["group:finance", "cyd"], 2, 2)
        decide = runtime.engine.tickets.decide
        for stranger in ("dan", ""):
            with pytest.raises(Denied, match=r"one of those who may decide|say who decides"):
                await decide(ticket.id, "approve", by=stranger)
        first = await decide(ticket.id, "approve", reason="fine", by="ada")
        assert (first.state, first.decision, [(one.by, one.role) for one in first.votes]) == ("open", None, [("ada", "finance")])
        assert (await decide(ticket.id, "approve", reason="fine", by="ada")).state == "open"
        with pytest.raises(AlreadyDecided, match="approve by ada"):
            await decide(ticket.id, "reject", reason="no", by="ada")
        assert (await decide(ticket.id, "reject", reason="hm", by="cyd")).state == "open"
        last = await decide(ticket.id, "approve", by="bob", digest=ticket.digest)
        assert (last.state, last.decision, last.by) == ("decided", "approve", "bob")
        assert (await decide(ticket.id, "reject", reason="hm", by="cyd")).decision == "approve"
        with pytest.raises(AlreadyDecided):
            await decide(ticket.id, "reject", reason="no", by="eve")
        out = (await ended(runtime, run)).output["ok"]
        assert [(one["by"], one["decision"]) for one in out["votes"]] == [
            ("ada", "approve"), ("cyd", "reject"), ("bob", "approve"),
        ]  # fmt: skip
        assert out["approved"] and out["by"] == "bob"
        said = await events(runtime, run, "ticket.voted")
        assert [(one["by"], one["digest"]) for one in said] == [(by, ticket.digest) for by in ("ada", "cyd", "bob")]
        (decided,) = await events(runtime, run, "ticket.decided")
        assert (decided["by"], decided["role"], decided["digest"]) == ("bob", "finance", ticket.digest)


async def test_people_who_answer_at_once_all_count(url: str):
    async with running(asking(quorum=4), url) as runtime:
        run, ticket = await asked(runtime)
        names = ["ada", "bob", "cyd", "eve"]
        await asyncio.gather(*(runtime.engine.tickets.decide(ticket.id, "approve", by=name) for name in names))
        out = (await ended(runtime, run)).output["ok"]
        assert sorted(one["by"] for one in out["votes"]) == names


async def test_one_rejection_rejects(url: str):
    async with running(asking(quorum=3), url) as runtime:
        run, ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve", by="ada")
        rejected = await runtime.engine.tickets.decide(ticket.id, "reject", reason="too dear", by="bob")
        assert (rejected.state, rejected.decision) == ("decided", "reject")
        view = await ended(runtime, run)
        assert view.status == "failed"
        assert view.error is not None
        assert "rejected by bob: too dear" in view.error.message


async def test_whoever_starts_a_run_does_not_approve_it(url: str):
    async with running(asking(not_requester=True), url) as runtime:
        run, ticket = await asked(runtime, by="dan")
        assert ticket.not_by == "dan"
        with pytest.raises(Denied, match="started the run and may not decide"):
            await runtime.engine.tickets.decide(ticket.id, "approve", by="dan")
        await runtime.engine.tickets.decide(ticket.id, "approve", by="ada")
        assert (await ended(runtime, run)).status == "completed"


async def test_a_decision_is_about_what_was_shown(url: str):
    """A decision on other arguments than the ticket's is refused, and changes nothing."""
    app = App("t")
    app.workflow("w").approval("ok", "Pay ${input.amount}?")
    async with running(app, url) as runtime:
        first, second = [
            await open_ticket(runtime, (await runtime.engine.runs.submit(StartRun(workflow="w", input={"amount": n}))).id)
            for n in (10, 10_000)
        ]
        assert first.digest != second.digest
        with pytest.raises(TicketStale, match="no longer asks what was shown"):
            await runtime.engine.tickets.decide(second.id, "approve", by="ada", digest=first.digest)
        assert (await runtime.engine.tickets.get(second.id)).state == "open"
        await runtime.engine.tickets.decide(second.id, "approve", by="ada", digest=second.digest)
        assert (await ended(runtime, second.run)).status == "completed"


async def test_a_form_is_filled_in_as_it_asks(url: str):
    async with running(asking(schema=FORM), url) as runtime:
        run, ticket = await asked(runtime)
        assert ticket.form == FORM
        with pytest.raises(Invalid) as refused:
            await runtime.engine.tickets.decide(ticket.id, "approve", data={"amount": 500, "more": 1}, by="ada")
        assert {one.place for one in refused.value.problems} == {"/data/amount", "/data/account", "/data/more"}
        await runtime.engine.tickets.decide(ticket.id, "approve", data={"amount": 5, "account": "DE-1"}, by="ada")
        assert (await ended(runtime, run)).output["ok"]["data"] == {"amount": 5, "account": "DE-1"}


@pytest.mark.parametrize("rule", ["approve", "reject"])
async def test_time_decides_as_declared(url: str, rule: Any):
    async with running(asking(timeout_s=0.2, on_timeout=rule, approvers=["ada"], quorum=1), url) as runtime:
        run, _ = await asked(runtime)
        view = await ended(runtime, run)
        assert view.status == ("completed" if rule == "approve" else "failed")
        (decided,) = await events(runtime, run, "ticket.decided")
        assert (decided["by"], decided["decision"]) == ("timeout", rule)


async def test_others_are_asked_when_nobody_decides_in_time(url: str):
    """The escalation survives a restart: it falls due while nothing runs, and a new process asks the others."""
    rule = {"escalate": ["group:heads"], "timeout_s": 30}
    app = asking(timeout_s=0.2, on_timeout=rule, approvers=["ada", "bob"], quorum=2)
    if url == "memory:":
        pytest.skip("nothing of it survives its process")
    async with running(app, url) as runtime:
        run, first = await asked(runtime)
        assert first.on_timeout == "ask group:heads"
        await runtime.engine.tickets.decide(first.id, "approve", by="ada")
    async with running(app, url) as runtime:
        second = await open_ticket(runtime, run, other_than=first.id)
        assert (second.approvers, second.quorum, second.votes) == (["group:heads"], 1, [])
        assert second.expires_at is not None
        assert second.created_at is not None
        assert 29 < (second.expires_at - second.created_at).total_seconds() < 31
        with pytest.raises(AlreadyDecided, match="escalate by timeout"):
            await runtime.engine.tickets.decide(first.id, "approve", by="bob")
        with pytest.raises(Denied):
            await runtime.engine.tickets.decide(second.id, "approve", by="bob")
        (wait,) = (await runtime.engine.runs.why(run)).waits
        assert wait.name == second.id
        await runtime.engine.tickets.decide(second.id, "approve", by="eve")
        assert (await ended(runtime, run)).output["ok"]["by"] == "eve"
        (escalated, decided) = await events(runtime, run, "ticket.decided")
        assert (escalated["by"], escalated["decision"], decided["by"]) == ("timeout", "escalate", "eve")


async def test_a_step_asks_on_the_same_terms(url: str):
    app = App("t")

    @app.step
    async def ask(ctx: Context) -> Any:
        rule: dict[str, Any] = {"escalate": ["eve"], "on_timeout": "approve"}
        return await ctx.approve("Pay?", timeout_s=0.2, approvers=["ada"], not_requester=True, on_timeout=rule)

    app.workflow("w").step(ask, id="ok")
    async with running(app, url) as runtime:
        run, first = await asked(runtime)
        assert (first.approvers, first.not_by) == (["ada"], "dan")
        view = await ended(runtime, run)
        assert view.output["ok"]["approved"]
        assert [one["decision"] for one in await events(runtime, run, "ticket.decided")] == ["escalate", "approve"]


async def test_a_step_that_asks_nonsense_fails_at_once(url: str):
    app = App("t")

    @app.step
    async def ask(ctx: Context) -> Any:
        return await ctx.approve("Pay?", approvers=["ada", "bob"], quorum=3)

    app.workflow("w").step(ask, id="ok")
    async with running(app, url) as runtime:
        run = await runtime.engine.runs.submit(StartRun(workflow="w", input={}))
        view = await ended(runtime, run.id)
        assert view.error is not None
        assert view.error.code == "approval.terms"
        assert "2 people may not come to a decision" in view.error.message


async def test_votes_survive_a_takeover(url: str):
    """Answers given while nobody owns the run are counted by whoever takes it over, once each."""
    if url == "memory:":
        pytest.skip("nothing of it survives its process")
    app = asking(quorum=3)
    async with running(app, url) as runtime:
        run, ticket = await asked(runtime)
        await runtime.engine.tickets.decide(ticket.id, "approve", by="ada")
    async with running(app, url, worker=False) as runtime:
        for name in ("bob", "bob", "cyd"):
            await runtime.engine.tickets.decide(ticket.id, "approve", by=name)
        assert (await runtime.engine.tickets.get(ticket.id)).state == "decided"
    async with running(app, url) as runtime:
        out = (await ended(runtime, run)).output["ok"]
        assert [one["by"] for one in out["votes"]] == ["ada", "bob", "cyd"]


async def test_an_answer_sends_the_run_back(url: str):
    """What a person writes reaches the step that runs again; only the steps the graph leads back to are allowed."""
    app = App("t")

    @app.step
    async def draft(ctx: Context) -> str:
        return f"draft, {ctx.guidance or 'first'}"

    flow = app.workflow("w").step(draft, id="draft").approval("ok", "${nodes.draft.output}?", after="draft")
    flow.edge("ok", "draft", on="pushed_back", max_iterations=3)
    async with running(app, url) as runtime:
        run, first = await asked(runtime)
        assert (first.choices, first.push_back) == (["approve", "reject", "push_back"], ["draft"])
        decide = runtime.engine.tickets.decide
        with pytest.raises(Denied, match="cannot be pushed back to 'ok'; allowed: draft"):
            await decide(first.id, "push_back", reason="no", to="ok", by="ada")
        with pytest.raises(Invalid, match="a push-back needs a reason"):
            await decide(first.id, "push_back", by="ada")
        await decide(first.id, "push_back", reason="shorter", by="ada")
        second = await open_ticket(runtime, run, other_than=first.id)
        assert second.message == "draft, shorter?"
        await decide(second.id, "approve", by="ada", digest=second.digest)
        assert (await ended(runtime, run)).status == "completed"
