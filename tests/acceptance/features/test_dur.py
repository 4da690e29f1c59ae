"""Durability: crashes, retries, waits, stops and statuses, as people see them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from features.harness import Gate, Ledger, ended, events, killed_in, ran, seen, served, statuses, steps, types
from features.pooled import square
from features.victim import build
from tenuto import App, Budget, Context, Permanent, Retry
from tenuto.bundled.postgres import LocalPostgres
from tenuto.errors import AlreadyDecided, KeyReused, RunTerminal
from tenuto.runtime.services.requests import ListRuns, Replay, StartRun
from tenuto.wiring import WorkerOptions, running

SCENARIOS = ("chain", "send", "resend", "looked", "charge", "recharge", "seen", "stuck")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of effects that outlives processes."""
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture(scope="module")
def wreck(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """What a process leaves behind that was killed in the middle of a run of every scenario."""
    home = tmp_path_factory.mktemp("wreck")
    runs = killed_in(SCENARIOS, f"sqlite:///{home}/t.db", Ledger(home / "ledger.jsonl"))
    return home, runs


@pytest.fixture
def killed(wreck: tuple[Path, dict[str, str]], tmp_path: Path) -> dict[str, str]:
    """The wreck for this test alone, at `sqlite_url` and in `ledger`; the runs by scenario."""
    for file in wreck[0].iterdir():
        if not file.name.endswith("-shm"):
            copy(file, tmp_path / file.name)
    return wreck[1]


def fails_then(app: App, n: int, name: str = "work", **options: Any) -> list[str]:
    """Register a step that fails n times; return what it did."""
    done: list[str] = []

    @app.step(name=name, **options)
    async def work(ctx: Context) -> str:
        done.append(ctx.key)
        if len(done) <= n:
            raise RuntimeError(f"failure {len(done)}")
        return "ok"

    return done


async def test_dur01_a_kill_resumes_after_the_last_checkpoint(both_url: str, ledger: Ledger):
    run_id = killed_in(["chain"], both_url, ledger)["chain"]
    assert ledger.names() == ["before", "pay", "middle"]
    async with build(ledger).engine(both_url) as engine:
        view = await ended(engine, run_id)
        told = await types(engine, run_id)
    assert view.status == "completed", view.error
    assert ledger.names() == ["before", "pay", "middle", "middle", "after"]
    assert steps(view)["middle"].attempt == 2
    assert "step.lost" in told
    assert told.count("run.claimed") == 2


async def test_dur02_each_step_is_claimed_by_exactly_one_worker(both_url: str):
    app, done = App("t"), []

    @app.step
    async def one(ctx: Context) -> str:
        done.append(f"{ctx.run_id}/{ctx.node}")
        return ctx.node

    app.workflow("w").step(one, id="a").step(one, id="b", after="a").step(one, id="c", after="b")
    async with app.engine(both_url, worker=False) as client:
        ids = [(await client.runs.start("w", {})).id for _ in range(30)]
        async with app.engine(both_url) as _, app.engine(both_url) as _, app.engine(both_url) as _:
            views = [await ended(client, run_id) for run_id in ids]
        workers = [e.data["worker"] for run_id in ids for e in await events(client, run_id) if e.type == "run.claimed"]
    assert {view.status for view in views} == {"completed"}
    assert len(done) == len(set(done)) == 90
    assert len(workers) == 30


async def test_dur03_the_work_of_a_silent_worker_is_reclaimed_when_its_lease_ends(both_url: str):
    app, gate, calls = App("t"), Gate(), []

    @app.step
    async def work(ctx: Context) -> int:
        calls.append(ctx.attempt)
        if len(calls) == 1:
            await gate()
        return ctx.attempt

    app.workflow("w").step(work)
    short = WorkerOptions(lease_ms=400, idle_s=0.05)
    async with running(both_url, app.catalog(), options=short) as silent:
        started = await silent.engine.runs.start("w", {})
        await gate.wait()
        assert silent.worker is not None
        for task in silent.worker._tasks:
            task.cancel()  # its heart stops; its code goes on
        async with app.engine(both_url, options=short) as engine:
            view = await ended(engine, started.id)
            told = await events(engine, started.id)
        gate.open.set()
    taken = next(e for e in told if e.type == "run.lease_taken")
    assert taken.data["from"] != taken.data["worker"]
    assert (view.status, view.output) == ("completed", {"work": 2})
    assert calls == [1, 2]


async def test_dur04_one_key_makes_one_run(both_url: str):
    app, done = App("t"), []

    @app.step
    async def work() -> int:
        done.append(1)
        return 1

    app.workflow("w").step(work)
    async with app.engine(both_url) as engine:
        request = {"workflow": "w", "input": {"n": 1}, "idempotency_key": "k"}
        answers = await asyncio.gather(*(engine.runs.submit(StartRun(**request)) for _ in range(5)))
        assert len({answer.id for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        with pytest.raises(KeyReused):
            await engine.runs.submit(StartRun(**{**request, "input": {"n": 2}}))
        await ended(engine, answers[0].id)
        assert (await engine.runs.submit(StartRun(**request))).id == answers[0].id
    assert done == [1]


async def test_dur05_an_identical_repeat_changes_nothing_and_another_decision_is_refused(both_url: str, tmp_path: Path):
    app = App("t")
    app.workflow("w").approval("ask", message="?").wait_signal("go", id="wait", after="ask")
    async with served(app, both_url, tmp_path) as (engine, client):
        run_id = (await engine.runs.start("w", {})).id
        ticket = (await seen(engine, run_id, "ticket.opened")).data["ticket"]
        url = f"/tickets/{ticket}/decision"
        first = await client.post(url, json={"decision": "approve", "reason": "r"})
        again = await client.post(url, json={"decision": "approve", "reason": "r"})
        other = await client.post(url, json={"decision": "reject", "reason": "r"})
        assert (first.status_code, again.status_code, other.status_code) == (200, 200, 409)
        assert first.json()["decided_at"] == again.json()["decided_at"]
        with pytest.raises(AlreadyDecided):
            await engine.tickets.decide(ticket, "reject", reason="r", by="bob")
        for _ in range(2):
            sent = await client.post(f"/runs/{run_id}/signals/go", json={"x": 1}, headers={"Idempotency-Key": "s"})
            assert sent.status_code in (202, 409)
        view = await ended(engine, run_id)
        told = await types(engine, run_id)
    assert view.status == "completed"
    assert told.count("ticket.decided") == 1
    assert told.count("run.signal_received") == 1


async def test_dur06_retries_double_their_wait_up_to_the_cap_and_show_it():
    app = App("t")
    done = fails_then(app, 3, retry=Retry(attempts=4, backoff_s=0.02, multiplier=2, max_backoff_s=0.03, jitter=0))
    fails_then(app, 99, name="later", retry=Retry(attempts=2, backoff_s=3600))
    app.workflow("w").step("work")
    app.workflow("later").step("later")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
        told = [event for event in await events(engine, view.id) if event.type == "step.retrying"]
        waits = [round((event.data["retry_at"] - event.at).total_seconds(), 3) for event in told]
        assert (view.status, len(done), waits) == ("completed", 4, [0.02, 0.03, 0.03])
        run_id = (await engine.runs.start("later", {})).id
        event = await seen(engine, run_id, "step.retrying")
        step = steps(await engine.runs.get(run_id))["later"]
        assert (step.status, step.attempt, step.retry_at) == ("retrying", 1, event.data["retry_at"])
        assert step.error is not None
        wait = (await engine.runs.why(run_id)).waits[0]
        assert (wait.kind, wait.until) == ("retry", step.retry_at)


def test_dur06_the_defaults_are_one_second_doubling_to_sixty_with_jitter():
    from tenuto.domain.runs.retry import delay_ms

    plain = Retry(attempts=9, jitter=0)
    assert [delay_ms(plain, n, "r", "s") for n in range(1, 9)] == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
    tasks = Retry(attempts=9, backoff_s=5, max_backoff_s=120)
    spread = {delay_ms(tasks, 1, f"run-{i}", "s") for i in range(50)}
    assert len(spread) > 10
    assert all(4500 <= ms <= 5500 for ms in spread)
    assert delay_ms(tasks, 3, "r", "s") == delay_ms(tasks, 3, "r", "s")


async def test_dur07_a_spent_step_is_a_dead_letter_that_can_be_redriven(both_url: str, tmp_path: Path):
    app = App("t")
    fails_then(app, 2, retry=Retry(attempts=2, backoff_s=0.001))
    app.workflow("w").step("work")
    async with served(app, both_url, tmp_path) as (engine, client):
        view = await ran(engine, "w")
        assert view.status == "failed"
        assert steps(view)["work"].status == "dead_letter"
        assert "failure 2" in steps(view)["work"].error.message
        letters = (await client.get("/dead-letters")).json()["items"]
        assert [(item["run"], item["step"]) for item in letters] == [(view.id, "work")]
        assert letters[0]["error"]["message"] == "failure 2"
        answer = await client.post(f"/dead-letters/{letters[0]['id']}/redrive", json={})
        assert answer.status_code == 202, answer.text
        await seen(engine, view.id, "run.completed")
        view = await ended(engine, view.id)
        assert (view.status, view.output) == ("completed", {"work": "ok"})
        assert (await client.get("/dead-letters")).json()["items"] == []
        assert (await client.post(f"/dead-letters/{letters[0]['id']}/redrive", json={})).status_code == 409


async def test_dur08_transient_failures_are_retried_and_deterministic_ones_are_not():
    app, done = App("t"), []

    @app.step(retry=Retry(attempts=5, backoff_s=0.001, non_retryable=("KeyError",)))
    async def work(kind: str) -> str:
        done.append(kind)
        if kind == "permanent":
            raise Permanent("never")
        if kind == "listed":
            raise KeyError("never")
        if len(done) < 3:
            raise ConnectionError("again")
        return "ok"

    app.workflow("w").step(work)
    async with app.engine("memory:") as engine:
        assert (await ran(engine, "w", {"kind": "transient"})).status == "completed"
        assert done == ["transient"] * 3
        for kind in ("permanent", "listed"):
            done.clear()
            view = await ran(engine, "w", {"kind": kind})
            assert (view.status, done) == ("failed", [kind])
            assert "step.dead_lettered" in await types(engine, view.id)


@pytest.mark.parametrize(
    ("decision", "status", "output"),
    [("retry", "completed", {"after": "ok"}), ("skip", "completed", {"after": "none"}), ("fail", "failed", None)],
)
async def test_dur08_a_person_reviews_a_failure_with_retry_skip_or_fail(decision: str, status: str, output: Any):
    app, done = App("t"), []

    @app.step
    async def work(ctx: Context) -> str:
        done.append(ctx.attempt)
        if len(done) == 1:
            raise Permanent("broken")
        return "ok"

    built = app.workflow("w").step(work, on_error="escalate")
    built.transform("after", value="nodes.work.output == null ? 'none' : nodes.work.output").edge("work", "after")
    async with app.engine("memory:") as engine:
        run_id = (await engine.runs.start("w", {})).id
        opened = await seen(engine, run_id, "ticket.opened")
        assert opened.data["kind"] == "escalation"
        assert "broken" in opened.data["message"]
        await engine.tickets.decide(opened.data["ticket"], decision, reason="seen", by="ann")
        view = await ended(engine, run_id)
    assert (view.status, view.output) == (status, output)


async def test_dur09_only_the_failed_step_repeats():
    app, ran_ = App("t"), []

    @app.step
    async def first() -> int:
        ran_.append("first")
        return 1

    app_done = fails_then(app, 2, retry=Retry(attempts=3, backoff_s=0.001))
    app.workflow("w").step(first).step("work", after="first")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert view.status == "completed"
    assert ran_ == ["first"]
    assert len(app_done) == 3


async def test_dur11_a_fallback_value_or_node_stands_in():
    app, done = App("t"), []

    @app.step
    async def work() -> None:
        raise Permanent("no")

    @app.step
    async def plan_b(value: Any = None) -> str:
        done.append("b")
        return "b"

    app.workflow("value").step(work, on_error={"fallback": {"value": {"x": 0}}}).transform("after", value="nodes.work.output.x").edge("work", "after")
    app.workflow("node").step(work, on_error={"fallback": "spare"}).step(plan_b, id="spare").transform("after", value="1").edge("work", "after")
    async with app.engine("memory:") as engine:
        by_value = await ran(engine, "value")
        assert (by_value.status, by_value.output) == ("completed", {"after": 0})
        assert steps(by_value)["work"].status == "failed"
        by_node = await ran(engine, "node")
    assert by_node.status == "completed", by_node.error
    assert done == ["b"]
    assert statuses(by_node)["spare"] == "completed"


async def test_dur12_a_failed_branch_leaves_the_others_running(both_url: str):
    app, failed = App("t"), asyncio.Event()

    @app.step
    async def bad() -> None:
        raise Permanent("no")

    @app.step
    async def good(value: Any = None) -> str:
        await failed.wait()
        return "done"

    app.workflow("w").step(bad).step(good, id="one").step(good, id="two", after="one").step(good, id="never", after=["bad", "two"])
    async with app.engine(both_url) as engine:
        run_id = (await engine.runs.start("w", {})).id
        await seen(engine, run_id, "step.dead_lettered")
        assert (await engine.runs.get(run_id)).status == "running"
        failed.set()
        view = await ended(engine, run_id)
    assert view.status == "failed"
    assert "bad" in view.error.message
    found = statuses(view)
    assert (found["one"], found["two"]) == ("completed", "completed")
    assert found.get("never", "blocked") == "blocked"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1.0, float("nan")]}, "/a/1"), ({"a": {1: "x"}}, "/a"), (object(), "object"), ({"a": {"b": 1j}}, "complex"),
        ("\ud800", "surrogate"), ("x" * 50_000_000, "50,000,002"),
    ],
    ids=["nan", "number as key", "object", "complex", "half a character", "50 MB"],
)  # fmt: skip
@pytest.mark.parametrize("inside_a_call", [False, True])
async def test_dur12_a_result_that_cannot_be_kept_is_a_clear_failure(value: Any, told: str, inside_a_call: bool):
    app = App("t")

    async def make() -> Any:
        return value

    @app.step
    async def bad(ctx: Context) -> Any:
        return await ctx.call(make) if inside_a_call else value

    app.workflow("w").step(bad).transform("other", value="1")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    error = steps(view)["bad"].error
    assert (view.status, error.code, steps(view)["bad"].attempt) == ("failed", "output.invalid", 1)
    assert told in error.message
    assert steps(view)["other"].status == "completed"


