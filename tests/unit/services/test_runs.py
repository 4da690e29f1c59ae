"""Runs: started once, read current, steered by messages, replayed, compared, explained."""

from __future__ import annotations

import asyncio

import pytest

from tenuto.domain.graph.model import Budget
from tenuto.domain.runs.views import RunView
from tenuto.errors import (
    Conflict,
    Invalid,
    InvalidGraph,
    InvalidInput,
    KeyReused,
    RunMissing,
    RunTerminal,
    StepMissing,
    WorkflowMissing,
)
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import Edits, ListRuns, Replay, StartRun
from tests.unit.services.harness import ASK, CALC, FLAKY, WAITS, broken, node, until

NOBODY = "01900000-0000-7000-8000-000000000000"


async def finished(engine: Engine, run_id: str) -> RunView:
    return await engine.runs.result(run_id, timeout_s=10)


class TestStart:
    """A start is durable or nothing."""

    async def test_a_run_is_queued_and_comes_to_its_end(self, engine: Engine):
        await engine.workflows.publish(CALC)
        started = await engine.runs.start("calc", {"n": 4}, labels={"team": "x"}, goal="count")
        assert started.status == "queued"
        run = await finished(engine, started.id)
        assert (run.status, run.output) == ("completed", {"last": {"got": 8}})
        assert (run.goal, run.labels, run.priority) == ("count", {"team": "x"}, "medium")
        assert [(step.id, step.status, step.input, step.output) for step in run.steps] == [
            ("double", "completed", {"n": 4}, {"n": 8}), ("last", "completed", {"got": 8}, {"got": 8}),
        ]
        assert run.steps[0].key == f"{run.id}/double"

    async def test_bad_input_creates_nothing(self, idle: Engine):
        await idle.workflows.publish(CALC)
        with pytest.raises(InvalidInput) as caught:
            await idle.runs.start("calc", {"n": "x"})
        assert [problem.place for problem in caught.value.problems] == ["/input/n"]
        with pytest.raises(InvalidInput, match="no JSON form"):
            await idle.runs.start("calc", {"n": object()})
        assert (await idle.runs.list()).items == []

    async def test_an_unknown_workflow_is_named_with_the_nearest(self, idle: Engine):
        await idle.workflows.publish(CALC)
        with pytest.raises(WorkflowMissing, match="did you mean 'calc'"):
            await idle.runs.start("clac", {"n": 1})

    async def test_exactly_one_source_and_sane_values(self, idle: Engine):
        with pytest.raises(Invalid) as caught:
            await idle.runs.submit(StartRun(
                workflow="a", steps=[], budget=Budget(tokens=-1), start_at=-1, idempotency_key="k", business_key="b",
            ))
        assert {problem.place for problem in caught.value.problems} == {
            "/workflow", "/budget/tokens", "/start_at", "/business_key",
        }

    async def test_an_inline_definition_is_stored_but_moves_no_tag(self, engine: Engine):
        published = await engine.workflows.publish(CALC)
        run = await engine.runs.submit(StartRun(definition={**CALC, "description": "inline"}, input={"n": 1}))
        assert (await finished(engine, run.id)).status == "completed"
        assert await engine.workflows.resolve("calc") == published.version
        with pytest.raises(InvalidGraph):
            await engine.runs.submit(StartRun(definition={"name": "x", "nodes": []}))

    async def test_the_same_key_and_body_is_the_same_run(self, idle: Engine):
        await idle.workflows.publish(CALC)
        request = StartRun(workflow="calc", input={"n": 1}, idempotency_key="k")
        one, two = await idle.runs.submit(request), await idle.runs.submit(request)
        assert (two.id, two.replayed, one.replayed) == (one.id, True, False)
        with pytest.raises(KeyReused):
            await idle.runs.submit(StartRun(workflow="calc", input={"n": 2}, idempotency_key="k"))

    async def test_a_business_key_attaches_to_the_unfinished_run(self, idle: Engine):
        await idle.workflows.publish(CALC)
        one = await idle.runs.start("calc", {"n": 1}, business_key="order-1")
        two = await idle.runs.start("calc", {"n": 2}, business_key="order-1")
        assert (two.id, two.attached) == (one.id, True)

    async def test_caps_of_the_request_replace_those_of_the_workflow(self, idle: Engine):
        await idle.workflows.publish({**CALC, "budget": {"tokens": 10, "per_tool": {"a": 1}}})
        run = await idle.runs.start("calc", {"n": 1}, budget=Budget(tokens=5, per_tool={"b": 2}))
        limits = (await idle.runs.get(run.id)).budget.limits
        assert (limits["tokens"], limits["per_tool"]) == (5, {"a": 1, "b": 2})

    async def test_a_large_input_is_kept_by_digest_and_shown_whole(self, engine: Engine):
        big = {"n": 1, "text": "x" * 20_000}
        await engine.workflows.publish(CALC)
        started = await engine.runs.start("calc", big)
        run = await finished(engine, started.id)
        assert run.input == big
        assert run.steps[0].input == big
        (artifact,) = await engine.artifacts.list(started.id)
        assert artifact.role == "input"
        assert b"xxxx" in await engine.artifacts.get(artifact.digest)

    async def test_a_later_start_waits_for_its_time(self, idle: Engine):
        await idle.workflows.publish(CALC)
        run = await idle.runs.start("calc", {"n": 1}, start_at=4_000_000_000_000)
        why = await idle.runs.why(run.id)
        assert why.waits[0].kind == "start_at"
        assert why.waits[0].until is not None


