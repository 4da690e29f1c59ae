"""`tenuto mcp`: an MCP client lists and starts workflows, watches runs and answers tickets, with its own rights."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tenuto import App
from tenuto.api.server import serve
from tenuto.mcp_server import make_server
from tenuto.settings import Settings
from tests.integration.mcp.server import Ledger, listening, serving

TOKEN = "token-of-this-test"


def desk() -> App:
    app = App("t")

    @app.step
    async def double(n: int) -> int:
        return 2 * n

    app.workflow("double").input_schema(
        {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    ).step(double)
    app.workflow("ask").approval("ok", message="Shall we?")
    app.workflow("hear").wait_signal("news")
    return app


@asynccontextmanager
async def tenuto(tmp_path: Path, app: App | None = None) -> AsyncIterator[str]:
    """Serve an app's API on loopback and yield its address."""
    settings = Settings(port=0, data_dir=str(tmp_path), token=TOKEN)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with (app or desk()).engine("memory:") as engine:
        with open(os.devnull, "w") as out:
            task = asyncio.create_task(serve(engine, settings, stop=stop, ready=ready.set_result, out=out))
            try:
                yield await ready
            finally:
                stop.set()
                await task


async def asked(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(getattr(result.content[0], "text", ""))


async def test_a_client_runs_workflows_and_answers_for_people(tmp_path: Path):
    async with tenuto(tmp_path) as url, Client(make_server(url, TOKEN)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {
            "list_workflows", "get_workflow", "start_run", "get_run", "wait_run", "list_runs", "run_events", "cancel_run",
            "signal_run", "list_tickets", "decide_ticket", "why",
        }
        assert {item["name"] for item in (await asked(client, "list_workflows"))["items"]} == {"double", "ask", "hear"}
        assert "n" in str((await asked(client, "get_workflow", name="double"))["definition"]["input_schema"])

        run = (await asked(client, "start_run", workflow="double", input={"n": 21}, idempotency_key="once"))["id"]
        assert (await asked(client, "start_run", workflow="double", input={"n": 21}, idempotency_key="once"))["id"] == run
        ended = await asked(client, "wait_run", run=run)
        assert (ended["status"], ended["output"]) == ("completed", {"double": 42})
        kinds = [event["type"] for event in (await asked(client, "run_events", run=run))["items"]]
        assert kinds[-1] == "run.completed"
        assert [item["id"] for item in (await asked(client, "list_runs", workflow="double"))["items"]] == [run]

        run = (await asked(client, "start_run", workflow="ask"))["id"]
        while not (tickets := (await asked(client, "list_tickets"))["items"]):
            await asked(client, "wait_run", run=run, seconds=0.1)
        assert "ticket" in str(await asked(client, "why", run=run)).lower()
        await asked(client, "decide_ticket", ticket=tickets[0]["id"], decision="approve", reason="why not")
        assert (await asked(client, "wait_run", run=run))["status"] == "completed"

        run = (await asked(client, "start_run", workflow="hear"))["id"]
        await asked(client, "signal_run", run=run, name="news", data={"good": True})
        assert (await asked(client, "wait_run", run=run))["output"]["news"]["payload"] == {"good": True}
        run = (await asked(client, "start_run", workflow="hear"))["id"]
        await asked(client, "cancel_run", run=run, reason="enough")
        assert (await asked(client, "wait_run", run=run))["status"] == "cancelled"


async def test_refusals_say_what_to_do(tmp_path: Path):
    async with tenuto(tmp_path) as url:
        async with Client(make_server(url, TOKEN)) as client:
            assert "double" in await refused(client, "start_run", workflow="doubel")
            told = await refused(client, "start_run", workflow="double", input={"n": "x"})
            assert "/input/n" in told or "/n" in told
            assert "there is no run" in await refused(client, "get_run", run="nonesuch")
        async with Client(make_server(url, "")) as client:
            assert "TENUTO_TOKEN" in await refused(client, "list_runs")
    async with Client(make_server(url, TOKEN)) as client:
        assert "does not answer" in await refused(client, "list_runs")


async def test_over_http_each_caller_has_the_rights_of_its_own_token(tmp_path: Path):
    async with tenuto(tmp_path) as url, listening(make_server(url, TOKEN).streamable_http_app()) as port:
        for token, works in ((TOKEN, True), ("somebody-elses-token", False), ("", False)):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            async with httpx2.AsyncClient(headers=headers) as http:
                transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
                async with Client(transport) as client:
                    if works:
                        assert (await asked(client, "list_workflows"))["items"]
                    else:
                        assert "token" in (await refused(client, "list_workflows")).lower()


async def test_the_command_serves_one_caller_over_stdio(tmp_path: Path):
    async with tenuto(tmp_path) as url:
        command = StdioServerParameters(
            command=sys.executable, args=["-m", "tenuto", "mcp", "--api-url", url],
            env={"TENUTO_TOKEN": TOKEN, "TENUTO_HOME": str(tmp_path)},
        )
        async with Client(command) as client:
            run = (await asked(client, "start_run", workflow="double", input={"n": 4}))["id"]
            assert (await asked(client, "wait_run", run=run))["output"] == {"double": 8}


async def test_a_server_that_is_away_is_shown_with_the_reason_and_looked_at_again_when_asked(tmp_path: Path):
    async with serving(Ledger()) as port:
        kept = port
    app = desk()
    app.mcp("ours", url=f"http://127.0.0.1:{kept}/mcp")

    async def outside(http: httpx2.AsyncClient, method: str, path: str) -> dict[str, Any]:
        items = (await http.request(method, path)).json()["items"]
        return next(item for item in items if item["category"] == "mcp")

    async with (
        tenuto(tmp_path, app) as url,
        httpx2.AsyncClient(base_url=url + "/api/v1", headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as http,
    ):
        away = await outside(http, "POST", "/services/refresh")
        assert (away["name"], away["status"]) == ("ours", "offline")
        assert "cannot connect" in away["details"]["reason"]
        assert away["details"]["checked_at"] >= away["details"]["since"] > 0
        async with serving(Ledger(), kept):
            while (back := await outside(http, "POST", "/services/refresh"))["status"] != "online":
                pass
            assert "ours.add" in back["details"]["tools"]
            assert (await outside(http, "GET", "/services"))["status"] == "online"
