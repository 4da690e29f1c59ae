"""Agents on an engine: what they ask, what they may choose and call, and what they are stopped from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tenuto import App, Context, Permanent, Retry
from tenuto.adapters.models.scripted import ScriptedModel, echo, example
from tenuto.ports.model import Message, ModelReply, ModelRequest
from tenuto.runtime.services.engine import Engine

SCHEMA: dict[str, Any] = {
    "type": "object", "required": ["n"], "additionalProperties": False, "properties": {"n": {"type": "integer", "minimum": 1}},
}  # fmt: skip


def with_model(script: Any = None) -> tuple[App, ScriptedModel]:
    """Return an app whose model `m:x` follows a script."""
    app, model = App("t"), ScriptedModel(script)
    app.model("m:x", model)
    return app, model


async def ran(app: App, given: Any = None, workflow: str = "w", look: Callable[[Engine, str], Any] | None = None) -> Any:
    """Run a workflow to its end in memory."""
    async with app.engine("memory:") as engine:
        started = await engine.runs.start(workflow, given or {})
        view = await engine.runs.result(started.id, timeout_s=20)
        if look is not None:
            return view, await look(engine, started.id)
        return view


async def told(engine: Engine, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what happened, as types and data."""
    return [(event.type, event.data) for event in (await engine.history.events(run_id, limit=1000)).items]


def error_of(view: Any, step: str) -> Any:
    return next(item.error for item in view.steps if item.id == step)


# --- pipeline ------------------------------------------------------------------------------------------------------


async def test_a_pipeline_takes_tool_arguments_from_its_input_and_what_it_said():
    app, model = with_model(lambda _: "fuel prices")
    calls: list[Any] = []

    @app.tool(effect="idempotent")
    async def search(query: str, limit: int = 3) -> str:
        calls.append((query, limit))
        return "found"

    app.workflow("w").agent("p", model="m:x", prompt="${input.topic}", system="be brief", tools=[search])
    view = await ran(app, {"topic": "fuel", "limit": 7})
    assert view.output == {"p": {"content": "fuel prices", "tools": {"search": "found"}}}
    assert calls == [("fuel prices", 7)]
    assert [message.role for message in model.requests[0].messages] == ["system", "user"]
    assert [tool.name for tool in model.requests[0].tools] == ["search"]


async def test_a_pipeline_without_a_model_only_uses_its_tools():
    app, model = with_model()

    @app.tool(effect="idempotent")
    async def search(query: str) -> str:
        return query

    app.workflow("w").agent("p", tools=[search])
    view = await ran(app, {"query": "q"})
    assert view.output == {"p": {"content": "", "tools": {"search": "q"}}}
    assert model.requests == []


async def test_each_call_of_an_agent_is_in_the_journal_with_its_cost():
    app, _ = with_model(lambda _: ModelReply(content="ok", input_tokens=10, output_tokens=5, cost_usd_micros=7))

    @app.tool(effect="idempotent")
    async def search(query: str) -> str:
        return query

    app.workflow("w").agent("p", model="m:x", prompt="p", tools=[search])
    view, events = await ran(app, look=told)
    calls = [(data["kind"], data["name"]) for kind, data in events if kind == "call.completed"]
    assert calls == [("model", "m:x"), ("tool", "search")]
    assert view.budget.spent["tokens"] == 15
    assert view.budget.spent["cost_usd_micros"] == 7
    meta = next(data["meta"] for kind, data in events if kind == "call.completed")
    assert (meta["input_tokens"], meta["output_tokens"], meta["cost_usd_micros"]) == (10, 5, 7)


async def test_a_retry_repeats_no_request_that_was_answered():
    app, model = with_model(lambda _: "said")
    tries: list[int] = []

    @app.tool(effect="idempotent")
    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("again")
        return "ok"

    app.workflow("w").agent("p", model="m:x", prompt="p", tools=[flaky], retry=Retry(attempts=3, backoff_s=0.001))
    view = await ran(app)
    assert view.output["p"] == {"content": "said", "tools": {"flaky": "ok"}}
    assert (len(model.requests), len(tries)) == (1, 3)


async def test_a_model_that_fails_is_asked_again_under_the_nodes_policy():
    answers: list[int] = []

    def script(_: ModelRequest) -> str:
        answers.append(1)
        if len(answers) < 2:
            raise ConnectionError("overloaded")
        return "ok"

    app, _ = with_model(script)
    app.workflow("w").agent("p", model="m:x", prompt="p", retry=Retry(attempts=2, backoff_s=0.001))
    assert (await ran(app)).output["p"]["content"] == "ok"


# --- supervisor ----------------------------------------------------------------------------------------------------


