"""An `http` node with several requests: each is a call of its own, made once, under the rules of a single one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tenuto import App
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.requests import Replay
from tenuto.wiring import running
from tests.acceptance.features.harness import seen
from tests.integration.optimizers.loopback import Api, api

RETRY = {"attempts": 3, "backoff_s": 0.001}
LONG_S = 15


def document(url: str, requests: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    config = {"requests": [{**one, "url": url + one["url"]} for one in requests], **fields.pop("config", {})}
    return {"name": "w", "nodes": [{"id": "all", "kind": "http", "config": config, **fields}]}


async def ran(engine: Engine, body: dict[str, Any], value: Any = None) -> Any:
    await engine.workflows.publish(body)
    run = await engine.runs.start(body["name"], value)
    return await engine.runs.result(run.id, timeout_s=LONG_S)


async def run_once(server: Api, requests: list[dict[str, Any]], value: Any = None, **fields: Any) -> Any:
    async with running("memory:", App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
        return await ran(runtime.engine, document(server.url, requests, **fields), value)


async def test_each_answer_is_what_a_node_with_that_request_would_have_given() -> None:
    async with api() as server, running("memory:", App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
        post = {"url": f"{server.url}/post", "method": "POST", "body": {"x": 1}, "headers": {"x-own": "1"}, "query": {"q": "2"}}
        single = (await ran(runtime.engine, {"name": "s", "nodes": [{"id": "p", "kind": "http", "config": post}]})).output["p"]
        view = await ran(runtime.engine, document("", [{"id": "p", **post}, {"id": "g", "url": f"{server.url}/get"}]))
        both = view.output["all"]
    assert list(both) == ["p", "g"]
    untimed = {key: value for key, value in both["p"].items() if key != "duration_ms"}
    assert untimed == {key: value for key, value in single.items() if key != "duration_ms"}
    assert server.count() == {"POST /post?q=2": 2, "GET /get": 1}
    keys = [headers["idempotency-key"] for headers in server.headers["POST /post?q=2"]]
    assert len(set(keys)) == 2
    assert server.headers["POST /post?q=2"][1]["x-own"] == "1"


async def test_a_later_request_reads_an_earlier_ones_answer() -> None:
    async with api() as server:
        view = await run_once(server, [
            {"id": "last", "url": "${requests.first.body.path}/${input.x}"},
            {"id": "first", "url": "/one"},
        ], {"x": "two"})  # fmt: skip
    assert server.asked == ["GET /one", "GET /one/two"]
    assert view.output["all"]["last"]["body"]["path"] == "/one/two"


async def test_requests_that_wait_for_nothing_go_at_the_same_time() -> None:
    async with api() as server:
        server.together = asyncio.Barrier(3)
        view = await run_once(server, [{"id": name, "url": f"/{name}"} for name in "abc"])
    assert (view.status, server.most) == ("completed", 3)


async def test_after_keeps_an_order_that_no_data_asks_for() -> None:
    async with api() as server:
        await run_once(server, [{"id": name, "url": f"/{name}", "after": after} for name, after in (("c", ["b"]), ("b", ["a"]), ("a", []))])
    assert server.asked == ["GET /a", "GET /b", "GET /c"]
    assert (server.most, server.connections) == (1, 1)


async def test_one_result_stands_for_the_node() -> None:
    async with api() as server:
        view = await run_once(server, [{"id": "a", "url": "/a"}, {"id": "b", "url": "/b", "after": ["a"]}], config={"result": "b"})
    assert view.output["all"]["body"]["path"] == "/b"


async def test_another_attempt_makes_only_what_did_not_succeed() -> None:
    async with api() as server:
        server.failing["/b"] = 2
        requests = [{"id": "a", "url": "/a"}, {"id": "b", "url": "/b", "after": ["a"]}, {"id": "c", "url": "/c", "after": ["b"]}]
        view = await run_once(server, requests, retry=RETRY)
    assert view.status == "completed"
    assert server.count() == {"GET /a": 1, "GET /b": 3, "GET /c": 1}


async def test_a_failure_lets_those_under_way_end_and_names_the_request() -> None:
    async with api() as server:
        server.status["/bad"] = 404
        server.held = {"/slow"}
        requests = [{"id": "bad", "url": "/bad"}, {"id": "slow", "url": "/slow"}, {"id": "never", "url": "/never", "after": ["bad"]}]
        running_ = asyncio.ensure_future(run_once(server, requests, retry=RETRY))
        await asyncio.wait_for(server.reached.wait(), LONG_S)
        server.go.set()
        view = await running_
    assert (view.status, view.error.code) == ("failed", "http.status")
    assert f"{server.url}/bad answered 404" in view.error.message
    assert server.count() == {"GET /bad": 1, "GET /slow": 1}


async def test_a_time_limit_of_its_own_ends_one_request() -> None:
    async with api() as server:
        server.held = {"/slow"}
        view = await run_once(server, [{"id": "a", "url": "/a"}, {"id": "slow", "url": "/slow", "timeout_s": 0.05}])
    assert (view.status, view.error.code) == ("failed", "http.failed")
    assert "no whole answer within 0.05 s" in view.error.message


async def test_each_request_is_guarded() -> None:
    async with api() as server:
        view = await run_once(server, [{"id": "a", "url": "/a"}, {"id": "in", "url": "/in", "allow": ["api.example"]}])
        assert (view.error.code, "may only call api.example" in view.error.message) == ("http.refused", True)
        async with running("memory:", App("t").catalog()) as runtime:
            view = await ran(runtime.engine, document(server.url, [{"id": "a", "url": "/a"}]))
    assert view.status == "failed"
    assert "127.0.0.1" in view.error.message
    assert server.count() == {"GET /a": 1}


async def test_an_unknown_outcome_of_one_is_asked_about_and_the_others_are_not_made_again() -> None:
    async with api() as server, running("memory:", App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
        engine = runtime.engine
        server.held = {"/pay"}
        await engine.workflows.publish(document(server.url, [
            {"id": "look", "url": "/look"},
            {"id": "pay", "url": "/pay", "method": "POST", "after": ["look"], "timeout_s": 0.05},
            {"id": "tell", "url": "/tell/${requests.pay.body.receipt}"},
        ]))  # fmt: skip
        run = (await engine.runs.start("w", None)).id
        opened = await seen(engine, run, "ticket.opened")
        assert opened.data["kind"] == "unknown_outcome"
        await engine.tickets.decide(opened.data["ticket"], "succeeded", data={"body": {"receipt": 7}}, by="ann")
        view = await engine.runs.result(run, timeout_s=LONG_S)
    assert view.status == "completed", view.error
    assert server.count() == {"GET /look": 1, "POST /pay": 1, "GET /tell/7": 1}


async def test_a_restart_in_the_middle_repeats_no_request_that_was_answered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    async with api() as server:
        server.held = {"/b"}
        async with running(url, App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
            await runtime.engine.workflows.publish(
                document(server.url, [{"id": "a", "url": "/a"}, {"id": "b", "url": "/b?n=${requests.a.body.n}"}], effect="idempotent")
            )
            server.held = {"/b?n=2"}
            run = (await runtime.engine.runs.start("w", None)).id
            await asyncio.wait_for(server.reached.wait(), LONG_S)
            await runtime.close(grace_s=0)
        server.go.set()
        async with running(url, App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
            view = await runtime.engine.runs.result(run, timeout_s=LONG_S)
    assert view.status == "completed", view.error
    assert server.count() == {"GET /a": 1, "GET /b?n=2": 2}


async def test_a_replay_makes_every_request_again() -> None:
    async with api() as server, running("memory:", App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
        view = await ran(runtime.engine, document(server.url, [{"id": "a", "url": "/a"}, {"id": "b", "url": "/b"}]))
        again = await runtime.engine.runs.replay(view.id, Replay(from_step=0))
        await runtime.engine.runs.result(again.id, timeout_s=LONG_S)
    assert server.count() == {"GET /a": 2, "GET /b": 2}


async def test_a_kept_result_goes_by_all_requests_and_by_what_reads_what() -> None:
    """The second run reads the same, so nothing is asked; the third reads another part of the first answer."""
    async with api() as server, running("memory:", App("t").catalog(), http_allow=["127.0.0.1"]) as runtime:
        outputs: list[Any] = []
        for part in ("n", "n", "method"):
            requests = [{"id": "a", "url": f"{server.url}/a"}, {"id": "b", "url": f"{server.url}/b/${{requests.a.body.{part}}}"}]
            fields = {"effect": "pure", "cache": "read_through"}
            outputs.append((await ran(runtime.engine, document("", requests, **fields))).output)
    assert outputs[0] == outputs[1] != outputs[2]
    assert server.count() == {"GET /a": 2, "GET /b/2": 1, "GET /b/GET": 1}
