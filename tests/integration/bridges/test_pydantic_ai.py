"""A pydantic-ai agent as a step: calls made once, over failures and SIGKILL; budgets, approvals, a provider's faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelMessage, ModelResponse, ModelRetry, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import tenuto
from tenuto.bridges.pydantic_ai import durable
from tenuto.domain.runs.views import RunView
from tenuto.testing.servers import Answer, OpenAiServer, Rates, ToolUse

RATES = Rates(input="0.15", output="0.60")
"""What gpt-4o-mini costs."""
RETRY = tenuto.Retry(attempts=3, backoff_s=0.01)


async def _ticket(engine: tenuto.Engine, run: str) -> Any:
    """Wait until a run asks a person, and return the question."""
    async with aclosing(cast("AsyncGenerator[Any]", engine.history.stream(run))) as events:
        async for event in events:
            if event.type == "ticket.opened":
                return (await engine.tickets.list()).items[0]
    raise AssertionError("the run ended without a question")


class Played:
    """An agent whose model follows a list of calls, and a note of all that was really made."""

    def __init__(self, *turns: list[tuple[str, dict[str, Any]]]) -> None:
        self.turns = turns
        self.asked: list[int] = []
        self.made: list[str] = []
        self.agent = Agent(FunctionModel(self.answer), name="player")

    def answer(self, messages: list[ModelMessage], info: Any) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        self.asked.append(turn)
        if turn < len(self.turns):
            return ModelResponse(parts=[ToolCallPart(name, args) for name, args in self.turns[turn]])
        return ModelResponse(parts=[TextPart("done")])

    def app(self, **options: Any) -> tenuto.App:
        app = tenuto.App("bridges")
        step = app.step(retry=RETRY)(durable(self.agent, **options))
        app.workflow("play").step(step)
        return app


async def test_an_attempt_that_fails_repeats_no_call() -> None:
    """Requests and calls of the first attempt are answered from the journal; the one that failed is made again."""
    played = Played([("look", {"n": 1}), ("look", {"n": 2})], [("break_once", {})])

    @played.agent.tool_plain(retries=2)
    def look(n: int) -> dict[str, int]:
        played.made.append(f"look{n}")
        return {"n": n}

    @played.agent.tool_plain
    def break_once() -> str:
        played.made.append("break")
        if played.made.count("break") == 1:
            raise RuntimeError("broken")
        return "whole"

    async with played.app().engine("memory:") as engine:
        run = await engine.runs.execute("play", {"prompt": "go"})
    assert (run.status, run.output) == ("completed", {"player": "done"})
    assert sorted(played.made) == ["break", "break", "look1", "look2"]
    assert played.asked == [0, 1, 2], "each request was made once"


async def test_what_a_tool_tells_the_model_is_recorded() -> None:
    """A tool that asks the model to try again is not called again with the same arguments by a later attempt."""
    played = Played([("pick", {"n": 1})], [("pick", {"n": 2})], [("break_once", {})])

    @played.agent.tool_plain(retries=2)
    def pick(n: int) -> int:
        played.made.append(f"pick{n}")
        if n == 1:
            raise ModelRetry("pick another")
        return n

    @played.agent.tool_plain
    def break_once() -> str:
        played.made.append("break")
        if played.made.count("break") == 1:
            raise RuntimeError("broken")
        return "whole"

    async with played.app().engine("memory:") as engine:
        run = await engine.runs.execute("play", "go")
    assert run.status == "completed"
    assert played.made == ["pick1", "pick2", "break", "break"]


async def test_a_cap_stops_the_agent_before_the_call() -> None:
    """The run's caps hold inside the agent: the second call of a tool capped at one is never made."""
    played = Played([("look", {})], [("look", {})])

    @played.agent.tool_plain
    def look() -> str:
        played.made.append("look")
        return "seen"

    async with played.app().engine("memory:") as engine:
        run = await engine.runs.execute("play", "go", budget=tenuto.Budget(per_tool={"look": 1}))
        assert run.status == "budget_exceeded"
        spent = (await engine.runs.get(run.id)).budget.spent
    assert played.made == ["look"]
    assert spent["per_tool"] == {"look": 1}
    assert spent["tokens"] > 0, "what the model used is counted"