class TestSteer:
    """Commands are messages; what ended takes none."""

    async def test_a_signal_wakes_its_waiter_once(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=WAITS))
        await until(engine, run.id, "step.waiting")
        await engine.runs.signal(run.id, "go", {"x": 1}, key="k")
        await engine.runs.signal(run.id, "go", {"x": 1}, key="k")
        done = await finished(engine, run.id)
        assert done.output == {"end": {"w": {"signal": "go", "payload": {"x": 1}, "timed_out": False}}}
        with pytest.raises(RunTerminal):
            await engine.runs.signal(run.id, "go")

    async def test_a_run_is_paused_and_resumed(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=ASK, input={}))
        await until(engine, run.id, "ticket.opened")
        await engine.runs.pause(run.id, reason="lunch", by="ann")
        event = await until(engine, run.id, "run.paused")
        view = await engine.runs.get(run.id)
        assert view.status == "paused"
        assert view.waiting_for is not None
        assert view.waiting_for.message == "lunch"
        await engine.runs.resume(run.id, by="ann")
        await until(engine, run.id, "run.resumed", after=event.id)

    async def test_a_cancelled_run_takes_no_more(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=ASK, input={}))
        await until(engine, run.id, "ticket.opened")
        await engine.runs.cancel(run.id, reason="changed my mind")
        assert (await finished(engine, run.id)).status == "cancelled"
        for command in (engine.runs.cancel, engine.runs.pause, engine.runs.resume):
            with pytest.raises(RunTerminal):
                await command(run.id)

    async def test_a_dead_letter_is_listed_and_redriven_to_the_end(self, engine: Engine):
        broken.add("flaky")
        run = await engine.runs.submit(StartRun(definition=FLAKY, input={}))
        failed = await finished(engine, run.id)
        assert (failed.status, failed.steps[0].status) == ("failed", "dead_letter")
        why = await engine.runs.why(run.id)
        assert (why.waits[0].kind, why.waits[0].step) == ("dead_letter", "a")
        (letter,) = (await engine.dead_letters.list()).items
        assert (letter.run, letter.node, letter.message) == (run.id, "a", "it is broken")
        broken.clear()
        head = (await engine.history.events(run.id, limit=1000)).items[-1].id
        await engine.dead_letters.redrive(letter.id, by="ann")
        await until(engine, run.id, "run.completed", after=head)
        with pytest.raises(Conflict):
            await engine.dead_letters.redrive(letter.id)

    async def test_only_failed_steps_can_be_retried(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=ASK, input={}))
        await until(engine, run.id, "ticket.opened")
        with pytest.raises(Conflict, match="completed"):
            await engine.runs.retry(run.id, "first")
        with pytest.raises(StepMissing, match="did you mean 'first'"):
            await engine.runs.retry(run.id, "frist")

    async def test_a_step_cut_off_at_a_cap_is_not_redriven_but_begins_again_with_a_raised_cap(self, engine: Engine):
        definition = {"name": "capped", "nodes": [{"id": "w", "kind": "wait", "config": {"signal": "go"}}],
                      "budget": {"wall_clock_s": 0.05}}
        run = (await engine.runs.submit(StartRun(definition=definition, input={}))).id
        assert (await finished(engine, run)).status == "budget_exceeded"
        with pytest.raises(Conflict, match=r"is cancelled; only one that is dead_letter or retrying.*raised cap") as told:
            await engine.runs.retry(run, "w")
        assert told.value.reason == "step.state"
        await engine.runs.resume(run, budget=Budget(wall_clock_s=60))
        await engine.runs.signal(run, "go")
        async with asyncio.timeout(10):
            while (await engine.runs.get(run)).status != "completed":
                await asyncio.sleep(0)

    async def test_a_cancelled_item_of_a_map_points_to_its_map(self, engine: Engine):
        broken.add("flaky")
        body = {"nodes": [{"id": "s", "kind": "wait", "config": {"signal": "never"}}, node("f", "flaky")]}
        definition = {"name": "m", "nodes": [{"id": "m", "kind": "map", "config": {"over": "${input.n}", "body": body}}]}
        run = (await engine.runs.submit(StartRun(definition=definition, input={"n": [1]}))).id
        assert (await finished(engine, run)).status == "failed"
        with pytest.raises(Conflict, match=r"'s~m.0' is cancelled.*map 'm'"):
            await engine.runs.retry(run, "s~m.0")

    async def test_only_ended_runs_are_deleted(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=ASK, input={}))
        await until(engine, run.id, "ticket.opened")
        with pytest.raises(Conflict, match="cancel it first"):
            await engine.runs.delete(run.id)
        await engine.runs.cancel(run.id)
        await finished(engine, run.id)
        assert (await engine.runs.delete(run.id)).deleted == 1
        with pytest.raises(RunMissing):
            await engine.runs.get(run.id)

    @pytest.mark.parametrize("run_id", ["nobody", NOBODY])
    async def test_an_unknown_run_is_missing_everywhere(self, idle: Engine, run_id: str):
        for call in (idle.runs.get, idle.runs.cancel, idle.runs.why, idle.runs.replay, idle.history.events,
                     idle.history.state, idle.audit.trail, idle.runs.delete):
            with pytest.raises(RunMissing):
                await call(run_id)


