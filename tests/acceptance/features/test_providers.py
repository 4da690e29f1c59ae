"""The same three workflows against servers that speak OpenAI's and Anthropic's protocols: HTTP, streams, exact money."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from features.harness import Gate, ended, events, ran, served, statuses
from tenuto import App, Retry
from tenuto.domain.routing import TIERS
from tenuto.domain.runs.views import RunView
from tenuto.ports.providers import PROVIDERS, Provider, Providers
from tenuto.runtime.services.engine import Engine
from tenuto.testing.servers import Answer, AnthropicServer, Asked, ModelServer, OpenAiServer, Rates, ToolUse

KEY = "sk-canary-71c0de"
# What the catalogue in the package says of these models; the servers bill by it on their own.
KINDS: dict[str, tuple[type[ModelServer], str, Rates]] = {
    "openai": (OpenAiServer, TIERS["small"][1], Rates(input="0.25", output="2", cached="0.025")),
    "anthropic": (
        AnthropicServer, TIERS["large"][0],
        Rates(input="3", output="15", cached="0.3", cache_write="3.75"),
    ),
}  # fmt: skip
BOTH = pytest.mark.parametrize("kind", list(KINDS))


def provider_of(kind: str, server: ModelServer) -> Providers:
    """Return the shipped provider of a kind, at a server's address."""
    shipped = PROVIDERS[kind]
    there = Provider(name=kind, kind=shipped.kind, base_urls=(server.base_url,), key_env="TENUTO_TEST_KEY")
    return Providers(providers={kind: there})


class Office:
    """An app of three workflows, and the server their agents ask."""

    def __init__(self, kind: str, *faults: Answer) -> None:
        """Make both; the server commits the faults first, in this order."""
        make, self.model, rates = KINDS[kind]
        self.kind = kind
        self.faults = list(faults)
        self.server = make(self._answer, rates=rates, secret=KEY)
        self.begin = Gate()
        self.searched: list[str] = []
        self.spoken = 0
        self.app = self._app()

    def _app(self) -> App:
        app = App("office")

        @app.step
        async def begin(topic: str) -> str:
            await self.begin()
            return topic

        @app.tool(effect="idempotent")
        async def search(query: str) -> str:
            """Search the archive."""
            self.searched.append(query)
            return f"all about {query}"

        again = Retry(attempts=4, backoff_s=0.001)
        pipeline = app.workflow("pipeline").step(begin)
        pipeline.agent(
            "write", model=self.model, prompt="Write of ${nodes.begin.output}", tools=[search], retry=again, after="begin"
        )
        desks = app.workflow("supervisor").step(begin)
        desks.agent("route", "supervisor", model=self.model, prompt="Which desk?", retry=again, after="begin")
        for desk in ("billing", "refund"):
            desks.transform(desk, value=f"'{desk} takes it'").edge("route", desk, when=f"output.decision == '{desk}'")
        for name, merge in (("vote", "vote"), ("best", "best")):
            swarm = app.workflow(f"swarm-{name}").step(begin)
            swarm.agent("ideas", "swarm", n=3, merge=merge, model=self.model, prompt="An idea", retry=again, after="begin")
        return app

    def _answer(self, asked: Asked) -> Answer:
        if self.faults:
            return self.faults.pop(0)
        text = json.dumps(asked.body["messages"])
        usage: dict[str, Any] = {
            "input_tokens": 1000 + asked.n, "cached_tokens": 600, "output_tokens": 50 + asked.n, "reasoning_tokens": 20
        }  # fmt: skip
        if "Which desk?" in text:
            return self._shaped({"choice": "refund"}, usage)
        if "best?" in text:
            return self._shaped({"index": 2, "reason": "the boldest"}, usage)
        if "An idea" in text:
            self.spoken += 1
            return Answer(text="a boat" if self.spoken != 2 else "a kite", **usage)
        if "all about tides" in text:
            return Answer(text="The tides, in full.", cache_write_tokens=100 if self.kind == "anthropic" else 0, **usage)
        return Answer(text="Let me look.", tools=(ToolUse("search", {"query": "tides"}),), **usage)

    def _shaped(self, data: dict[str, Any], usage: dict[str, Any]) -> Answer:
        """Answer in a shape by the way this provider has for it."""
        if self.kind == "openai":
            return Answer(text=json.dumps(data), **usage)
        return Answer(tools=(ToolUse("final_answer", data),), **usage)


