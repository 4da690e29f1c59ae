"""What an agent node may be given besides its prompt: helpers, a judge, verification, knowledge, context, routing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tenuto import App
from tenuto.errors import InvalidGraph
from tenuto.ports.model import ModelReply, ModelRequest, ModelUnreachable
from tenuto.runtime.services.engine import Engine
from tests.integration.agents.test_loop import QUICK, add_tool, calls, events, ran, served, with_model

Script = Callable[[ModelRequest], ModelReply | str]


def last(request: ModelRequest) -> str:
    return request.messages[-1].content


# --- agents that work together -------------------------------------------------------------------------------------


async def test_an_agent_asks_another_as_a_tool_which_uses_its_own_tools_and_words():
    def script(request: ModelRequest) -> ModelReply | str:
        if request.messages[0].content == "You add.":
            return "it is 3" if served(request) else calls(("add", {"a": 1, "b": 2}))
        return f"told: {last(request)}" if served(request) else calls(("adder", {"task": "1 and 2"}))

    made: list[Any] = []
    app, model = with_model(script)
    add_tool(app, made)
    app.workflow("w").agent(
        "p", "loop", model="m:x", prompt="sum", tools=[{"agent": "adder"}],
        agents={"adder": {"system": "You add.", "description": "Adds.", "tools": ["add"]}},
    )
    view, happened = await ran(app, told=True)
    assert view.output["p"]["content"] == "told: it is 3"
    assert made == [(1, 2)]
    assert [tool.name for tool in model.requests[0].tools] == ["adder"]
    assert [tool.name for tool in model.requests[1].tools] == ["add"]
    names = [data["call"] for kind, data in happened if kind == "call.started"]
    assert names == ["r1/model", "r1/t0/r1/model", "r1/t0/r1/t0", "r1/t0/r2/model", "r2/model"]


async def test_agents_ask_agents_only_so_deep():
    app, model = with_model(lambda request: "end" if served(request) else calls(("again", {"task": "t"})))
    app.workflow("w").agent(
        "p", "loop", model="m:x", prompt="p", tools=[{"agent": "again"}], limits={"depth": 2},
        agents={"again": {"tools": [{"agent": "again"}]}},
    )
    assert (await ran(app)).output["p"]["content"] == "end"
    deepest = [m.content for request in model.requests for m in request.messages if m.failed]
    assert deepest == ["Tool error: not made: agents ask agents at most 2 deep"]


async def test_a_conversation_is_handed_to_another_agent_which_goes_on_with_it():
    def script(request: ModelRequest) -> ModelReply | str:
        if request.messages[0].content == "You sell.":
            return f"{len(request.messages)} messages, {[tool.name for tool in request.tools]}"
        return calls(("transfer_to_sales", {"reason": "wants to buy"}))

    app, _ = with_model(script)
    add_tool(app, [])
    app.workflow("w").agent(
        "p", "loop", model="m:x", system="You greet.", prompt="a car please", handoffs=["sales"],
        agents={"sales": {"system": "You sell.", "tools": ["add"]}},
    )
    out = (await ran(app)).output["p"]
    assert (out["content"], out["agent"]) == ("4 messages, ['add']", "sales")


def test_every_fault_of_an_agents_options_is_reported_at_once():
    app = App("t")
    app.workflow("w").agent(
        "p", "loop", prompt="p", tools=[{"agent": "nobody"}, {"agnt": "x"}], handoffs=["sale"], max_rounds=3,
        agents={"sales": {"sistem": "x"}, "2nd": {}}, limits={"rounds": 0, "hops": 1}, verify={"criteria": ""},
        corrections=-1, judge={"prompt": "x"}, context="downstream", knowledge={"max_chars": 0},
    )
    with pytest.raises(InvalidGraph) as caught:
        app.catalog()
    places = {problem.place.partition("config/")[2] for problem in caught.value.problems}
    assert places == {
        "tools/0", "tools/1", "handoffs/0", "max_rounds", "agents/sales/sistem", "agents/2nd", "limits/hops",
        "limits/rounds", "verify/criteria", "corrections", "judge", "context", "knowledge/max_chars",
    }


# --- merging -------------------------------------------------------------------------------------------------------


async def test_a_swarm_may_be_reduced_by_one_more_pass():
    app, model = with_model(lambda r: "one of three" if r.purpose == "merging" else f"branch {r.seed}")
    app.workflow("w").agent("s", "swarm", n=3, merge="reduce", model="m:x", prompt="p", judge={"prompt": "Sum up."})
    out = (await ran(app)).output["s"]
    assert out["merged"] == "one of three"
    assert out["branches"] == ["branch 0", "branch 1", "branch 2"]
    asked = last(model.requests[3])
    assert asked.startswith("Sum up.")
    assert all(f"[{n}]\nbranch {n}" in asked for n in range(3))


async def test_a_judge_picks_the_best_branch_by_its_index_and_says_why():
    answers = [ModelReply(data={"index": 7, "reason": "x"}), ModelReply(data={"index": 1, "reason": "shorter"})]
    app, model = with_model(lambda r: answers.pop(0) if r.purpose == "merging" else f"branch {r.seed}")
    app.workflow("w").agent("s", "swarm", n=2, merge="best", model="m:x", prompt="p")
    out = (await ran(app)).output["s"]
    assert (out["merged"], out["best"]) == ("branch 1", {"index": 1, "reason": "shorter"})
    assert "/index" in last(model.requests[3])


# --- verification --------------------------------------------------------------------------------------------------


def judged(*verdicts: tuple[str, str]) -> Script:
    left = list(verdicts)

    def script(request: ModelRequest) -> ModelReply | str:
        if request.purpose == "verification":
            verdict, feedback = left.pop(0)
            return ModelReply(data={"verdict": verdict, "feedback": feedback})
        return "with sources" if "name the sources" in last(request) else "without"

    return script


async def test_gaps_send_the_work_round_again_with_what_was_missing():
    app, model = with_model(judged(("gaps_found", "name the sources"), ("passed", "")))
    app.workflow("w").agent("p", model="m:x", prompt="report", verify={"criteria": ["has sources"]})
    out = (await ran(app)).output["p"]
    assert out["content"] == "with sources"
    assert out["verification"] == {"verdict": "passed", "feedback": "", "passes": 2}
    assert "- has sources" in last(model.requests[1])
    assert [request.purpose for request in model.requests] == ["execution", "verification"] * 2


async def asked(engine: Engine, run: str) -> Any:
    async with asyncio.timeout(15):
        while not (found := (await engine.tickets.list(run=run, state="open")).items):
            await asyncio.sleep(0)
    return found[0]


@pytest.mark.parametrize(
    ("decision", "status", "content"), [("accept", "completed", "without"), ("fail", "failed", None), ("retry", "completed", "with sources")]
)
async def test_in_doubt_a_person_judges(decision: str, status: str, content: str | None):
    app, _ = with_model(judged(("human_needed", "is it true?"), ("passed", "")))
    app.workflow("w").agent("p", model="m:x", prompt="report", verify={"criteria": "true"})
    async with app.engine("memory:") as engine:
        run = (await engine.runs.start("w", {})).id
        ticket = await asked(engine, run)
        assert (ticket.kind, ticket.choices) == ("review", ["accept", "retry", "fail"])
        await engine.tickets.decide(ticket.id, decision, reason="name the sources")
        view = await engine.runs.result(run, timeout_s=15)
    assert view.status == status
    assert (view.output or {}).get("p", {}).get("content") == content


async def test_gaps_that_remain_and_verdicts_nobody_can_read_go_to_a_person():
    app, _ = with_model(judged(("gaps_found", "more"), ("gaps_found", "still more")))
    app.workflow("w").agent("p", model="m:x", prompt="report", verify={"criteria": "long", "max_retries": 1})
    app.workflow("v").agent("p", model="m:x", prompt="report", verify={"criteria": "long", "max_retries": 0})
    async with app.engine("memory:") as engine:
        ticket = await asked(engine, (await engine.runs.start("w", {})).id)
        assert "still has gaps after 1 retries: still more" in ticket.message
    app, _ = with_model(lambda request: "words")
    app.workflow("w").agent("p", model="m:x", prompt="report", verify={"criteria": "long"})
    async with app.engine("memory:") as engine:
        assert "could not be read: words" in (await asked(engine, (await engine.runs.start("w", {})).id)).message


async def test_verification_without_money_is_left_out_and_said_to_be():
    app, model = with_model(lambda _: ModelReply(content="x", input_tokens=90, output_tokens=9))
    app.workflow("w").budget(tokens=100).agent("p", model="m:x", prompt="p", max_tokens=90, verify={"criteria": "any"})
    view = await ran(app)
    found = view.output["p"]["verification"]
    assert (view.status, found["verdict"], len(model.requests)) == ("completed", "skipped", 1)
    assert "tokens" in found["feedback"]


# --- knowledge and context -----------------------------------------------------------------------------------------


def finding(*texts: str) -> ModelReply:
    return ModelReply(data={"findings": [{"category": "gotcha", "text": text} for text in texts]})


async def test_findings_of_earlier_steps_stand_in_later_prompts_each_once_and_within_the_size():
    def script(request: ModelRequest) -> ModelReply | str:
        if request.purpose == "knowledge_extraction":
            return finding("Ports close at six.", "PORTS close  at six.", "x" * 500)
        return "what I found"

    app, model = with_model(script)
    flow = app.workflow("w").agent("a", model="m:x", prompt="a", knowledge={"extract": True, "min_chars": 1})
    flow.agent("b", model="m:x", prompt="b", after="a", knowledge={"extract": True, "inject": True, "max_chars": 100, "min_chars": 1})
    flow.agent("c", model="m:x", prompt="c", after="b")
    view = await ran(app)
    outputs = {step.id: step.output for step in view.steps}
    assert [item["text"][:20] for item in outputs["a"]["findings"]] == ["Ports close at six.", "x" * 20]
    assert outputs["b"]["findings"] == []
    prompts = [last(request) for request in model.requests if request.purpose == "execution"]
    assert prompts == ["a", "b\n\nKnown so far:\n- [gotcha] Ports close at six.", "c"]


async def test_a_prompt_may_hold_what_the_steps_before_said_cut_to_a_size():
    app, model = with_model(lambda request: "y" * 50 if last(request) == "a" else "ok")
    flow = app.workflow("w").agent("a", model="m:x", prompt="a")
    flow.agent("b", model="m:x", prompt="b", after="a", context={"upstream": 10})
    await ran(app)
    assert last(model.requests[1]).startswith(f"b\n\nResults of the steps before:\n- a: {'y' * 10}\n(cut; 50 characters")


# --- routing -------------------------------------------------------------------------------------------------------


async def test_a_model_is_chosen_by_the_task_and_the_choice_and_its_reason_are_recorded():
    app, model = with_model(lambda _: "ok")
    app.model("ollama:llama3.2", model)
    app.workflow("w").agent("p", model="auto", prompt="p", routing={"task_type": "research", "complexity": "simple"})
    _, happened = await ran(app, told=True)
    assert model.requests[0].model == "ollama:llama3.2"
    choice = next(data["output"] for kind, data in happened if kind == "call.completed" and data["kind"] == "route")
    assert choice["tier"] == "local"
    assert "research tasks that are simple" in choice["reason"]


async def test_another_model_stands_in_for_one_that_does_not_answer():
    def script(request: ModelRequest) -> str:
        if request.model.startswith("ollama"):
            raise ModelUnreachable("connection refused", local=True)
        return request.model

    app, model = with_model(script)
    for name in ("ollama", "anthropic", "openai"):
        app.model(name, model)
    app.workflow("w").agent("p", model="tier:local", prompt="p", retry=QUICK)
    view, happened = await ran(app, told=True)
    assert view.output["p"]["content"] == "anthropic:claude-haiku-4-5"
    routes = [data["output"] for kind, data in happened if kind == "call.completed" and data["kind"] == "route"]
    assert routes[1] == {"model": "anthropic:claude-haiku-4-5", "reason": "connection refused"}


async def test_a_run_may_say_which_model_its_open_choices_fall_on():
    app, model = with_model(lambda _: "ok")
    app.workflow("w").agent("p", model="auto", prompt="p")
    async with app.engine("memory:") as engine:
        run = await engine.runs.start("w", {}, labels={"model": "m:x"})
        assert (await engine.runs.result(run.id, timeout_s=15)).status == "completed"
        choice = next(d["output"] for k, d in await events(engine, run.id) if k == "call.completed" and d["kind"] == "route")
    assert (model.requests[0].model, choice["models"]) == ("m:x", ["m:x"])