async def test_dur12_large_values_pass_through_every_place(sqlite_url: str):
    app = App("t")
    text = "x" * 20_000

    @app.step
    async def big(value: Any = None) -> str:
        return text

    @app.step
    async def called(ctx: Context) -> dict[str, str]:
        async def make() -> str:
            return text + "y"

        return {"got": await ctx.call(make)}

    app.workflow("last").step(big)
    app.workflow("call").step(called)
    app.workflow("map").map("m", over="[1, 2]", body=app.body().step(big, id="one", input={}))
    app.workflow("routed").step(big).transform("t", value="size(nodes.big.output)").edge("big", "t", when="size(output) > 9")
    app.workflow("sub").subflow("s", "last", input={})
    app.workflow("signal").wait_signal("go", id="go")
    app.workflow("input").transform("t", value="input")
    async with app.engine(sqlite_url) as engine:
        assert (await ran(engine, "last")).output == {"big": text}
        assert (await ran(engine, "call")).output == {"called": {"got": text + "y"}}
        assert (await ran(engine, "map")).output == {"m": [text, text]}
        assert (await ran(engine, "routed")).output == {"t": 20_000}
        assert (await ran(engine, "sub")).output == {"s": {"big": text}}
        assert (await ran(engine, "input", {"t": text})).output == {"t": {"t": text}}
        run_id = (await engine.runs.start("signal", {})).id
        await engine.runs.signal(run_id, "go", text)
        assert (await ended(engine, run_id)).output["go"]["payload"] == text