async def watched(engine: Engine, office: Office, workflow: str) -> tuple[RunView, dict[str, str]]:
    """Run a workflow while somebody watches; return the run, and what was streamed of each call."""
    said: dict[str, str] = {}
    run = await engine.runs.start(workflow, {"topic": "tides"})
    async with asyncio.timeout(20), aclosing(cast("Any", engine.history.stream(run.id))) as stream:
        async for event in stream:
            if event.type == "step.started":
                office.begin.open.set()  # nobody asks a model before there is somebody to tell
            elif event.type == "call.delta":
                said[event.data["call"]] = said.get(event.data["call"], "") + event.data["text"]
            elif event.type == "call.withdrawn":
                said.pop(event.data["call"], None)
    return await ended(engine, run.id), said


async def asked_of(engine: Engine, run_id: str) -> list[dict[str, Any]]:
    """Return what the journal says of each model request that was answered."""
    found = await events(engine, run_id)
    return [event.data["meta"] for event in found if event.type == "call.completed" and event.data["kind"] == "model"]


async def counted(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    """Return the totals of a run once nothing is missing from them: figures follow the journals by a moment."""
    async with asyncio.timeout(15):
        while True:
            found = (await client.get("/usage", params={"run": run_id, "kind": "model", "group_by": "purpose"})).json()
            if not found["lag"]:
                return found


async def assert_exact(engine: Engine, client: httpx.AsyncClient, office: Office, view: RunView) -> None:
    """The run's budget, its journal, its usage and that of all runs say what the server's own ledger says."""
    bills = office.server.bills
    tokens = sum(bill.input_tokens + bill.output_tokens for bill in bills)
    assert view.budget.spent["cost_usd_micros"] == office.server.billed_usd_micros > 0
    assert view.budget.spent["tokens"] == tokens
    assert not any(view.budget.reserved.values())
    told = await asked_of(engine, view.id)
    names = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "cost_usd_micros")
    assert sorted(tuple(meta[name] for name in names) for meta in told) == sorted(
        tuple(getattr(bill, name) for name in names) for bill in bills
    )
    assert {meta["provider"] for meta in told} == {office.kind}
    assert all(bill.cached_tokens == 600 for bill in bills)
    if office.kind == "openai":  # the other protocol does not say how much of the answer was reasoning
        assert {meta["reasoning_tokens"] for meta in told} == {20}
    own = (await client.get(f"/runs/{view.id}/usage")).json()
    assert own["budget"]["spent"]["cost_usd_micros"] == office.server.billed_usd_micros
    totals = (await counted(client, view.id))["totals"]
    assert totals["cost_usd_micros"] == office.server.billed_usd_micros
    for name in names[:4]:
        assert totals[name] == sum(getattr(bill, name) for bill in bills), name
    calls = (await client.get("/usage/calls", params={"run": view.id, "kind": "model"})).json()["items"]
    assert sorted(call["cost_usd_micros"] for call in calls) == sorted(bill.cost_usd_micros for bill in bills)
    assert {(call["provider"], call["model"], call["state"]) for call in calls} == {
        (office.kind, office.model.partition(":")[2], "settled")
    }
    assert len({asked.key for asked in office.server.asked}) == len(office.server.asked)
    assert KEY not in str(await events(engine, view.id))


