"""What was spent, read over HTTP and on the command line from a real server, while and after runs are made."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from features.harness import cli, ran, reachable
from tenuto import App
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.ports.model import ModelReply, ModelRequest


def answer(request: ModelRequest) -> ModelReply:
    """Cost something odd, by the model asked for."""
    big = request.model.endswith("big")
    return ModelReply(
        content="ok", input_tokens=100 if big else 10, output_tokens=7, cached_tokens=3, provider="lab",
        model="big" if big else "small", cost_usd_micros=1_333_333 if big else 1,
    )


def priced() -> App:
    """Return an application of one workflow that asks two models and one tool."""
    app = App("t")
    for name in ("lab:big", "lab:small"):
        app.model(name, ScriptedModel(answer))

    @app.tool(effect="idempotent")
    async def search(query: str = "") -> str:
        return query

    flow = app.workflow("report").agent("plan", model="lab:big", prompt="p").agent("write", model="lab:small", prompt="p")
    flow.tool(search, id="find", args={"query": "q"})
    return app


async def settled(client: httpx.AsyncClient, path: str, **query: str) -> dict[str, Any]:
    """Return an answer that nothing is missing from: figures follow the journals by a moment."""
    async with asyncio.timeout(15):
        while True:
            found = (await client.get(path, params=query)).raise_for_status().json()
            if not found["lag"]:
                return found


async def test_costs_add_up_by_model_day_and_project(both_url: str, tmp_path: Path):
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    async with reachable(priced(), both_url, tmp_path) as (engine, address):
        runs = [(await ran(engine, "report", labels={"project": name} if name else {})).id for name in ("atlas", "atlas", "")]
        async with httpx.AsyncClient(base_url=f"{address}/api/v1", timeout=20) as client:
            found = await settled(client, "/usage", group_by="model")
            assert {g["key"]: (g["calls"], g["tokens"], g["cost_usd"]) for g in found["groups"]} == {
                "big": (3, 321, "3.999999"), "small": (3, 51, "0.000003"), "": (3, 0, "0.000000")
            }  # fmt: skip
            assert (found["totals"]["cost_usd"], found["totals"]["runs"], found["totals"]["cached_tokens"]) == ("4.000002", 3, 18)
            (day,) = (await settled(client, "/usage/daily"))["groups"]
            assert day["cost_usd_micros"] == 4_000_002
            assert day["key"] in (today, datetime.now(UTC).strftime("%Y-%m-%d"))
            projects = (await settled(client, "/usage/projects"))["groups"]
            assert [(g["key"], g["cost_usd"]) for g in projects] == [("atlas", "2.666668"), ("", "1.333334")]
            ledgers = [(await client.get(f"/runs/{run}/usage")).json()["budget"]["spent"]["cost_usd_micros"] for run in runs]
            assert sum(ledgers) == found["totals"]["cost_usd_micros"]
            assert (await settled(client, "/usage", to="2020-01-01"))["totals"]["calls"] == 0
            calls = (await client.get("/usage/calls", params={"run": runs[2], "kind": "model"})).json()["items"]
            assert {(c["agent"], c["provider"], c["model"], c["state"]) for c in calls} == {
                ("plan", "lab", "big", "settled"), ("write", "lab", "small", "settled")
            }  # fmt: skip
            refused = await client.get("/usage", params={"from": "yesterday"})
            assert (refused.status_code, "from" in refused.text) == (422, True)
            assert (await client.get("/usage", params={"group_by": "moon"})).status_code == 422

        async def told(*argv: str) -> str:
            done = await asyncio.to_thread(cli, "usage", *argv, TENUTO_API_URL=address, TENUTO_HOME=str(tmp_path))
            assert done.returncode == 0, done.stderr
            return done.stdout

        table = [line.split() for line in (await told("--project", "atlas")).splitlines()]
        assert [(line[0], line[-1]) for line in table] == [
            ("MODEL", "COST"), ("big", "$2.666666"), ("small", "$0.000002"), ("(none)", "$0.000000"), ("total", "$2.666668")
        ]  # fmt: skip
        assert json.loads(await told("--by", "day", "--since", "1d", "--output", "json"))["totals"]["calls"] == 9
        assert (await told("--calls", "--tool", "search", "--limit", "2")).count("search") == 2