async def test_dur13_a_dependent_never_starts_early_and_says_what_it_waits_for():
    app, gate = App("t"), Gate()

    @app.step
    async def slow() -> int:
        await gate()
        return 1

    @app.step
    async def next_(value: Any) -> int:
        assert gate.open.is_set()
        return 2

    app.workflow("w").step(slow).step(next_, id="next", after="slow")
    async with app.engine("memory:") as engine:
        run_id = (await engine.runs.start("w", {})).id
        await gate.wait()
        all_steps = {step.id: step for step in (await engine.history.steps(run_id)).items}
        view = steps(await engine.runs.get(run_id))
        shown = all_steps.get("next") or view.get("next")
        graph = {node.id: node.status for node in (await engine.history.graph(run_id)).nodes}
        assert graph["next"] == "blocked"
        why = await engine.runs.why(run_id)
        waits = [wait for wait in why.waits if wait.step == "next" or wait.node == "next"]
        assert shown is not None or waits, "nothing says why `next` has not begun"
        if shown is not None:
            assert shown.status in ("blocked", "pending")
            assert shown.waiting_for is not None
            assert "slow" in shown.waiting_for.who + shown.waiting_for.message + shown.waiting_for.name
        gate.open.set()
        assert (await ended(engine, run_id)).status == "completed"


