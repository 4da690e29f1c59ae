"""BUD12: starts of runs are limited by the weight of the workflow, exactly, over every server of a store."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.acceptance.features.harness import ended, served
from tests.acceptance.features.programs import Place

from tenuto import App

RATES = {"simple": 100, "standard": 20, "heavy": 5}


def workflow(agents: int, name: str = "w") -> dict[str, Any]:
    """Return a workflow with so many agents, none of which is asked."""
    nodes: list[dict[str, Any]] = [{"id": "s", "kind": "switch"}, {"id": "end", "kind": "join"}]
    nodes += [{"id": f"a{n}", "kind": "agent", "config": {"pattern": "pipeline", "prompt": "hi"}} for n in range(agents)]
    edges: list[dict[str, Any]] = [{"from": "s", "to": "end"}]
    edges += [{"from": "s", "to": f"a{n}", "when": "input.go"} for n in range(agents)]
    return {"name": name, "nodes": nodes, "edges": edges}


def body(agents: int, **more: Any) -> dict[str, Any]:
    """Return a request that starts one."""
    return {"definition": workflow(agents), "input": {"go": False}, **more}


@pytest.mark.parametrize(("agents", "tier"), [(0, "simple"), (2, "standard"), (3, "heavy")])
async def test_BUD12_the_weight_decides_and_the_refusal_says_everything(tmp_path: Path, sqlite_url: str, agents: int, tier: str):
    limit = RATES[tier]
    async with served(App("w"), sqlite_url, tmp_path) as (engine, client):
        answers = await asyncio.gather(*(client.post("/runs", json=body(agents)) for _ in range(limit + 7)))
        assert Counter(answer.status_code for answer in answers) == {202: limit, 429: 7}
        full = next(answer for answer in answers if answer.status_code == 429)
        told = full.json()
        assert (told["code"], told["tier"], told["limit"], told["count"], told["retryable"]) == ("limit.starts", tier, limit, limit, True)
        assert 1 <= told["retry_after_seconds"] <= 60
        assert full.headers["retry-after"] == str(told["retry_after_seconds"])
        for word in (tier, str(limit), "60 s"):
            assert word in told["title"]
        assert len((await engine.runs.list(limit=200)).items) == limit
        other = body(0 if agents else 1)
        assert (await client.post("/runs", json=other)).status_code == 202, "another tier has a window of its own"


async def test_BUD12_repeats_and_refused_requests_do_not_count(tmp_path: Path, sqlite_url: str):
    async with served(App("w"), sqlite_url, tmp_path) as (engine, client):
        for _ in range(8):  # what starts nothing takes no place
            assert (await client.post("/runs", json={**body(3), "priority": "now"})).status_code == 422
            assert (await client.post("/runs", json={**body(3), "workflow": "nobody"})).status_code == 422
        keyed = {"Idempotency-Key": "one"}
        later = body(3, start_at="2099-01-01T00:00:00Z", business_key="order")
        first = await client.post("/runs", json=body(3), headers=keyed)
        unfinished = await client.post("/runs", json=later)
        assert (first.status_code, unfinished.status_code) == (202, 202)
        for _ in range(9):
            assert (await client.post("/runs", json=body(3), headers=keyed)).json()["id"] == first.json()["id"]
            assert (await client.post("/runs", json=later)).json()["id"] == unfinished.json()["id"]
        assert (await client.post("/runs", json=body(3, goal="other"), headers=keyed)).status_code == 409
        assert [(await client.post("/runs", json=body(3))).status_code for _ in range(4)] == [202, 202, 202, 429]
        # and a repeat is answered although the window is full
        assert (await client.post("/runs", json=body(3), headers=keyed)).status_code in (200, 202)
        assert (await client.post("/runs", json=later)).json()["id"] == unfinished.json()["id"]
        assert len((await engine.runs.list(limit=100)).items) == 5


async def test_BUD12_repeats_at_the_same_time_count_once(tmp_path: Path, sqlite_url: str):
    async with served(App("w"), sqlite_url, tmp_path) as (_, client):
        same = [client.post("/runs", json=body(3), headers={"Idempotency-Key": "one"}) for _ in range(5)]
        answers = await asyncio.gather(*same)
        assert len({answer.json()["id"] for answer in answers}) == 1
        codes = [(await client.post("/runs", json=body(3))).status_code for _ in range(5)]
        assert codes == [202] * 4 + [429]


async def test_BUD12_a_replay_is_a_start(tmp_path: Path, sqlite_url: str):
    async with served(App("w"), sqlite_url, tmp_path) as (engine, client):
        run = (await client.post("/runs", json=body(3))).json()["id"]
        await ended(engine, run)
        key = {"Idempotency-Key": "again"}
        replays = [await client.post(f"/runs/{run}/replay", json={}, headers=key) for _ in range(7)]
        assert len({answer.json()["id"] for answer in replays}) == 1
        assert [(await client.post(f"/runs/{run}/replay", json={})).status_code for _ in range(4)] == [202, 202, 202, 429]


async def test_BUD12_children_and_programs_are_not_limited(tmp_path: Path, sqlite_url: str):
    items = list(range(8))
    child = {"nodes": [{"id": "c", "kind": "subflow", "input": {"go": False}, "config": {"workflow": "child"}}]}
    parent = {"name": "parent", "nodes": [{"id": "m", "kind": "map", "config": {"over": items, "body": child}}]}
    async with served(App("w"), sqlite_url, tmp_path) as (engine, client):
        await engine.workflows.publish(workflow(3, "child"))
        run = (await client.post("/runs", json={"definition": parent})).json()["id"]
        assert (await ended(engine, run)).status == "completed"
        for _ in items:
            await engine.runs.start(workflow(3), {"go": False})
        assert (await client.post("/runs", json=body(3))).status_code == 202


def test_BUD12_two_servers_of_one_store_share_the_window(tmp_path: Path, both_url: str):
    """Two processes asked at once by sixteen clients start exactly as many as the limit; another setting is heeded."""
    with Place(tmp_path, both_url) as place:
        env = {"TENUTO_START_RATES": '{"simple": 0, "standard": 7}'}
        clients = [place.client(place.serve("--workers", "0", env=env)) for _ in range(2)]
        together = threading.Barrier(16)

        def storm(number: int) -> list[httpx.Response]:
            together.wait()
            return [clients[number % 2].post("/runs", json=body(agents)) for agents in (3, 1, 3, 1, 0, 0)]

        with ThreadPoolExecutor(16) as pool:
            answers = [answer for part in pool.map(storm, range(16)) for answer in part]
        assert Counter((tier_in(answer), answer.status_code) for answer in answers) == {
            ("", 202): 5 + 7 + 32, ("heavy", 429): 32 - 5, ("standard", 429): 32 - 7,
        }  # fmt: skip


def tier_in(answer: httpx.Response) -> str:
    """Return the tier a refusal names."""
    return str(answer.json().get("tier", ""))
