"""Replay: cuts, modes, edits, versions and stored values."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.harness import Gate, ended, events, listening, ran, seen, served, statuses, steps, types
from tenuto import App, Context, Permanent
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.errors import Invalid, StepMissing, TenutoError, WorkflowMissing
from tenuto.ports.model import ModelReply
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import Edits, ListRuns, Replay, StartRun


class Chain:
    """A chain of five steps that notes what it executes, over `n` of the input."""

    def __init__(self) -> None:
        """Build the app."""
        self.app = App("t")
        self.done: list[str] = []

        @self.app.step
        async def add(ctx: Context, value: dict[str, Any]) -> int:
            self.done.append(ctx.node)
            return sum(v for v in value.values() if isinstance(v, int)) + 1

        flow = self.app.workflow("chain")
        for before, name in zip(["", *"abcd"], "abcde", strict=False):
            flow.step(add, id=name, after=before or ())


async def again(engine: Engine, run_id: str, **request: Any) -> Any:
    """Replay a run and wait for the end."""
    return await ended(engine, (await engine.runs.replay(run_id, Replay(**request))).id)


async def test_rep01_a_replay_keeps_the_first_steps_and_says_where_it_comes_from(tmp_path: Path, both_url: str):
    chain = Chain()
    async with served(chain.app, both_url, tmp_path) as (engine, client):
        view = await ran(engine, "chain", {"n": 1})
        chain.done.clear()
        answer = await client.post(f"/runs/{view.id}/replay", json={"fromStep": 2})
        assert (answer.status_code, answer.json()["replay_of"]) == (202, view.id)
        run = (await client.get(f"/runs/{answer.json()['id']}?wait=20")).json()
        told = await events(engine, run["id"])
        origin = await engine.runs.get(view.id)
    assert chain.done == ["c", "d", "e"]
    assert (run["status"], run["replay_of"], run["from_step"], run["output"]) == ("completed", view.id, 2, view.output)
    assert [step["id"] for step in run["steps"] if step["reused"]] == ["a", "b"]
    assert told[0].data["replay_of"] == view.id
    reused = [event for event in told if event.type == "step.replayed"]
    assert [(event.step, event.data["from_run"]) for event in reused] == [("a", view.id), ("b", view.id)]
    assert origin == view


async def test_rep02_a_replay_from_a_node_by_the_command_line(tmp_path: Path, sqlite_url: str):
    chain = Chain()
    async with listening(chain.app, sqlite_url, tmp_path) as (engine, command):
        view = await ran(engine, "chain", {"n": 1})
        chain.done.clear()
        done = await command("replay", view.id, "--from", "d", "--output", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        async for _ in _of(engine, view.id):
            break
        made = [run async for run in _of(engine, view.id)]
        assert len(made) == 1
        assert (await ended(engine, made[0])).output == view.output
        wrong = await command("replay", view.id, "--from", "dd")
        assert wrong.returncode == 2
        assert "'d'" in wrong.stdout + wrong.stderr
    assert chain.done == ["d", "e"]


async def _of(engine: Engine, origin: str) -> Any:
    for run in (await engine.runs.list()).items:
        if run.replay_of == origin:
            yield run.id


def effects(app: App) -> list[str]:
    """Register a tool with an effect, a lookup and a workflow of both; return what was done."""
    done: list[str] = []

    @app.tool
    async def pay(amount: int) -> str:
        done.append(f"pay {amount}")
        return "paid"

    @app.tool(effect="idempotent")
    async def look(amount: int) -> str:
        done.append(f"look {amount}")
        return "seen"

    flow = app.workflow("w").tool(look, args={"amount": "${input.n}"}).tool(pay, args={"amount": "${input.n}"})
    flow.edge("look", "pay").transform("after", value="nodes.pay.output == null ? 'none' : 'some'").edge("pay", "after")
    return done


async def test_rep03_freeze_uses_recorded_results_and_runs_nothing(both_url: str):
    app = App("t")
    done = effects(app)
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w", {"n": 3})
        done.clear()
        frozen = await again(engine, view.id, mode="freeze")
    assert done == []
    assert (frozen.status, frozen.mode, frozen.divergences) == ("completed", "freeze", 0)
    assert frozen.output == view.output
    assert all(step.reused for step in frozen.steps)


async def test_rep03_shadow_makes_no_effects_and_does_the_rest(both_url: str):
    app = App("t")
    done = effects(app)
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w", {"n": 3})
        done.clear()
        shadow = await again(engine, view.id, mode="shadow")
    assert done == ["look 3"]
    assert (shadow.status, shadow.mode, shadow.output) == ("completed", "shadow", {"after": "none"})


async def test_rep03_shadow_lets_no_step_or_sub_flow_act(sqlite_url: str):
    app, done = App("t"), []

    @app.step(effect="effect")
    async def charge(value: Any = None) -> str:
        done.append("charge")
        return "charged"

    @app.step
    async def look(ctx: Context) -> str:
        async def pay() -> str:
            done.append("pay")
            return "paid"

        return str(await ctx.call(pay, effect="effect"))

    @app.step
    async def compute() -> int:
        done.append("compute")
        return 7

    app.workflow("grandchild").step(charge).step(compute)
    app.workflow("child").step(charge).step(compute).subflow("sub", "grandchild", input={})
    app.workflow("w").step(charge).step(look, after="charge", input={}).subflow("sub", "child", input={}, after="look")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w")
        assert sorted(done) == ["charge", "charge", "charge", "compute", "compute", "pay"]
        done.clear()
        shadow = await again(engine, view.id, mode="shadow")
        assert (await engine.audit.verify(shadow.id)).ok
        (child,) = (await engine.runs.list(ListRuns(parent=shadow.id))).items
        inner = await engine.runs.get(child.id)
        (grandchild,) = (await engine.runs.list(ListRuns(parent=child.id))).items
        assert (await engine.runs.get(grandchild.id)).mode == "shadow"
    assert (shadow.status, done) == ("completed", ["compute", "compute"]), "children run, in shadow"
    assert (inner.mode, inner.replay_of) == ("shadow", None)
    assert shadow.output["sub"]["compute"] == 7


async def test_rep03_a_frozen_replay_of_a_run_that_goes_on_verifies_what_there_is(sqlite_url: str):
    app, limit = App("t"), [5]

    def large(output: dict[str, int]) -> bool:
        return output["n"] > limit[0]

    flow = app.workflow("w").transform("a", value="{'n': input.n}").wait_signal("go", id="go").transform("other", value="1")
    flow.edge("a", "go", when=large).edge("a", "other", on="default").transform("end", value="2", after="go")
    async with app.engine(sqlite_url) as engine:
        run = (await engine.runs.start("w", {"n": 9})).id
        await seen(engine, run, "step.waiting")
        frozen = await again(engine, run, mode="freeze")
        assert frozen.divergences == 0
        assert frozen.error.code == "replay.unended"
        assert "verified, with 0 divergences" in frozen.error.message
        assert "ends at go" in frozen.error.message
        assert "run.diverged" not in [event.type for event in await events(engine, frozen.id)]
        limit[0] = 100
        diverged = await again(engine, run, mode="freeze")
        assert diverged.divergences == 1


@pytest.mark.parametrize("cut", [{"from_node": "b"}, {"from_step": "c"}, {"from_step": 1}, {"from_step": 0}])
async def test_rep03_a_frozen_replay_from_a_step_takes_what_is_recorded_behind_it_too(sqlite_url: str, cut: dict[str, Any]):
    app, done = App("t"), []

    @app.step
    async def work(value: Any) -> str:
        done.append(value)
        return "worked"

    app.workflow("w").step(work, id="a").step(work, id="b", after="a").step(work, id="c", after="b")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w")
        done.clear()
        frozen = await again(engine, view.id, mode="freeze", **cut)
        assert (frozen.status, frozen.divergences, frozen.output) == ("completed", 0, view.output), frozen.error
        assert not done
        with pytest.raises(TenutoError, match=r"nowhere|out of range"):
            await again(engine, view.id, mode="freeze", **({"from_step": 9} if cut == {"from_step": 1} else {"from_node": "nowhere"}))


async def test_rep03_items_of_a_map_taken_over_whole_are_no_difference(sqlite_url: str):
    app = App("t")
    body = app.body().transform("one", value="input + 1").transform("two", value="nodes.one.output * 2").edge("one", "two")
    app.workflow("w").map("m", over="${input.n}", body=body).transform("end", value="nodes.m.output", after="m")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", {"n": [1, 2, 3]})
        assert view.status == "completed", view.error
        forked = await again(engine, view.id, from_node="end")
        for pair in ((view.id, forked.id), (forked.id, view.id)):
            found = await engine.runs.diff(*pair)
            assert (found.steps, found.routing, found.same) == ([], {"only_a": [], "only_b": []}, True)
        assert found.n_same_steps == 2


async def test_rep03_a_frozen_replay_reports_the_first_divergence_and_follows_the_record(sqlite_url: str):
    app, limit = App("t"), [5]

    def large(output: dict[str, int]) -> bool:
        return output["n"] > limit[0]

    def small(output: dict[str, int]) -> bool:
        return output["n"] <= limit[0]

    flow = app.workflow("w").transform("a", value="{'n': input.n}").transform("big", value="1").transform("little", value="2")
    flow.edge("a", "big", when=large).edge("a", "little", when=small).join("end", after=["big", "little"])
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", {"n": 9})
        limit[0] = 100
        frozen = await again(engine, view.id, mode="freeze")
        diverged = [event for event in await events(engine, frozen.id) if event.type == "run.diverged"]
    assert (frozen.status, frozen.divergences) == ("completed", 1), frozen.error
    assert statuses(frozen) == statuses(view)
    assert frozen.output == view.output
    assert diverged[0].step == "a"
    assert (list(diverged[0].data["expected"]), list(diverged[0].data["found"])) == ([0], [1])


async def test_rep03_a_frozen_replay_of_a_condition_that_cannot_be_evaluated_any_more_follows_the_record(sqlite_url: str):
    app, broken = App("t"), [False]

    def large(output: dict[str, int]) -> bool:
        if broken[0]:
            raise RuntimeError("gone")
        return True

    app.workflow("w").transform("a", value="{'n': input.n}").transform("big", value="1").edge("a", "big", when=large)
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", {"n": 9})
        broken[0] = True
        frozen = await again(engine, view.id, mode="freeze")
        diverged = [event for event in await events(engine, frozen.id) if event.type == "run.diverged"]
    assert (frozen.status, statuses(frozen)) == ("completed", statuses(view))
    assert len(diverged) == 1
    assert "gone" in str(diverged[0].data["found"])


async def test_rep03_a_frozen_replay_of_a_failed_run_fails_alike_and_reports_nothing(sqlite_url: str):
    app, tries = App("t"), []

    @app.step
    async def bad() -> None:
        tries.append(1)
        raise Permanent("no")

    app.workflow("w").step(bad).transform("good", value="1").transform("after", value="2").edge("bad", "after")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w")
        frozen = await again(engine, view.id, mode="freeze")
        told = await types(engine, frozen.id)
        assert (frozen.status, frozen.divergences) == ("failed", 0)
        assert "run.diverged" not in told
        assert statuses(frozen) == statuses(view)
        assert frozen.error.code == view.error.code
        assert steps(frozen)["bad"].error.message == "no"
        assert tries == [1]


async def test_rep03_a_frozen_replay_of_a_map_with_failed_items_ends_like_its_origin(sqlite_url: str):
    app, done = App("t"), []

    @app.step
    async def one(item: int) -> int:
        done.append(item)
        if item % 3 == 1:
            raise ValueError(f"bad {item}")
        return item

    @app.step
    async def two(value: Any) -> str:
        done.append("two")
        return "two"

    body = app.body().step(one, id="one", input={"item": "${item}"}).step(two, id="two", after="one")
    app.workflow("w").map("m", over="${input}", body=body, on_failure="collect")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", list(range(6)))
        done.clear()
        frozen = await again(engine, view.id, mode="freeze")
        assert (frozen.status, frozen.divergences, done) == ("completed", 0, []), frozen.error
        assert frozen.output == view.output
        live = await again(engine, view.id, from_node="m", mode="live")
        assert live.output == view.output
        assert sorted(str(d) for d in done) == sorted(str(d) for d in [*range(6), *["two"] * 4])


def node(name: str, kind: str = "transform", **more: Any) -> dict[str, Any]:
    config = more.pop("config", {"value": "1 + 1"} if kind == "transform" else {})
    return {"id": name, "kind": kind, "config": config, **more}


def edge(source: str, target: str, **more: Any) -> dict[str, Any]:
    return {"from": source, "to": target, **more}


SHAPES: dict[str, tuple[list[Any], list[Any]]] = {
    "rejected": (
        [node("ask", "approval", config={"message": "?"}), node("yes"), node("no")],
        [edge("ask", "yes"), edge("ask", "no", on="rejected")],
    ),
    "rejected without an edge": ([node("ask", "approval", config={"message": "?"}), node("yes")], [edge("ask", "yes")]),
    "loop limit": (
        [node("h"), node("b"), node("z")],
        [edge("h", "b"), edge("b", "h", when="true", max_iterations=3), edge("b", "z", when="false")],
    ),
    "loop": (
        [node("h"), node("b"), node("z")],
        [edge("h", "b"), edge("b", "h", when="iteration < 3", max_iterations=5), edge("b", "z", when="iteration >= 3")],
    ),
    "loser": (
        [node("fast"), node("slow", "wait", config={"signal": "never"}), node("j", "join", join="any", cancel_losers=True)],
        [edge("fast", "j"), edge("slow", "j")],
    ),
    "skip": (
        [node("bad", config={"value": "input.nope"}, on_error="skip"), node("ok"), node("j", "join")],
        [edge("bad", "j"), edge("ok", "j")],
    ),
    "skip at the end": ([node("bad", config={"value": "input.nope"}, on_error="skip"), node("ok")], []),
    "continue": ([node("bad", config={"value": "input.nope"}, on_error="continue"), node("ok")], [edge("bad", "ok")]),
    "error edge": (
        [node("bad", config={"value": "input.nope"}), node("ok"), node("rescue")],
        [edge("bad", "ok"), edge("bad", "rescue", on="error", when="error.code == 'expression.failed'")],
    ),
    "fallback": (
        [node("bad", config={"value": "input.nope"}, on_error={"fallback": {"value": 3}}), node("ok")], [edge("bad", "ok")],
    ),
    "fallback node": (
        [node("bad", config={"value": "input.nope"}, on_error={"fallback": "spare"}), node("spare"), node("ok")],
        [edge("bad", "ok")],
    ),
    "failed map": (
        [node("m", "map", config={"over": "[1, 2, 3]", "body": node("x", config={"value": "1 / (item - 2)"})}), node("z")],
        [edge("m", "z")],
    ),
    "tolerant map": (
        [node("m", "map", config={"over": "[1, 2, 3]", "on_failure": "collect", "concurrency": 1, "body": {
            "nodes": [node("x", config={"value": "1 / (item - 2)"}), node("y")], "edges": [edge("x", "y")]}}), node("z")],
        [edge("m", "z")],
    ),
    "no condition true": ([node("a"), node("b")], [edge("a", "b", when="false")]),
    "unreachable quorum": (
        [node("a"), node("b"), node("j", "join", join=2)], [edge("a", "j", when="false"), edge("b", "j")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
async def test_rep03_a_frozen_replay_ends_like_its_origin(shape: str):
    nodes, edges = SHAPES[shape]
    async with App("t").engine("memory:") as engine:
        await engine.workflows.publish({"name": "w", "nodes": nodes, "edges": edges})
        run_id = (await engine.runs.start("w", {})).id
        if shape.startswith("rejected"):
            opened = await seen(engine, run_id, "ticket.opened")
            await engine.tickets.decide(opened.data["ticket"], "reject", reason="no", by="ann")
        view = await ended(engine, run_id)
        frozen = await again(engine, run_id, mode="freeze")
        assert (await engine.audit.verify(frozen.id)).ok
    assert frozen.divergences == 0
    assert (frozen.status, frozen.output) == (view.status, view.output), frozen.error
    assert statuses(frozen) == statuses(view)
    assert (frozen.error and frozen.error.code) == (view.error and view.error.code)


async def test_rep03_an_item_that_failed_is_not_repeated_for_another_items_sake(sqlite_url: str):
    app, done = App("t"), []

    @app.step
    async def one(item: int) -> int:
        done.append(item)
        if item == 1:
            raise ValueError("bad 1")
        return item

    app.workflow("w").map("m", over="${input}", body=app.body().step(one, id="one", input={"item": "${item}"}),
                          on_failure="collect")  # fmt: skip
    app.workflow("fast").map("m", over="${input}", body=app.body().step(one, id="one", input={"item": "${item}"}), concurrency=1)
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", [0, 1, 2])
        done.clear()
        again_ = await again(engine, view.id, from_step="one~m.0")
        assert (done, again_.output) == ([0], view.output)
        assert steps(again_)["m"].items.failed == 1
        assert (await engine.audit.verify(again_.id)).ok
        failed = await ran(engine, "fast", [0, 1, 2])
        assert failed.status == "failed"
        done.clear()
        await again(engine, failed.id, from_step=1)
        assert done[0] == 1  # what made the run fail is tried again


async def test_rep03_failed_items_are_taken_over_by_a_replay_from_a_later_node(sqlite_url: str):
    app, done = App("t"), []

    @app.step
    async def one(item: int) -> int:
        done.append(item)
        if item == 1:
            raise ValueError("bad 1")
        return item

    @app.step
    async def end(value: Any) -> Any:
        done.append("end")
        return value

    flow = app.workflow("w").map("m", over="${input}", body=app.body().step(one, id="one", input={"item": "${item}"}),
                                 on_failure="collect")  # fmt: skip
    flow.step(end, id="end", after="m")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", [0, 1, 2])
        done.clear()
        later = await again(engine, view.id, from_node="end")
        assert (done, later.output) == (["end"], view.output)
        done.clear()
        failed = next(s for s in (await engine.history.steps(view.id)).items if s.status == "failed")
        one_again = await again(engine, view.id, from_step=failed.id)
        assert (done, one_again.output) == ([1, "end"], view.output)


async def test_rep03_a_frozen_replay_of_a_cancelled_run_is_no_divergence(sqlite_url: str):
    app, gate = App("t"), Gate()

    @app.step
    async def work() -> None:
        await gate()

    app.workflow("w").transform("a", value="1").step(work, id="work", after="a", input={})
    async with app.engine(sqlite_url) as engine:
        run_id = (await engine.runs.start("w", {})).id
        await gate.wait()
        await engine.runs.cancel(run_id)
        view = await ended(engine, run_id)
        frozen = await again(engine, view.id, mode="freeze")
        assert statuses(view)["work"] == "cancelled"
        assert frozen.divergences == 0
        assert statuses(frozen)["work"] == "cancelled"
        assert gate.cancelled == 1


async def test_rep04_a_failed_node_runs_again_with_other_config_in_this_run_only(tmp_path: Path, both_url: str):
    app = App("t")
    app.workflow("w").transform("a", value="input.nope")
    async with served(app, both_url, tmp_path) as (engine, client):
        view = await ran(engine, "w", {"n": 4})
        assert view.status == "failed"
        body = {"config": {"value": "input.n * 2"}, "reason": "a typo"}
        answer = await client.post(f"/runs/{view.id}/steps/a/retry", json=body)
        assert answer.status_code == 202, answer.text
        await seen(engine, view.id, "run.completed")
        assert (await ended(engine, view.id)).output == {"a": 8}
        redriven = next(e for e in await events(engine, view.id) if e.type == "step.redriven")
        assert redriven.data["config"] == {"value": "input.n * 2"}
        reopened = next(e for e in await events(engine, view.id) if e.type == "run.reopened")
        assert "a typo" in str(redriven.data) + str(reopened.data)
        assert (await ran(engine, "w", {"n": 4})).status == "failed"


async def test_rep14_values_are_stored_by_their_content(tmp_path: Path, both_url: str):
    app = App("t")

    @app.step
    async def big(ctx: Context, value: Any = None) -> str:
        return "x" * 20_000

    app.workflow("w").step(big, id="a").step(big, id="b", after="a")
    async with served(app, both_url, tmp_path) as (engine, client):
        view = await ran(engine, "w", {})
        items = (await client.get(f"/runs/{view.id}/artifacts")).json()
        items = items["items"] if isinstance(items, dict) else items
        digests = {item["digest"] for item in items if item["size"] == 20_002}
        assert len(digests) == 1
        assert {item["step"] for item in items if item["digest"] in digests} >= {"a"}
        digest = digests.pop()
        answer = await client.get(f"/artifacts/{digest}")
        assert answer.status_code == 200
        assert answer.content == b'"' + b"x" * 20_000 + b'"'
        assert digest == "sha256:" + hashlib.sha256(answer.content).hexdigest()
        twice = await ran(engine, "w", {})
        assert digest in {item.digest for item in await engine.artifacts.list(twice.id)}
        assert view.output == {"b": "x" * 20_000}


async def test_rep15_a_run_keeps_the_version_it_was_submitted_with(both_url: str):
    def document(text: str) -> dict[str, Any]:
        return {"name": "w", "nodes": [
            {"id": "go", "kind": "wait", "config": {"signal": "go"}},
            {"id": "a", "kind": "transform", "config": {"value": text}},
        ], "edges": [{"from": "go", "to": "a"}]}  # fmt: skip

    async with App("t").engine(both_url) as engine:
        old = await engine.workflows.publish(document("'old'"))
        run_id = (await engine.runs.start("w", {})).id
        await seen(engine, run_id, "step.waiting")
        new = await engine.workflows.publish(document("'new'"))
        assert old.version != new.version
        await engine.runs.signal(run_id, "go")
        view = await ended(engine, run_id)
        assert (view.output, view.version) == ({"a": "old"}, old.version)


async def test_rep18_two_replays_of_one_cut_are_equal(sqlite_url: str):
    app = App("t")
    flow = app.workflow("w").transform("a", value="input.n").agent("say", prompt="about ${input.n}").edge("a", "say")
    flow.agent("pick", "supervisor", prompt="left or right?").edge("say", "pick")
    for name in ("left", "right"):
        flow.transform(name, value="nodes.say.output.content").edge("pick", name, when=f"output.decision == '{name}'")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", {"n": 4})
        one, two = [await again(engine, view.id, from_step=1) for _ in range(2)]
        diff = await engine.runs.diff(one.id, two.id)
        orders = [[e.step for e in await events(engine, r.id) if e.type == "step.completed"] for r in (view, one, two)]
    assert orders[1] == orders[2] == orders[0][1:]
    assert one.output == two.output == view.output
    assert diff.same if hasattr(diff, "same") else not getattr(diff, "steps", [])


async def test_rep18_models_that_answer_differently_show_in_the_diff(sqlite_url: str):
    app = App("t")
    app.model("m:x", ScriptedModel(iter([ModelReply(content="one"), ModelReply(content="two")])))
    app.workflow("w").agent("say", model="m:x", prompt="p")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w")
        live = await again(engine, view.id)
        assert (view.output["say"]["content"], live.output["say"]["content"]) == ("one", "two")
        assert "say" in str(await engine.runs.diff(view.id, live.id))


@pytest.mark.parametrize(("cut", "executed"), [(0, list("abcde")), (3, list("de")), (5, [])])
async def test_rep19_a_number_cuts_after_that_many_steps(cut: int, executed: list[str]):
    chain = Chain()
    async with chain.app.engine("memory:") as engine:
        view = await ran(engine, "chain", {"n": 1})
        chain.done.clear()
        made = await again(engine, view.id, from_step=cut)
        assert chain.done == executed
        assert made.output == view.output


async def test_rep19_a_cut_out_of_range_is_refused(tmp_path: Path):
    chain = Chain()
    async with served(chain.app, "memory:", tmp_path) as (engine, client):
        view = await ran(engine, "chain", {"n": 1})
        for cut in (6, -1):
            answer = await client.post(f"/runs/{view.id}/replay", json={"from_step": cut})
            assert answer.status_code == 422, answer.text
            assert "0 to 5" in answer.text
        with pytest.raises(Invalid):
            await engine.runs.replay(view.id, Replay(from_step=6))
        with pytest.raises(StepMissing):
            await engine.runs.replay(view.id, Replay(from_node="zz"))
        assert len((await engine.runs.list()).items) == 1


async def test_rep19_a_cut_inside_parallel_branches_executes_no_earlier_node():
    app, done = App("t"), []

    @app.step
    async def one(ctx: Context, value: Any = None) -> str:
        done.append(ctx.node)
        return ctx.node

    flow = app.workflow("w").step(one, id="a")
    for name in "bcd":
        flow.step(one, id=name, after="a")
    flow.step(one, id="e", after=["b", "c", "d"])
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
        order = [e.step for e in await events(engine, view.id) if e.type == "step.completed"]
        for cut in range(6):
            done.clear()
            made = await again(engine, view.id, from_step=cut)
            assert set(done) == set(order[cut:])
            assert made.output == view.output


async def test_rep26_a_tag_is_resolved_once_at_submit(tmp_path: Path, both_url: str):
    def document(n: int) -> dict[str, Any]:
        return {"name": "w", "nodes": [{"id": "a", "kind": "transform", "config": {"value": str(n)}}]}

    async with served(App("t"), both_url, tmp_path) as (engine, client):
        one = await engine.workflows.publish(document(1))
        two = await engine.workflows.publish(document(2))
        await engine.workflows.tag("w", "prod", one.version)
        started = await client.post("/runs", json={"workflow": "w", "tag": "prod"})
        run = (await client.get(f"/runs/{started.json()['id']}?wait=20")).json()
        assert (run["version"], run["output"]) == (one.version, {"a": 1})
        await engine.workflows.tag("w", "prod", two.version)
        assert (await ended(engine, run["id"])).version == one.version
        unknown = await client.post("/runs", json={"workflow": "w", "tag": "prdo"})
        assert unknown.status_code == 404
        assert "prod" in unknown.text
        with pytest.raises(WorkflowMissing, match="prod"):
            await engine.runs.submit(StartRun(workflow="w", tag="prdo"))
        assert isinstance(client, httpx.AsyncClient)


async def test_rep01_edits_reset_what_they_touch(sqlite_url: str):
    chain = Chain()
    async with chain.app.engine(sqlite_url) as engine:
        view = await ran(engine, "chain", {"n": 1})
        chain.done.clear()
        made = await again(engine, view.id, from_step=5, edits=Edits(nodes={"d": {"input": {"x": 40}}}))
        assert chain.done == ["d", "e"]
        assert made.output == {"e": 42}