@BOTH
async def test_a_pipeline_with_a_tool_streams_and_costs_what_the_provider_bills(
    kind: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TENUTO_TEST_KEY", KEY)
    office = Office(kind)
    async with office.server as server, served(office.app, sqlite_url, tmp_path, providers=provider_of(kind, server)) as (engine, client):
        view, said = await watched(engine, office, "pipeline")
        assert view.status == "completed", view.error
        assert view.output["write"]["content"] == "The tides, in full."
        assert view.output["write"]["tools"] == {"search": "all about tides"}
        assert office.searched == ["tides"]
        assert list(said.values()) == ["Let me look.", "The tides, in full."]
        assert [asked.stream for asked in server.asked] == [True, True]
        await assert_exact(engine, client, office, view)


@BOTH
async def test_a_supervisor_takes_the_edge_its_model_chose(
    kind: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TENUTO_TEST_KEY", KEY)
    office = Office(kind)
    async with office.server as server, served(office.app, sqlite_url, tmp_path, providers=provider_of(kind, server)) as (engine, client):
        view, _ = await watched(engine, office, "supervisor")
        assert (view.status, view.output) == ("completed", {"refund": "refund takes it"})
        assert statuses(view)["billing"] == "skipped"
        assert "'enum': ['billing', 'refund']" in str(server.asked[0].body)
        await assert_exact(engine, client, office, view)


@BOTH
@pytest.mark.parametrize(("merge", "requests"), [("vote", 3), ("best", 4)])
async def test_a_swarm_s_answers_are_merged(
    kind: str, merge: str, requests: int, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TENUTO_TEST_KEY", KEY)
    office = Office(kind)
    async with office.server as server, served(office.app, sqlite_url, tmp_path, providers=provider_of(kind, server)) as (engine, client):
        view, said = await watched(engine, office, f"swarm-{merge}")
        assert view.status == "completed", view.error
        purposes = {group["key"]: group["calls"] for group in (await counted(client, view.id))["groups"]}
        assert purposes == ({"execution": 3} if merge == "vote" else {"execution": 3, "merging": 1})
        out = view.output["ideas"]
        assert sorted(out["branches"]) == ["a boat", "a boat", "a kite"]
        assert out["merged"] == ("a boat" if merge == "vote" else out["branches"][2])
        assert sorted(text for call, text in said.items() if call.endswith("/model")) == sorted(out["branches"])
        assert len(server.asked) == requests
        await assert_exact(engine, client, office, view)


@BOTH
async def test_errors_that_pass_are_waited_out_and_cost_nothing(
    kind: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TENUTO_TEST_KEY", KEY)
    office = Office(kind, Answer(status=429, retry_after="0", message="slow down"), Answer(status=503, message="back soon"))
    office.begin.open.set()
    async with office.server as server, served(office.app, sqlite_url, tmp_path, providers=provider_of(kind, server)) as (engine, client):
        view = await ran(engine, "supervisor", {"topic": "tides"})
        assert (view.status, view.output) == ("completed", {"refund": "refund takes it"})
        assert len(server.asked) == 3
        assert len(server.bills) == 1
        assert len({asked.key for asked in server.asked}) == 1
        assert (await counted(client, view.id))["totals"]["cost_usd_micros"] == server.billed_usd_micros
        assert view.budget.spent["cost_usd_micros"] == server.billed_usd_micros
        told = str(await events(engine, view.id))
        assert "slow down" in told
        assert "back soon" in told


@BOTH
async def test_what_a_broken_stream_cost_is_held_until_somebody_knows(
    kind: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The provider billed an answer that never came: spent stays above its ledger, and meets it when the bill is told."""
    monkeypatch.setenv("TENUTO_TEST_KEY", KEY)
    office = Office(kind, Answer(text="The tides, in f", input_tokens=900, output_tokens=9, cut_after=2))
    async with office.server as server, served(office.app, sqlite_url, tmp_path, providers=provider_of(kind, server)) as (engine, client):
        view, said = await watched(engine, office, "pipeline")
        assert view.status == "completed", view.error
        assert list(said.values()) == ["Let me look.", "The tides, in full."]  # what was said before the break is withdrawn
        lost, *answered = server.bills
        spent, unknown = view.budget.spent["cost_usd_micros"], view.budget.unknown["cost_usd_micros"]
        assert spent - unknown == sum(bill.cost_usd_micros for bill in answered)
        assert spent - unknown <= server.billed_usd_micros <= spent
        (hold,) = await engine.budgets.holds(lost=True)
        await engine.budgets.settle(view.id, hold.n, lost.cost_usd_micros)
        total = next(item for item in (await engine.budgets.read()).items if (item.scope, item.period) == ("", "total"))
        assert (total.spent, total.reserved, total.unknown) == (server.billed_usd_micros, 0, 0)
        totals = (await counted(client, view.id))["totals"]
        assert (totals["cost_usd_micros"], totals["unknown_cost_usd_micros"]) == (server.billed_usd_micros, 0)