async def test_a_call_that_needs_approval_opens_a_ticket() -> None:
    """The run waits for a person; approved, the call is made once, and the requests before are not repeated."""
    played = Played([("pay", {"cents": 5})])

    @played.agent.tool_plain(requires_approval=True)
    def pay(cents: int) -> str:
        played.made.append(f"pay{cents}")
        return "paid"

    async with played.app().engine("memory:") as engine:
        run = await engine.runs.start("play", "go")
        ticket = await _ticket(engine, run.id)
        assert played.made == []
        assert ticket.message == "May the agent call pay?"
        await engine.tickets.decide(ticket.id, "approve")
        done = await engine.runs.result(run.id)
    assert (done.status, played.made, played.asked) == ("completed", ["pay5"], [0, 1])


async def test_a_refused_call_is_told_to_the_model_and_never_made() -> None:
    """The model hears why, and the agent goes on."""
    played = Played([("pay", {"cents": 5})])

    @played.agent.tool_plain(requires_approval=True)
    def pay(cents: int) -> str:
        played.made.append(f"pay{cents}")
        return "paid"

    async with played.app().engine("memory:") as engine:
        run = await engine.runs.start("play", "go")
        ticket = await _ticket(engine, run.id)
        await engine.tickets.decide(ticket.id, "reject", reason="too much")
        done = await engine.runs.result(run.id)
    assert (done.status, played.made, played.asked) == ("completed", [], [0, 1])


# --- a real provider's protocol --------------------------------------------------------------------------------


async def _asked_over_http(
    server: OpenAiServer, name: str = "gpt-4o-mini", budget: tenuto.Budget | None = None, **options: Any
) -> tuple[RunView, list[str], list[Any]]:
    """Run an agent with one tool, and return the run, what the tool did, and the run's events."""
    made: list[str] = []
    agent = Agent(name="player")

    @agent.tool_plain
    def look(city: str) -> str:
        made.append(city)
        return "warm"

    app = tenuto.App("http")
    app.workflow("play").step(durable(agent, retry=tenuto.Retry(attempts=3, backoff_s=0.01), **options))
    client = AsyncOpenAI(base_url=server.base_url, api_key="sk-canary", max_retries=0)
    agent.model = OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
    async with client, app.engine("memory:") as engine:
        run = await engine.runs.execute("play", "How is Rome?", budget=budget)
        events = [event async for event in engine.history.stream(run.id)]
        return await engine.runs.get(run.id), made, events


async def test_a_busy_provider_is_waited_for_and_the_spend_is_its_bill() -> None:
    """429 and 503 pass, are seen, and cost nothing; what is spent equals what the provider billed, to the micro."""
    script = [
        Answer(status=429, retry_after="0", message="slow down"), Answer(tools=(ToolUse("look", {"city": "Rome"}),)),
        Answer(status=503), Answer(text="It is warm.", input_tokens=1234, output_tokens=77),
    ]  # fmt: skip
    async with OpenAiServer(script, rates=RATES) as server:
        run, made, events = await _asked_over_http(server)
        billed = server.billed_usd_micros
    assert (run.status, run.output, made) == ("completed", {"player": "It is warm."}, ["Rome"])
    assert len(server.asked) == 4
    assert run.budget.spent["cost_usd_micros"] == billed > 0
    assert sum(event.type == "call.failed" for event in events) == 2


async def test_a_connection_cut_in_the_middle_keeps_its_reservation() -> None:
    """Nobody knows what the cut request cost: it is made again, and its upper bound counts as spent, marked so."""
    script = [Answer(text="lost", cut_after=0), Answer(text="Warm.")]
    async with OpenAiServer(script, rates=RATES) as server:
        run, _made, events = await _asked_over_http(server)
        billed = server.billed_usd_micros
    assert run.output == {"player": "Warm."}
    assert sum(event.type == "call.unknown" for event in events) == 1
    assert run.budget.unknown["cost_usd_micros"] > 0
    assert run.budget.spent["cost_usd_micros"] >= billed