async def test_dur14_a_run_that_cannot_go_on_fails_and_names_the_reason():
    app = App("t")

    @app.step
    async def bad() -> None:
        raise Permanent("no way")

    app.workflow("w").step(bad).transform("after", value="1").edge("bad", "after")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
        why = await engine.runs.why(view.id)
    assert view.status == "failed"
    assert "bad" in view.error.message
    assert "no way" in view.error.message
    assert "bad" in str(why)


async def test_dur15_a_run_completes_when_nothing_is_open_and_leaves_nothing_behind(sqlite_url: str):
    app = App("t")
    app.workflow("w").approval("ask", message="?").wait_signal("go", id="go").join("both", after=["ask", "go"])
    async with app.engine(sqlite_url) as engine:
        run_id = (await engine.runs.start("w", {})).id
        ticket = (await seen(engine, run_id, "ticket.opened")).data["ticket"]
        await engine.runs.signal(run_id, "go", 1)
        await seen(engine, run_id, lambda e: e.type == "step.completed" and e.node == "go")
        assert (await engine.runs.get(run_id)).status == "waiting"
        await engine.tickets.decide(ticket, "approve", by="ann")
        assert (await ended(engine, run_id)).status == "completed"
        assert (await engine.tickets.list(state="open")).items == []
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as db:
        tables = {row[0] for row in db.execute("select name from sqlite_master where type = 'table'")}
        for table in tables & {"inbox", "outbox", "task"}:
            assert db.execute(f"select count(*) from {table}").fetchone() == (0,), table