class TestRead:
    """Reads are current and bounded."""

    async def test_result_waits_and_times_out(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=ASK, input={}))
        with pytest.raises(TimeoutError):
            await engine.runs.result(run.id, timeout_s=0.05)
        waiting = asyncio.ensure_future(engine.runs.get(run.id, wait_s=10))
        await until(engine, run.id, "ticket.opened")
        await engine.runs.cancel(run.id)
        assert (await waiting).status == "cancelled"

    async def test_steps_not_reached_are_blocked_and_say_by_what(self, engine: Engine):
        run = await engine.runs.submit(StartRun(definition=ASK, input={}))
        await until(engine, run.id, "ticket.opened")
        view = await engine.runs.get(run.id)
        assert [(step.id, step.status) for step in view.steps] == [
            ("first", "completed"), ("ok", "waiting"), ("end", "blocked"),
        ]
        assert view.steps[2].waiting_for is not None
        assert view.steps[2].waiting_for.name == "ok"
        assert view.status == "waiting"

    async def test_items_of_a_map_are_counted_on_the_map_and_paged_apart(self, engine: Engine):
        doc = {"name": "m", "nodes": [{"id": "m", "kind": "map", "config": {
            "over": "${input.items}", "body": {"nodes": [node("x")]}}}]}
        run = await engine.runs.submit(StartRun(definition=doc, input={"items": [{"i": i} for i in range(30)]}))
        view = await finished(engine, run.id)
        (step,) = view.steps
        assert step.items is not None
        assert (step.items.count, step.items.done, view.n_steps) == (30, 30, 31)
        page = await engine.history.steps(run.id, node="x", limit=20)
        rest = await engine.history.steps(run.id, node="x", limit=20, after=page.next or "")
        assert [item.branch for item in page.items + rest.items] == list(range(30))
        assert page.items[7].input == {"i": 7}
        assert rest.next is None

    async def test_lists_filter_and_page(self, idle: Engine):
        await idle.workflows.publish(CALC)
        ids = [(await idle.runs.start("calc", {"n": n}, labels={"odd": str(n % 2)})).id for n in range(5)]
        first = await idle.runs.list(limit=3)
        rest = await idle.runs.list(limit=3, after=first.next or "")
        assert [run.id for run in first.items + rest.items] == ids[::-1]
        odd = await idle.runs.list(ListRuns(labels={"odd": "1"}))
        assert len(odd.items) == 2
        with pytest.raises(Invalid, match="did you mean 'running'"):
            await idle.runs.list(ListRuns(status=("runing",)))

    async def test_another_namespace_sees_nothing(self, idle: Engine):
        await idle.workflows.publish(CALC)
        run = await idle.runs.start("calc", {"n": 1})
        other = idle.within("other")
        assert (await other.runs.list()).items == []
        with pytest.raises(RunMissing):
            await other.runs.get(run.id)
        with pytest.raises(WorkflowMissing):
            await other.runs.start("calc", {"n": 1})