async def test_a_provider_that_refuses_is_asked_once_and_its_words_are_not_kept() -> None:
    """A rejected key is final; what the provider says about it may repeat the key, and is not journaled."""
    script = [Answer(status=401, message="Incorrect API key provided: sk-canary", error="invalid_api_key")]
    async with OpenAiServer(script) as server:
        run, _made, events = await _asked_over_http(server)
    assert run.status == "failed"
    assert len(server.asked) == 1
    assert run.error is not None
    assert run.error.code == "model.refused"
    assert "sk-canary" not in f"{run} {events}"


async def test_a_model_without_a_price_is_not_free() -> None:
    """It is counted at the price given, with a warning; a cap below its bound refuses before anything is sent."""
    async with OpenAiServer([Answer(text="Warm.", input_tokens=1000, output_tokens=10)]) as server:
        run, _made, _events = await _asked_over_http(server, "nobodys-model", price=(2.0, 8.0))
        assert run.budget.spent["cost_usd_micros"] == 1000 * 2 + 10 * 8
        capped, _made, _events = await _asked_over_http(
            server, "nobodys-model", tenuto.Budget(cost_usd_micros=1000), price=(2.0, 8.0)
        )
    assert capped.status == "budget_exceeded"
    assert len(server.asked) == 1


# --- killed workers --------------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
import tenuto
from pydantic_ai import Agent, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from tenuto.bridges.pydantic_ai import durable

DOOMED = sys.argv[1]
TURNS = [("act", {"n": 0}), ("act", {"n": 1}), ("pay", {"cents": 5})]

def note(what):
    with open("ledger", "a") as ledger:
        ledger.write(what + "\\n")
    if what == DOOMED:
        os.kill(os.getpid(), signal.SIGKILL)

def answer(messages, info):
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    note(f"model{turn}")
    if turn < len(TURNS):
        return ModelResponse(parts=[ToolCallPart(*TURNS[turn])])
    return ModelResponse(parts=[TextPart(str(messages[-1].parts[0].content))])

agent = Agent(FunctionModel(answer), name="player")

@agent.tool_plain(metadata={"effect": "idempotent"})
def act(n: int) -> int:
    note(f"act{n}")
    return n

@agent.tool_plain
def pay(cents: int) -> str:
    note(f"pay{cents}")
    return "paid"

app = tenuto.App("killed")
app.workflow("play").step(durable(agent))

async def decide(engine, run):
    async for event in engine.history.stream(run):
        if event.type == "ticket.opened":
            ticket = (await engine.tickets.list()).items[0]
            note(ticket.kind)
            await engine.tickets.decide(ticket.id, "succeeded", data="paid, says the bank")

async def main():
    async with app.engine("sqlite:///runs.db") as engine:
        run = (await engine.runs.start("play", "go", business_key="one")).id
        await decide(engine, run)
        print((await engine.runs.result(run)).output)

tenuto.run(main())
"""
WHOLE = ["model0", "act0", "model1", "act1", "model2", "pay5", "model3"]


@pytest.mark.parametrize("point", ["model1", "act1", "pay5"])
def test_a_killed_worker_repeats_no_committed_call(point: str, tmp_path: Path) -> None:
    """SIGKILL inside a call: what had an outcome is not repeated; the call itself follows its policy."""
    (tmp_path / "program.py").write_text(KILLED)

    def start(doomed: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONWARNINGS": "ignore"}
        return subprocess.run(
            [sys.executable, "program.py", doomed], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    killed = start(point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = start("nothing")
    assert finished.returncode == 0, finished.stderr
    at = WHOLE.index(point)
    asked = point == "pay5"
    repeated = "unknown_outcome" if asked else point
    assert (tmp_path / "ledger").read_text().split() == [*WHOLE[: at + 1], repeated, *WHOLE[at + 1 :]]
    assert finished.stdout.strip() == str({"player": "paid, says the bank" if asked else "paid"})