async def test_dur16_timers_and_the_runs_own_deadline_survive_a_restart(both_url: str):
    app = App("t")
    app.workflow("w").sleep("nap", seconds=0.2).transform("after", value="1").edge("nap", "after")
    app.workflow("late").wait_signal("never", id="wait")
    async with app.engine(both_url) as engine:
        nap = (await engine.runs.start("w", {})).id
        late = (await engine.runs.start("late", {}, budget=Budget(wall_clock_s=0.3))).id
        for run_id in (nap, late):
            await seen(engine, run_id, "step.waiting")
    async with app.engine(both_url) as engine:
        assert (await ended(engine, nap)).output == {"after": 1}
        view = await ended(engine, late)
        assert view.status == "budget_exceeded"
        assert "wall_clock_s" in view.error.message
        told = await types(engine, late)
        assert told[-1] == "run.budget_exceeded"
        assert "step.cancelled" in told
        with pytest.raises(RunTerminal):
            await engine.runs.signal(late, "never")


async def test_dur17_a_run_that_waits_for_weeks_costs_no_worker(both_url: str):
    app = App("t")

    @app.step
    async def code(ctx: Context) -> Any:
        return await ctx.wait_signal("later", timeout_s=30 * 86_400)

    app.workflow("w").sleep("nap", seconds=21 * 86_400)
    app.workflow("c").step(code)
    async with running(both_url, app.catalog()) as first:
        ids = [(await first.engine.runs.start(name, {})).id for name in ("w", "c")]
        for run_id in ids:
            await seen(first.engine, run_id, "step.waiting")
        assert first.worker is not None
        while first.worker.actors:
            await asyncio.sleep(0)
        for run_id in ids:
            assert (await first.engine.runs.get(run_id)).status == "waiting"
        until = [(await first.engine.runs.why(run_id)).waits[0].until for run_id in ids]
    async with running(both_url, app.catalog()) as second:
        for run_id, before in zip(ids, until, strict=True):
            view = await second.engine.runs.get(run_id)
            assert view.status == "waiting"
            assert (await second.engine.runs.why(run_id)).waits[0].until == before
            assert isinstance(before, datetime)
            assert before - view.created_at > timedelta(days=20)
        assert second.worker is not None
        assert not second.worker.actors
        await second.engine.runs.signal(ids[1], "later", "now")
        assert (await ended(second.engine, ids[1])).output == {"code": "now"}


async def test_dur18_whoever_coordinates_may_die_at_any_moment(
    sqlite_url: str, killed: dict[str, str], ledger: Ledger
):
    paid = ledger.names().count("pay")
    async with build(ledger).engine(sqlite_url) as engine:
        for scenario in ("chain", "stuck", "resend", "looked"):
            assert (await ended(engine, killed[scenario])).status == "completed"
            assert (await engine.audit.verify(run_id=killed[scenario])) is not None
    assert ledger.names().count("pay") == paid == 1


async def test_dur19_a_graceful_stop_waits_then_gives_work_back(both_url: str):
    app, gate, tries = App("t"), Gate(), []

    @app.step(retry=1)
    async def work(ctx: Context) -> int:
        tries.append(ctx.attempt)
        if len(tries) == 1:
            await gate()
        return len(tries)

    app.workflow("w").step(work)
    async with running(both_url, app.catalog(), options=WorkerOptions(grace_s=0.05)) as first:
        run_id = (await first.engine.runs.start("w", {})).id
        await gate.wait()
    assert gate.cancelled == 1
    assert WorkerOptions().grace_s == 30
    async with app.engine(both_url, worker=False) as client:
        told = await types(client, run_id)
        assert "step.interrupted" in told
        assert statuses(await client.runs.get(run_id))["work"] in ("ready", "pending", "running")
        async with app.engine(both_url):
            view = await ended(client, run_id)
    assert (view.status, view.output) == ("completed", {"work": 2})
    assert "step.lost" not in told


async def test_dur19_a_graceful_stop_lets_work_finish_within_the_grace(sqlite_url: str):
    app, gate = App("t"), Gate()

    @app.step
    async def work() -> int:
        await gate()
        return 1

    app.workflow("w").step(work).step(work, id="next", after="work", input={})
    runtime = running(sqlite_url, app.catalog())
    async with runtime as first:
        run_id = (await first.engine.runs.start("w", {})).id
        await gate.wait()
        gate.open.set()
    assert gate.cancelled == 0
    async with app.engine(sqlite_url) as engine:
        assert (await ended(engine, run_id)).status == "completed"


async def test_dur20_what_ran_counts_a_loss_and_what_was_queued_does_not(
    sqlite_url: str, killed: dict[str, str], ledger: Ledger
):
    async with build(ledger).engine(sqlite_url, worker=False) as client:
        queued = (await client.runs.start("stuck", {})).id
    async with build(ledger).engine(sqlite_url) as engine:
        hit, spared = await ended(engine, killed["chain"]), await ended(engine, queued)
        assert "step.lost" in await types(engine, hit.id)
        assert "step.lost" not in await types(engine, queued)
    assert steps(hit)["middle"].attempt == 2
    assert steps(hit)["after"].attempt == 1
    assert steps(spared)["stuck"].attempt == 1


