"""The agent's loop: rounds of tools, what is refused, what is waited for, and that nothing recorded is made again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenuto import App, Retry
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.ports.model import ModelBusy, ModelCut, ModelReply, ModelRequest, ModelUnreachable, ToolCall
from tenuto.runtime.agents.asking import passes, patiently
from tenuto.runtime.agents.step import Durable
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.worker.options import WorkerOptions

QUICK = Retry(backoff_s=0.001, jitter=0)


def calls(*given: tuple[str, dict[str, Any]], content: str = "") -> ModelReply:
    """Return a reply that asks for tools."""
    return ModelReply(
        content=content, tool_calls=tuple(ToolCall(f"c{at}", name, args) for at, (name, args) in enumerate(given)),
        stop="tools",
    )


def served(request: ModelRequest) -> int:
    """Return how many rounds a request knows of."""
    return sum(1 for message in request.messages if message.role == "assistant")


def rounds(n: int, *given: tuple[str, dict[str, Any]]) -> Callable[[ModelRequest], ModelReply]:
    """Return a script that asks for the same tools n times, and then is done."""

    def script(request: ModelRequest) -> ModelReply:
        at = served(request)
        return calls(*given, content=f"thought {at}") if at < n else ModelReply(content=f"done after {at}")

    return script


def with_model(script: Any) -> tuple[App, ScriptedModel]:
    app, model = App("t"), ScriptedModel(script)
    app.model("m:x", model)
    return app, model


async def ran(app: App, given: Any = None, *, told: bool = False) -> Any:
    async with app.engine("memory:") as engine:
        view = await engine.runs.result((await engine.runs.start("w", given or {})).id, timeout_s=20)
        return (view, await events(engine, view.id)) if told else view


async def events(engine: Engine, run: str) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in (await engine.history.events(run, limit=1000)).items]


def add_tool(app: App, made: list[Any]) -> None:
    @app.tool(effect="idempotent")
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        made.append((a, b))
        return a + b


# --- rounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["pipeline", "loop"])
async def test_a_model_that_asks_for_tools_gets_their_results_in_order_until_it_answers(pattern: Any):
    made: list[Any] = []
    app, model = with_model(rounds(2, ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})))
    add_tool(app, made)
    app.workflow("w").agent("p", pattern, model="m:x", prompt="sum", tools=["add"])
    view, happened = await ran(app, told=True)
    assert view.output["p"] == {
        "content": "done after 2", "tools": {"add": 7}, "rounds": 3, "calls": 4,
    }
    answers = [(m.call_id, m.content) for m in model.requests[2].messages if m.role == "tool"]
    assert answers == [("c0", "3"), ("c1", "7")] * 2
    assert len(made) == 4
    names = [data["call"] for kind, data in happened if kind == "call.started"]
    assert sorted(names) == ["r1/model", "r1/t0", "r1/t1", "r2/model", "r2/t0", "r2/t1", "r3/model"]
    meta = [data["meta"] for kind, data in happened if kind == "call.completed" and data["kind"] == "model"]
    assert [(item["round"], item["purpose"]) for item in meta] == [(1, "execution"), (2, "execution"), (3, "execution")]
    assert {"provider", "model", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
            "reasoning_tokens", "cost_usd_micros"} <= set(meta[0])  # fmt: skip


async def test_the_calls_of_a_round_are_made_at_once():
    app, _ = with_model(rounds(1, ("meet", {"n": 0}), ("meet", {"n": 1})))
    both = asyncio.Barrier(2)

    @app.tool(effect="pure")
    async def meet(n: int) -> int:
        await both.wait()
        return n

    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=[meet])
    assert (await ran(app)).output["p"]["calls"] == 2


async def test_a_loop_calls_no_tool_that_the_model_does_not_ask_for():
    made: list[Any] = []
    app, _ = with_model(lambda _: "no need")
    add_tool(app, made)
    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=["add"])
    assert (await ran(app)).output["p"] == {"content": "no need", "tools": {}}
    assert made == []


async def test_old_rounds_are_not_sent_but_stay_in_the_journal():
    app, model = with_model([*[calls(("add", {"a": n, "b": 0}), content=str(n)) for n in range(4)], "done"])
    add_tool(app, [])
    app.workflow("w").agent("p", "loop", model="m:x", prompt="first", tools=["add"], limits={"history": 2})
    view, happened = await ran(app, told=True)
    assert view.output["p"]["content"] == "done"
    assert [m.content for m in model.requests[4].messages] == ["first", "2", "2", "3", "3"]
    assert len([1 for kind, data in happened if kind == "call.completed" and data["kind"] == "tool"]) == 4


async def test_when_the_rounds_are_used_up_the_result_is_partial_and_says_so():
    app, model = with_model(rounds(99, ("add", {"a": 1, "b": 1})))
    made: list[Any] = []
    add_tool(app, made)
    app.workflow("w").agent("p", model="m:x", prompt="p", tools=["add"], max_rounds=2)
    out = (await ran(app)).output["p"]
    assert out["partial"] is True
    assert "2 rounds" in out["reason"]
    assert out["content"] == "thought 0\n\nthought 1\n\nthought 2"
    assert (len(model.requests), len(made)) == (3, 2)


async def test_partial_work_does_not_stand_in_for_a_structured_answer():
    app, _ = with_model(rounds(99, ("add", {"a": 1, "b": 1})))
    add_tool(app, [])
    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=["add"], schema={"type": "object"}, max_rounds=1)
    view = await ran(app)
    assert next(step.error.code for step in view.steps) == "agent.rounds_spent"


# --- what is refused and what fails --------------------------------------------------------------------------------


async def test_a_call_that_cannot_be_made_goes_back_to_the_model_with_the_reason():
    made: list[Any] = []
    bad = ModelReply(tool_calls=(
        ToolCall("a", "add", {"a": "one", "c": 3}), ToolCall("b", "ad", {}), ToolCall("c", "add", malformed="{a:"),
        ToolCall("d", "secret", {}),
    ))  # fmt: skip
    app, model = with_model([bad, calls(("add", {"a": 1, "b": 2})), "done"])
    add_tool(app, made)

    @app.tool(effect="idempotent")
    async def secret() -> str:
        made.append("secret")
        return "x"

    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=["add"])
    view, happened = await ran(app, told=True)
    told = [m for m in model.requests[1].messages if m.role == "tool"]
    assert all(m.failed for m in told)
    assert all(part in told[0].content for part in ("/a", "/b", "/c"))
    assert "'add'" in told[1].content
    assert "{a:" in told[2].content
    assert "offered are: add" in told[3].content
    assert made == [(1, 2)]
    assert view.output["p"]["bad_calls"] == 4
    failed = [(data["call"], data["error"]["code"]) for kind, data in happened if kind == "call.failed"]
    assert failed == [("r1/t0", "tool.arguments"), ("r1/t1", "tool.not_offered"), ("r1/t2", "tool.arguments"),
                      ("r1/t3", "tool.not_offered")]  # fmt: skip
    assert view.budget.spent["tool_calls"] == 1


async def test_a_model_that_only_makes_bad_calls_is_stopped():
    app, model = with_model(lambda _: calls(("nothing", {})))
    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", limits={"bad_calls": 2})
    view = await ran(app)
    error = next(step.error for step in view.steps)
    assert (error.code, len(model.requests)) == ("agent.calls_refused", 3)
    assert "'nothing'" in error.message


async def test_only_so_many_calls_are_made_in_a_round():
    made: list[Any] = []
    app, model = with_model(rounds(1, *[("add", {"a": n, "b": 0}) for n in range(4)]))
    add_tool(app, made)
    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=["add"], limits={"tool_calls": 2})
    view = await ran(app)
    assert sorted(made) == [(0, 0), (1, 0)]
    assert [m.failed for m in model.requests[1].messages if m.role == "tool"] == [False, False, True, True]
    assert view.status == "completed"


async def test_a_failed_tool_is_told_to_the_model_without_what_its_exception_holds():
    app, model = with_model(rounds(1, ("leaky", {})))

    @app.tool(effect="effect")
    async def leaky() -> None:
        raise ConnectionError("password=hunter2")

    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=[leaky])
    view = await ran(app)
    told = next(m for m in model.requests[1].messages if m.role == "tool")
    assert (told.content, told.failed) == ("Tool error: ConnectionError: the operation failed", True)
    assert (view.status, view.budget.spent["tool_calls"]) == ("completed", 1)


async def test_a_tool_that_hangs_is_cancelled_and_told_to_the_model():
    app, model = with_model(rounds(1, ("hang", {})))
    ended: list[str] = []

    @app.tool(effect="idempotent", timeout_s=0.01)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=[hang])
    assert (await ran(app)).output["p"]["content"] == "done after 1"
    assert "within 0.01 s" in model.requests[1].messages[-1].content
    assert ended == ["cancelled"]


async def test_a_tools_own_limit_holds_for_a_node_that_names_it():
    app = App()
    ended: list[str] = []

    @app.tool(effect="idempotent", timeout_s=0.01)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    app.workflow("w").tool(hang, id="t", args={})
    view = await ran(app)
    assert (view.status, view.error.code, ended) == ("failed", "tool.timed_out", ["cancelled"])


async def test_an_effect_whose_outcome_is_unknown_is_asked_about_and_never_told_as_failed():
    app, model = with_model(rounds(1, ("pay", {})))

    @app.tool(effect="effect", timeout_s=0.01)
    async def pay() -> None:
        await asyncio.Event().wait()

    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=[pay])
    async with app.engine("memory:") as engine:
        run = (await engine.runs.start("w", {})).id
        async with asyncio.timeout(10):
            while not (found := (await engine.tickets.list(run=run, state="open")).items):
                await asyncio.sleep(0)
        assert (found[0].kind, len(model.requests)) == ("unknown_outcome", 1)
        await engine.tickets.decide(found[0].id, "succeeded", data={"paid": True})
        view = await engine.runs.result(run, timeout_s=10)
    assert view.output["p"]["tools"] == {"pay": {"paid": True}}
    assert model.requests[1].messages[-1].content == '{"paid":true}'


async def test_a_person_may_say_that_an_unknown_effect_failed_and_the_model_is_told():
    app, model = with_model(rounds(1, ("pay", {})))
    made: list[int] = []

    @app.tool(effect="effect", timeout_s=0.01)
    async def pay() -> None:
        made.append(1)
        await asyncio.Event().wait()

    app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=[pay])
    async with app.engine("memory:") as engine:
        run = (await engine.runs.start("w", {})).id
        async with asyncio.timeout(10):
            while not (found := (await engine.tickets.list(run=run, state="open")).items):
                await asyncio.sleep(0)
        await engine.tickets.decide(found[0].id, "failed")
        await engine.runs.result(run, timeout_s=10)
    assert model.requests[1].messages[-1].failed
    assert made == [1]


# --- models that are away ------------------------------------------------------------------------------------------


def failing(*errors: Exception) -> Callable[[ModelRequest], ModelReply | str]:
    left = list(errors)

    def script(_: ModelRequest) -> str:
        if left:
            raise left.pop(0)
        return "ok"

    return script


async def test_a_busy_model_is_asked_again_after_the_wait_it_names_and_the_wait_is_visible():
    app, model = with_model(failing(ModelBusy("429 from x", retry_after_s=0.05), ModelUnreachable("no route")))
    app.workflow("w").agent("p", model="m:x", prompt="p", retry=QUICK)
    view, happened = await ran(app, told=True)
    assert (view.output["p"]["content"], len(model.requests)) == ("ok", 3)
    waits = [data for kind, data in happened if kind == "step.waiting"]
    assert [data["call"] for data in waits] == ["r1/model/wait1", "r1/model/wait2"]
    assert "429 from x; try 2 of 6 follows" in waits[0]["reason"]
    assert [kind for kind, _ in happened].count("call.failed") == 2


@pytest.mark.parametrize("named", [1e9, 1e30, float("inf")])
async def test_a_model_that_says_to_come_back_in_ages_is_asked_again_within_a_day(named: float):
    """What it says can be anything; a time no clock holds would end the run for good."""
    slept: list[float] = []
    tries = iter([ModelBusy("busy", retry_after_s=named), None])

    async def once() -> str:
        if (error := next(tries)) is not None:
            raise error
        return "answer"

    async def sleep(seconds: float, **_: Any) -> None:
        slept.append(seconds)

    def begun(wait: str) -> bool:
        return bool(slept) and wait == "k/wait1"

    ctx = SimpleNamespace(begun=begun, sleep=sleep, run_id="r", step="s")
    assert await patiently(QUICK, cast("Durable", ctx), "k", "m:x", once, passes, 3) == "answer"
    assert slept == [86_400]


async def test_why_says_whom_a_waiting_agent_waits_for():
    app, _ = with_model(failing(ModelBusy("the provider is overloaded", retry_after_s=3600)))
    app.workflow("w").agent("p", model="m:x", prompt="p")
    async with app.engine("memory:") as engine:
        run = (await engine.runs.start("w", {})).id
        async with asyncio.timeout(10):
            while (await engine.runs.get(run)).status != "waiting":
                await asyncio.sleep(0)
        why = await engine.runs.why(run)
    assert "m:x: the provider is overloaded; try 2 of 6 follows" in why.summary
    assert why.waits[0].until is not None


async def test_failures_that_do_not_pass_in_time_fail_the_node_unless_the_model_is_local():
    app, model = with_model(lambda request: (_ for _ in ()).throw(ModelUnreachable("down")))
    app.workflow("w").agent("p", model="m:x", prompt="p", model_retries=2, retry=QUICK)
    view = await ran(app)
    assert (view.status, len(model.requests)) == ("failed", 3)
    app, model = with_model(failing(*[ModelUnreachable("down", local=True) for _ in range(8)]))
    app.workflow("w").agent("p", model="m:x", prompt="p", model_retries=2, retry=QUICK)
    assert (await ran(app)).status == "completed"
    assert len(model.requests) == 9


async def test_a_request_cut_off_in_the_middle_is_made_again_and_its_reservation_stays():
    app, model = with_model(failing(ModelCut("the connection broke", unknown=True)))
    app.workflow("w").agent("p", model="m:x", prompt="p", retry=QUICK)
    view, happened = await ran(app, told=True)
    assert (view.output["p"]["content"], len(model.requests)) == ("ok", 2)
    assert [kind for kind, _ in happened].count("call.unknown") == 1
    assert view.budget.unknown["tokens"] > 0
    keys = {data["key"] for kind, data in happened if kind == "call.started"}
    assert len(keys) == 1


# --- money ---------------------------------------------------------------------------------------------------------


async def test_a_cap_used_up_between_rounds_halts_the_run_and_keeps_what_there_is():
    app, model = with_model(rounds(9, ("add", {"a": 1, "b": 1})))
    add_tool(app, [])
    app.workflow("w").budget(tool_calls=2).agent("p", "loop", model="m:x", prompt="p", tools=["add"])
    view = await ran(app)
    step = next(step for step in view.steps)
    assert (view.status, len(model.requests)) == ("budget_exceeded", 3)
    assert step.output["partial"] is True
    assert step.output["tools"] == {"add": 2}
    assert step.output["content"].startswith("thought 0")


# --- stopped anywhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", range(1, 11))
async def test_a_worker_that_goes_away_at_any_call_repeats_none_that_was_answered(tmp_path: Path, stop_at: int):
    """Four requests and three rounds of two tools: the worker goes in the middle of one of the ten calls."""
    log: list[str] = []
    stopping = asyncio.Event()

    async def pass_by(what: str) -> None:
        log.append(what)
        if len(log) == stop_at:
            stopping.set()
            await asyncio.Event().wait()

    class Model(ScriptedModel):
        async def request(self, request: ModelRequest, *, key: str, on_delta: Any = None) -> ModelReply:
            await pass_by(f"model {served(request)}")
            return await super().request(request, key=key)

    def build() -> App:
        app = App("t")
        app.model("m:x", Model(rounds(3, ("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}))))

        @app.tool(effect="idempotent")
        async def add(a: int, b: int, idempotency_key: str) -> int:
            await pass_by(idempotency_key.partition("/p/")[2])
            return a + b

        app.workflow("w").agent("p", "loop", model="m:x", prompt="p", tools=[add])
        return app

    url = f"sqlite:///{tmp_path}/t.db"
    async with build().engine(url, options=WorkerOptions(grace_s=0.05)) as engine:
        run = (await engine.runs.start("w", {})).id
        async with asyncio.timeout(15):
            await stopping.wait()
    async with build().engine(url) as engine:
        view = await engine.runs.result(run, timeout_s=15)
    assert view.output["p"]["content"] == "done after 3"
    assert log.count(log[stop_at - 1]) == 2
    assert {what for what in log if log.count(what) > 1} <= {log[stop_at - 1], *_beside(log[stop_at - 1])}
    assert len(set(log)) == 10


def _beside(call: str) -> set[str]:
    """Return the calls under way beside one when it was stopped."""
    return {call[:-1] + "0", call[:-1] + "1"} if "/t" in call else set()