def boss(app: App, **options: Any) -> None:
    """Add a supervisor over three desks."""
    flow = app.workflow("w").agent("boss", "supervisor", model="m:x", prompt="who?", **options)
    for name in ("billing", "support", "sales"):
        flow.transform(name, value="1").edge("boss", name, when=f"output.decision == '{name}'")


async def test_a_supervisor_is_offered_its_next_nodes_and_routes_to_the_one_it_chose():
    app, model = with_model(lambda _: ModelReply(choice="support"))
    boss(app)
    view = await ran(app)
    assert model.requests[0].choices == ("billing", "support", "sales")
    assert view.output == {"support": 1}


@pytest.mark.parametrize("reply", [ModelReply(choice="boss"), ModelReply(choice="suport"), ModelReply(content=""), ModelReply(content="I think billing")])
async def test_a_supervisor_that_chooses_something_else_fails_and_says_what_is_allowed(reply: ModelReply):
    app, model = with_model(lambda _: reply)
    boss(app)
    view = await ran(app)
    error = error_of(view, "boss")
    assert (view.status, error.code) == ("failed", "agent.choice_refused")
    assert "billing, support, sales" in error.message
    if reply.choice == "suport":
        assert "'support'" in error.message
    assert len(model.requests) == 1
    assert not any(step.status == "completed" for step in view.steps)


async def test_a_supervisor_may_be_given_fewer_choices():
    app, model = with_model(lambda _: ModelReply(choice="sales"))
    boss(app, choices=["billing", "support"])
    view = await ran(app)
    assert model.requests[0].choices == ("billing", "support")
    assert error_of(view, "boss").code == "agent.choice_refused"


async def test_a_supervisors_tools_are_used_only_after_an_allowed_choice():
    app, _ = with_model(lambda _: ModelReply(choice="nobody"))
    calls: list[int] = []

    @app.tool(effect="idempotent")
    async def note() -> None:
        calls.append(1)

    boss(app, tools=[note])
    assert (await ran(app)).status == "failed"
    assert calls == []


# --- swarm ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merge", "merged"), [("collect", ["a", "b", "a"]), ("vote", "a"), ("first", "a"), (None, ["a", "b", "a"])]
)
async def test_a_swarm_merges_its_passes(merge: str | None, merged: Any):
    app, model = with_model(lambda request: "aba"[request.seed])
    app.workflow("w").agent("s", "swarm", n=3, merge=merge, model="m:x", prompt="p")
    view = await ran(app)
    assert view.output["s"]["branches"] == ["a", "b", "a"]
    assert view.output["s"]["merged"] == merged
    assert sorted(request.seed for request in model.requests) == [0, 1, 2]


async def test_a_retry_of_a_swarm_repeats_only_the_pass_that_failed():
    seeds: list[int] = []

    def script(request: ModelRequest) -> str:
        seeds.append(request.seed)
        if request.seed == 1 and seeds.count(1) == 1:
            raise ConnectionError("once")
        return str(request.seed)

    app, _ = with_model(script)
    app.workflow("w").agent("s", "swarm", n=3, model="m:x", prompt="p", retry=Retry(attempts=2, backoff_s=0.001))
    view = await ran(app)
    assert view.output["s"]["branches"] == ["0", "1", "2"]
    assert seeds.count(1) == 2
    assert seeds.count(0) == 1


# --- structured answers --------------------------------------------------------------------------------------------


async def test_an_answer_that_fits_is_taken():
    app, model = with_model(lambda _: ModelReply(data={"n": 3}))
    app.workflow("w").agent("p", model="m:x", prompt="p", schema=SCHEMA)
    assert (await ran(app)).output["p"]["data"] == {"n": 3}
    assert len(model.requests) == 1


async def test_a_model_is_told_once_what_was_wrong_and_may_correct_itself():
    app, model = with_model([ModelReply(data={"n": 0, "x": 1}), ModelReply(data={"n": 3})])
    app.workflow("w").agent("p", model="m:x", prompt="p", schema=SCHEMA)
    assert (await ran(app)).output["p"]["data"] == {"n": 3}
    note = model.requests[1].messages[-1].content
    assert "n" in note
    assert "x" in note


async def test_a_model_that_does_not_correct_itself_fails_the_node_after_a_bounded_number_of_requests():
    app, model = with_model(lambda _: ModelReply(data={"n": "three"}))
    app.workflow("w").agent("p", model="m:x", prompt="p", schema=SCHEMA, retry=3)
    view = await ran(app)
    error = error_of(view, "p")
    assert (view.status, error.code, len(model.requests)) == ("failed", "agent.answer_invalid", 2)
    assert "/n" in error.message