async def test_dur21_the_audit_of_a_killed_run_tells_the_story(
    sqlite_url: str, killed: dict[str, str], ledger: Ledger
):
    async with build(ledger).engine(sqlite_url) as engine:
        assert (await ended(engine, killed["chain"])).status == "completed"
        told = await events(engine, killed["chain"])
        assert (await engine.audit.verify(killed["chain"])).ok
    names = [event.type for event in told]
    order = ["run.created", "run.claimed", "run.lease_taken", "run.claimed", "step.lost", "run.completed"]
    places = [names.index(order[0]), names.index(order[1])]
    places.append(names.index("run.lease_taken"))
    places.append(names.index("run.claimed", places[-1]))
    places.append(names.index("step.lost"))
    places.append(names.index("run.completed"))
    assert places == sorted(places), names
    workers = [event.data["worker"] for event in told if event.type == "run.claimed"]
    assert len(set(workers)) == 2


async def test_dur24_a_restarted_database_loses_and_doubles_nothing(postgres_server: LocalPostgres, postgres_url: str):
    app, gate, done = App("t"), Gate(), []

    @app.step
    async def one(ctx: Context, value: Any = None) -> str:
        done.append(f"{ctx.run_id}/{ctx.node}")
        if ctx.node == "b":
            await gate()
        return ctx.node

    app.workflow("w").step(one, id="a").step(one, id="b", after="a").step(one, id="c", after="b")
    async with app.engine(postgres_url) as engine:
        ids = [(await engine.runs.start("w", {})).id for _ in range(5)]
        for run_id in ids:
            await seen(engine, run_id, lambda e: e.type == "step.started" and e.node == "b")
        await asyncio.to_thread(postgres_server.restart, "immediate")
        gate.open.set()
        views = [await ended(engine, run_id) for run_id in ids]
        assert (await engine.audit.verify()).ok
    assert {view.status for view in views} == {"completed"}
    assert len(done) == len(set(done)) == 15