class TestReplay:
    """A replay is a new run that takes over what it may."""

    async def test_a_replay_keeps_the_first_steps(self, engine: Engine):
        await engine.workflows.publish(CALC)
        origin = await engine.runs.start("calc", {"n": 4})
        await finished(engine, origin.id)
        again = await engine.runs.replay(origin.id, Replay(from_step=1))
        view = await finished(engine, again.id)
        assert (again.replay_of, view.replay_of, view.from_step) == (origin.id, origin.id, 1)
        assert [(step.id, step.reused) for step in view.steps] == [("double", True), ("last", False)]
        diff = await engine.runs.diff(origin.id, again.id)
        assert diff.same
        assert (await engine.runs.list(ListRuns(replay_of=origin.id))).items[0].id == again.id

    async def test_edits_of_input_node_and_mode(self, engine: Engine):
        await engine.workflows.publish(CALC)
        origin = await engine.runs.start("calc", {"n": 4})
        await finished(engine, origin.id)
        edited = await engine.runs.replay(origin.id, Replay(edits=Edits(input={"n": 5})))
        assert (await finished(engine, edited.id)).output == {"last": {"got": 10}}
        node_edit = Replay(from_step=2, edits=Edits(nodes={"last": {"input": {"got": "changed"}}}))
        changed = await finished(engine, (await engine.runs.replay(origin.id, node_edit)).id)
        assert changed.output == {"last": {"got": "changed"}}
        assert [step.reused for step in changed.steps] == [True, False]
        diff = await engine.runs.diff(origin.id, changed.id)
        assert not diff.same
        assert diff.first is not None
        assert (diff.first.step, diff.first.fields["output"]) == ("last", [{"got": 8}, {"got": "changed"}])
        frozen = await finished(engine, (await engine.runs.replay(origin.id, Replay(mode="freeze"))).id)
        assert (frozen.status, frozen.divergences) == ("completed", 0)

    async def test_what_cannot_be_replayed_is_refused(self, engine: Engine):
        await engine.workflows.publish(CALC)
        origin = await engine.runs.start("calc", {"n": 4})
        await finished(engine, origin.id)
        for request in (Replay(from_step=3), Replay(from_step=-1), Replay(at=99), Replay(from_step=1, at=1)):
            with pytest.raises(Invalid):
                await engine.runs.replay(origin.id, request)
        with pytest.raises(StepMissing, match="did you mean 'double'"):
            await engine.runs.replay(origin.id, Replay(from_node="duoble"))
        with pytest.raises(StepMissing):
            await engine.runs.replay(origin.id, Replay(edits=Edits(nodes={"nope": {}})))
        with pytest.raises(InvalidInput):
            await engine.runs.replay(origin.id, Replay(edits=Edits(input={"n": "x"})))
        assert (await engine.runs.list(ListRuns(replay_of=origin.id))).items == []

    async def test_a_key_makes_one_replay(self, engine: Engine):
        await engine.workflows.publish(CALC)
        origin = await engine.runs.start("calc", {"n": 4})
        await finished(engine, origin.id)
        one = await engine.runs.replay(origin.id, Replay(idempotency_key="k"))
        two = await engine.runs.replay(origin.id, Replay(idempotency_key="k"))
        assert (two.id, two.replayed) == (one.id, True)