async def test_an_answer_without_data_is_told_so():
    app, model = with_model([ModelReply(content="sorry"), ModelReply(data={"n": 1})])
    app.workflow("w").agent("p", model="m:x", prompt="p", schema=SCHEMA)
    assert (await ran(app)).output["p"]["data"] == {"n": 1}
    assert len(model.requests) == 2


# --- tools ---------------------------------------------------------------------------------------------------------


async def test_a_tool_is_not_called_with_arguments_that_do_not_fit_and_every_problem_is_told():
    app = App("t")
    calls: list[Any] = []

    @app.tool(effect="idempotent")
    async def pay(amount: int, currency: str) -> None:
        calls.append(amount)

    app.workflow("w").tool(pay, args={"amount": "much", "colour": 1}, retry=3)
    view = await ran(app)
    error = error_of(view, "pay")
    assert (view.status, error.code, calls) == ("failed", "tool.arguments", [])
    for part in ("amount", "currency", "colour"):
        assert part in error.message
    assert view.budget.spent["tool_calls"] == 0


async def test_an_agent_node_cannot_name_a_tool_that_is_not_registered():
    from tenuto.errors import InvalidGraph

    app = App("t")

    @app.tool(effect="idempotent")
    async def search() -> None: ...

    app.workflow("w").agent("p", prompt="p", tools=["serch"])
    with pytest.raises(InvalidGraph) as caught:
        app.catalog()
    assert "search" in str(caught.value.problems)


async def test_a_tool_whose_cap_is_used_up_sends_no_request():
    app, model = with_model()

    @app.tool(effect="idempotent")
    async def search() -> str:
        return "x"

    flow = app.workflow("w").budget(per_tool={"search": 0})
    flow.agent("p", model="m:x", prompt="p", tools=[search])
    view, events = await ran(app, look=told)
    assert (view.status, model.requests) == ("budget_exceeded", [])
    assert "call.started" not in [kind for kind, _ in events]


async def test_a_tool_gets_one_key_however_often_its_node_is_tried():
    app = App("t")
    keys: list[str] = []

    @app.tool(effect="idempotent")
    async def pay(idempotency_key: str) -> str:
        keys.append(idempotency_key)
        if len(keys) < 3:
            raise ConnectionError("again")
        return "ok"

    @app.tool(effect="idempotent")
    async def refuse() -> None:
        raise Permanent("no")

    app.workflow("w").tool(pay, args={}, retry=Retry(attempts=3, backoff_s=0.001))
    view = await ran(app)
    assert view.status == "completed"
    assert len(set(keys)) == 1
    assert keys[0].startswith(view.id)


async def test_a_synchronous_tool_and_one_that_asks_the_engine_work_alike():
    app = App("t")

    @app.tool(effect="pure")
    def double(n: int) -> int:
        return 2 * n

    @app.step
    async def work(ctx: Context) -> int:
        return await ctx.call(double, 4)

    app.workflow("w").tool(double, args={"n": "${input.n}"}).step(work, after="double", input={})
    assert (await ran(app, {"n": 3})).output == {"work": 8}


# --- the offline model ---------------------------------------------------------------------------------------------


def asked(text: str, **more: Any) -> ModelRequest:
    return ModelRequest(model="offline:echo", messages=(Message("user", text),), **more)


async def test_the_offline_model_always_gives_the_same_answer():
    model = ScriptedModel()
    first, second = [await model.request(asked("x" * 500), key="k") for _ in range(2)]
    assert first == second
    assert first.content == "offline:" + "x" * 200
    assert (first.input_tokens, first.output_tokens) == (125, 52)
    assert model.bound(asked("x" * 500, max_tokens=10)) == (135, 0)


def test_the_offline_model_chooses_what_the_prompt_names_last_and_fills_schemas():
    assert echo(asked("a refund, no: billing", choices=("billing", "refund", "other"))).choice == "billing"
    assert echo(asked("nothing", choices=("billing", "refund"))).choice == "billing"
    schema = {"type": "object", "required": ["kind", "n", "tags"], "properties": {
        "kind": {"enum": ["a", "b"]}, "n": {"type": "integer", "minimum": 4},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
    }}  # fmt: skip
    from tenuto.domain.graph.schema import validate

    assert not list(validate(schema, example(schema, "some text")))


async def test_use_never_exceeds_what_was_reserved():
    app, model = with_model(lambda _: "y" * 10_000)
    app.workflow("w").agent("p", model="m:x", prompt="p" * 100, max_tokens=50)
    view, events = await ran(app, look=told)
    held = next(data["reserved"] for kind, data in events if kind == "call.started")
    assert view.budget.spent["tokens"] <= held["tokens"]
    assert len(model.requests) == 1