async def test_dur22_nothing_is_needed_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("TENUTO_DATABASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    app = App("t")
    app.workflow("w").agent("say", prompt="hello ${input.x}")
    output = await app.run("w", {"x": 1})
    assert output["say"]["content"] == "offline:hello 1"
    assert (tmp_path / ".tenuto" / "tenuto.db").exists()
    assert await app.run("w", {"x": 1}) == output


async def test_dur23_start_status_list_and_cancel(both_url: str, tmp_path: Path):
    app, gate = App("t"), Gate()

    @app.step
    async def work() -> int:
        await gate()
        return 1

    app.workflow("w").step(work)
    app.workflow("quick").transform("a", value="1")
    async with served(app, both_url, tmp_path) as (engine, client):
        started = await client.post("/runs", json={"workflow": "w"})
        assert (started.status_code, set(started.json()) >= {"id", "status"}) == (202, True)
        run_id = started.json()["id"]
        await gate.wait()
        for _ in range(3):
            await ran(engine, "quick")
        async with asyncio.timeout(10):
            while len((await client.get("/runs", params={"status": "completed", "limit": 2})).json()["items"]) < 2:
                await asyncio.sleep(0)
        running_ = (await client.get("/runs", params={"status": "running"})).json()["items"]
        assert [item["id"] for item in running_] == [run_id]
        assert (await client.post(f"/runs/{run_id}/cancel", json={"reason": "enough"})).status_code == 202
        view = await ended(engine, run_id)
        assert (view.status, gate.cancelled) == ("cancelled", 1)
        assert (await client.post(f"/runs/{run_id}/cancel", json={})).status_code == 409


async def test_dur25_a_step_has_one_key_on_every_attempt(tmp_path: Path):
    app, calls = App("t"), []

    @app.tool(effect="idempotent")
    async def call(idempotency_key: str) -> str:
        calls.append(idempotency_key)
        if len(calls) < 3:
            raise ConnectionError("again")
        return "ok"

    keys = fails_then(app, 1, retry=Retry(attempts=2, backoff_s=0.001))
    app.workflow("w").step("work").tool(call, args={}, retry=Retry(attempts=3, backoff_s=0.001)).edge("work", "call")
    async with served(app, "memory:", tmp_path) as (engine, client):
        view = await ran(engine, "w")
        shown = {s["id"]: s["key"] for s in (await client.get(f"/runs/{view.id}/steps")).json()["items"]}
    assert view.status == "completed", view.error
    assert len(keys) == 2
    assert set(keys) == {shown["work"]}
    assert len(calls) == 3
    assert len(set(calls)) == 1
    assert calls[0].startswith(shown["call"])


async def test_dur26_the_journal_knows_of_an_attempt_before_its_code_runs(
    sqlite_url: str, killed: dict[str, str], ledger: Ledger
):
    async with build(ledger).engine(sqlite_url, worker=False) as client:
        told = await events(client, killed["stuck"])
    started = next(e for e in told if e.type == "step.started")
    claimed = next(e for e in told if e.type == "run.claimed")
    assert (started.step, started.data["attempt"]) == ("stuck", 1)
    assert started.at is not None
    assert claimed.data["worker"]
    assert told.index(claimed) < told.index(started)


async def test_dur28_the_steps_of_one_run_are_spread_over_processes(sqlite_url: str):
    app = App("t")
    app.step(isolation="process")(square)
    app.workflow("w").map("m", over="${input}", body=app.body().step("square", id="one", input={"item": "${item}"}))
    async with app.engine(sqlite_url) as engine:
        started = await engine.runs.start("w", list(range(12)))
        view = await ended(engine, started.id)
    assert view.status == "completed", view.error
    assert [item["square"] for item in view.output["m"]] == [n * n for n in range(12)]
    assert os.getpid() not in {item["pid"] for item in view.output["m"]}


async def test_dur29_an_altered_journal_halts_its_run_and_no_other(sqlite_url: str):
    app = App("t")
    app.workflow("w").wait_signal("go", id="go").transform("after", value="1").edge("go", "after")
    async with app.engine(sqlite_url) as engine:
        bad, good = [(await engine.runs.start("w", {"n": n})).id for n in (1, 2)]
        for run_id in (bad, good):
            await seen(engine, run_id, "step.waiting")
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as db:
        query = "select rowid, body from rec where seq = 1"
        row, body = next((row, body) for row, body in db.execute(query) if b'"n":1' in body)
        db.execute("update rec set body = ? where rowid = ?", (body.replace(b'"n":1', b'"n":7'), row))
    async with app.engine(sqlite_url) as engine:
        await engine.runs.signal(bad, "go")
        await engine.runs.signal(good, "go")
        assert (await ended(engine, good)).status == "completed"
        async with asyncio.timeout(10):
            while not (tickets := (await engine.tickets.list(kind="integrity")).items):
                await asyncio.sleep(0)
        assert tickets[0].run == bad
        assert [run.id for run in (await engine.runs.list(ListRuns(status=("paused",)))).items] == [bad]


async def test_dur27_a_failed_run_goes_round_again_and_then_is_a_dead_letter_itself(both_url: str):
    app, first = App("t"), []

    @app.step
    async def before() -> int:
        first.append(1)
        return 1

    done = fails_then(app, 4)
    flow = app.workflow("w").step(before).step("work", after="before")
    flow.retry(2, backoff_s=0.01)
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w")
        assert (view.status, len(done), len(first)) == ("failed", 2, 1)
        again = [event for event in await events(engine, view.id) if event.type == "run.retrying"]
        assert [event.data["attempt"] for event in again] == [1]
        assert again[0].data["error"]["message"] == "failure 1"
        letters = {letter.step: letter for letter in (await engine.dead_letters.list(run=view.id)).items}
        assert set(letters) == {"", "work"}, "the run itself is listed beside its step"
        last = (await events(engine, view.id))[-1].id
        for _ in range(4):
            broken = (await engine.dead_letters.list(run=view.id)).items
            await engine.dead_letters.redrive(next(letter.id for letter in broken if letter.step == ""))
            async with asyncio.timeout(20):
                async for event in engine.history.stream(view.id, after=last):
                    last = event.id
                    if event.type in ("run.failed", "run.completed"):
                        break
            if event.type == "run.completed":
                break
        view = await engine.runs.get(view.id)
        assert (await engine.dead_letters.list(run=view.id)).items == []
    assert (view.status, view.output, len(first)) == ("completed", {"work": "ok"}, 1)


async def test_dur30_an_effect_with_a_lost_outcome_waits_for_a_person(
    sqlite_url: str, killed: dict[str, str], ledger: Ledger
):
    async with build(ledger).engine(sqlite_url) as engine:
        opened = await seen(engine, killed["send"], "ticket.opened")
        assert opened.data["kind"] == "unknown_outcome"
        ticket = await engine.tickets.get(opened.data["ticket"])
        assert set(ticket.choices) == {"retry", "succeeded", "failed"}
        assert (await engine.runs.get(killed["send"])).status == "waiting"
        await engine.tickets.decide(ticket.id, "succeeded", data="it was sent", by="ann")
        view = await ended(engine, killed["send"])
    assert (view.status, view.output) == ("completed", {"send": "it was sent"})
    assert ledger.names().count("send") == 1


async def test_dur30_the_declared_policies_do_as_they_are_named(
    sqlite_url: str, killed: dict[str, str], ledger: Ledger
):
    async with build(ledger).engine(sqlite_url) as engine:
        assert (await ended(engine, killed["resend"])).output == {"resend": "sent"}
        assert (await ended(engine, killed["looked"])).output == {"looked": "found"}
        opened = await seen(engine, killed["charge"], "ticket.opened")
        assert opened.data["kind"] == "unknown_outcome"
        await engine.tickets.decide(opened.data["ticket"], "retry", by="ann")
        assert (await ended(engine, killed["charge"])).output == {"charge": "charged"}
        assert (await ended(engine, killed["recharge"])).output == {"recharge": "charged"}
        assert (await ended(engine, killed["seen"])).output == {"seen": "found"}
    assert ledger.names().count("recharge") == 2
    assert ledger.names().count("seen") == 1, "the hook knew that it had happened"
    resent = [entry["key"] for entry in ledger.read() if entry["what"] == "resend"]
    assert len(resent) == 2
    assert len(set(resent)) == 1
    assert ledger.names().count("looked") == 1
    charged = [entry["key"] for entry in ledger.read() if entry["what"] == "charge"]
    assert len(charged) == 2
    assert len(set(charged)) == 1


async def test_dur30_a_post_cut_off_is_asked_about_and_not_sent_again(sqlite_url: str):
    asked: list[bytes] = []

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return
        if b"/slow" in asked[-1]:
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(cut, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    def document(name: str, path: str, **more: Any) -> dict[str, Any]:
        config = {"url": base + path, "method": "POST", **more.pop("config", {})}
        return {"name": name, "nodes": [{"id": "post", "kind": "http", "config": config, **more}]}

    async with running(sqlite_url, App("t").catalog(), http_allow=["127.0.0.1"]) as runtime, listening:
        engine = runtime.engine
        for body in (document("cut", "/"), document("slow", "/slow", timeout_s=0.4)):
            asked.clear()
            await engine.workflows.publish(body)
            run_id = (await engine.runs.start(body["name"], {})).id
            opened = await seen(engine, run_id, "ticket.opened")
            assert opened.data["kind"] == "unknown_outcome"
            sent = len(asked)
            assert sent <= 1  # none where the time was over before the connection stood
            await engine.tickets.decide(opened.data["ticket"], "succeeded", data={"body": "it was"}, by="ann")
            view = await ended(engine, run_id)
            assert (view.status, view.output) == ("completed", {"post": {"body": "it was"}})
            assert len(asked) == sent
        for effect in ("idempotent", "effect"):
            asked.clear()
            retry = {"attempts": 3, "backoff_s": 0.001}
            body = document(effect, "/", effect=effect, on_unknown="retry" if effect == "effect" else "", retry=retry)
            await engine.workflows.publish(body)
            assert (await ran(engine, effect)).status == "failed"
            assert len(asked) == 3
            keys = {line for request in asked for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key")}
            assert len(keys) == 1


async def test_dur31_every_status_is_reached_filterable_and_announced_once(tmp_path: Path):
    app, gate = App("t"), Gate()

    @app.step
    async def work() -> None:
        await gate()

    @app.step
    async def bad() -> None:
        raise Permanent("no")

    app.workflow("done").transform("a", value="1")
    app.workflow("bad").step(bad)
    app.workflow("wait").wait_signal("go", id="go")
    app.workflow("hang").step(work)
    async with served(app, "memory:", tmp_path) as (engine, client):
        ids = {"completed": (await ran(engine, "done")).id, "failed": (await ran(engine, "bad")).id}
        ids["budget_exceeded"] = (await ran(engine, "wait", budget=Budget(wall_clock_s=0.01))).id
        for status in ("waiting", "paused", "cancelled"):
            ids[status] = (await engine.runs.start("wait", {})).id
            await seen(engine, ids[status], "step.waiting")
        await engine.runs.pause(ids["paused"])
        await seen(engine, ids["paused"], "run.paused")
        await engine.runs.cancel(ids["cancelled"])
        await ended(engine, ids["cancelled"])
        ids["running"] = (await engine.runs.start("hang", {})).id
        ids["queued"] = (await engine.runs.start("done", {}, start_at=4_000_000_000_000)).id
        await gate.wait()
        again = (await engine.runs.replay(ids["completed"], Replay())).id
        await ended(engine, again)
        for status, run_id in ids.items():
            assert (await client.get(f"/runs/{run_id}")).json()["status"] == status
            async with asyncio.timeout(10):
                while True:
                    found = (await client.get("/runs", params={"status": status})).json()["items"]
                    if run_id in {item["id"] for item in found}:
                        break
                    await asyncio.sleep(0)
            assert {item["status"] for item in found} == {status}
        for status, name in {"completed": "run.completed", "failed": "run.failed", "cancelled": "run.cancelled",
                             "paused": "run.paused", "budget_exceeded": "run.budget_exceeded"}.items():  # fmt: skip
            assert (await types(engine, ids[status])).count(name) == 1
        of = (await client.get("/runs", params={"replay_of": ids["completed"]})).json()["items"]
        assert [item["id"] for item in of] == [again]
        gate.open.set()
