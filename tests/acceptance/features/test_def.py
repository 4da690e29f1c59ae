"""Definition: what people may write, what is refused, and what each kind of node does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from features.harness import ended, events, listening, ran, served, statuses, steps, types
from tenuto import App, Context
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.errors import InvalidGraph, InvalidInput
from tenuto.ports.model import ModelReply
from tenuto.runtime.services.requests import ListRuns, StartRun

BAD: dict[str, Any] = {
    "name": "bad",
    "nodes": [
        {"id": "a", "type": "transform", "config": {"value": "1"}},
        {"id": "b", "type": "transfrom", "config": {"value": "1"}},
        {"id": "c", "type": "transform", "config": {"value": "1 +"}},
        {"id": "d", "type": "transform", "config": {"value": "1"}},
        {"id": "e", "type": "transform", "config": {"value": "1"}},
    ],
    "edges": [
        {"from": "a", "to": "b"}, {"from": "a", "to": "b"}, {"from": "a", "to": "zz"},
        {"from": "d", "to": "e"}, {"from": "e", "to": "d"},
    ],
}


def value(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": "transform", "config": {"value": text}, **more}


def flow(nodes: list[Any], edges: list[Any] = [], **top: Any) -> dict[str, Any]:  # noqa: B006 (never changed)
    arrows = [{"from": e[0], "to": e[1], **(e[2] if len(e) > 2 else {})} if isinstance(e, tuple) else e for e in edges]
    return {"name": "w", "nodes": nodes, "edges": arrows, **top}


async def of(document: dict[str, Any], given: Any = None, app: App | None = None, url: str = "memory:") -> Any:
    """Run a document to its end on an engine of its own."""
    async with (app or App("t")).engine(url) as engine:
        await engine.workflows.publish(document)
        return await ran(engine, document["name"], given)


async def test_def01_a_chain_builds_a_graph(sqlite_url: str):
    app = App("t")

    @app.step
    async def a() -> int:
        return 1

    @app.step
    async def b(value: int) -> int:
        return value + 1

    built = (
        app.workflow("w").node("one", a).node("two", b, input={"value": "${nodes.one.output}"})
        .edge("one", "two", when="output > 0").budget(tokens=10, tool_calls=1, wall_clock_s=60)
    ).build()  # fmt: skip
    assert [node.id for node in built.nodes] == ["one", "two"]
    async with app.engine(sqlite_url) as engine:
        assert (await ran(engine, "w")).output == {"two": 2}


def test_def01_register_lists_every_problem_at_once():
    with pytest.raises(InvalidGraph) as caught:
        App("t").register(BAD)
    places = {problem.place: problem.message for problem in caught.value.problems}
    text = str(places)
    for part in ("transform", "'zz'", "already", "d -> e -> d", "1 +", "cannot be reached"):
        assert part in text, (part, text)
    assert len(places) >= 5
    assert all(place.startswith("/") for place in places)


def test_def01_an_empty_graph_and_one_without_entry_are_refused():
    for document, told in ((flow([]), "no nodes"), (flow([value("a", "1"), value("b", "1")], [("a", "b"), ("b", "a")]), "a -> b -> a")):
        with pytest.raises(InvalidGraph) as caught:
            App("t").register(document)
        assert told in str(caught.value.problems)


async def test_def02_a_file_is_validated_without_running(tmp_path: Path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({
        "nodes": [
            {"id": "fetch", "type": "transform", "config": {"value": "1"}, "timeout_ms": 500,
             "retry": {"max_attempts": 3, "backoff_ms": 1000, "backoff_multiplier": 2}},
            {"id": "use", "type": "transform", "config": {"value": "nodes.fetch.output"}},
        ],
        "edges": [{"from": "fetch", "to": "use", "condition": "output == 1"}],
        "metadata": {"name": "from-file", "description": "d", "version": "1.0", "tags": ["x"]},
    }))  # fmt: skip
    bad.write_text(json.dumps(BAD))
    async with listening(App("t"), "memory:", tmp_path / "home") as (engine, command):
        done = await command("workflow", "validate", str(good))
        assert done.returncode == 0, done.stdout + done.stderr
        refused = await command("workflow", "validate", str(bad))
        assert refused.returncode in (1, 2), refused.stdout + refused.stderr
        told = refused.stdout + refused.stderr
        for part in ("/nodes/1", "zz", "d -> e -> d"):
            assert part in told, told
        assert (await engine.runs.list()).items == []
        assert (await engine.workflows.list()).items == []


async def test_def03_a_bad_step_list_creates_nothing(tmp_path: Path):
    """Invalid, not malformed: 422 like any other definition, with every problem at its place at once."""
    body = {"goal": "g", "steps": [
        {"name": "noop.a", "dependsOn": ["noop.c"]}, {"name": "noop.a"}, {"name": "noop.b", "dependsOn": ["noop.bb", "zz"]},
        {"name": "noop.c", "dependsOn": ["noop.a"]},
    ]}  # fmt: skip
    async with served(stepper(), "memory:", tmp_path) as (engine, client):
        answer = await client.post("/runs", json=body)
        assert answer.status_code == 422, answer.text
        found = {item["place"]: item for item in answer.json()["errors"]}
        assert set(found) == {"/steps/0", "/steps/1/name", "/steps/2/dependsOn/0", "/steps/2/dependsOn/1"}
        assert "noop.a -> noop.c -> noop.a" in found["/steps/0"]["message"] or "noop.c -> noop.a" in found["/steps/0"]["message"]
        assert "'noop.a' is already used" in found["/steps/1/name"]["message"]
        assert found["/steps/2/dependsOn/0"]["hint"] == "did you mean 'noop.b'?"
        assert (await engine.runs.list()).items == []
        malformed = await client.post("/runs", content=b"{", headers={"Content-Type": "application/json"})
        assert malformed.status_code == 400


def stepper() -> App:
    """Return an app of somebody's own: a step, a step for a family of names, a tool."""
    app = App("own")

    @app.step
    async def charge(ctx: Context, value: dict[str, Any]) -> Any:
        return {"name": ctx.name, "amount": value["amount"]}

    @app.step(name="mail.*")
    async def mail(ctx: Context, value: Any) -> Any:
        return {"name": ctx.name, "got": value}

    @app.tool(effect="pure")
    def look_up(text: str) -> str:
        """Look something up."""
        return text.upper()

    app.step(name="noop")(noop_)
    return app


async def noop_(value: Any = None) -> Any:
    return {"ok": True}


async def test_def03_a_step_lists_names_find_an_apps_own_steps_and_tools(tmp_path: Path):
    body = {"goal": "sell", "steps": [
        {"name": "look_up.price", "input": {"text": "abc"}},
        {"name": "charge.card", "input": {"amount": 3}, "dependsOn": ["look_up.price"]},
        {"name": "mail.anna@example.com", "dependsOn": ["charge.card"]},
    ]}  # fmt: skip
    async with served(stepper(), "memory:", tmp_path) as (_, client):
        started = await client.post("/runs", json=body)
        assert started.status_code == 202, started.text
        run = (await client.get(f"/runs/{started.json()['id']}?wait=20")).json()
    outputs = {step["name"]: step["output"] for step in run["steps"]}
    assert outputs == {
        "look_up.price": "ABC",
        "charge.card": {"name": "charge.card", "amount": 3},
        "mail.anna@example.com": {
            "name": "mail.anna@example.com", "got": {"charge_card": {"name": "charge.card", "amount": 3}},
        },
    }


async def test_def03_a_name_that_nothing_serves_is_refused_with_the_nearest(tmp_path: Path):
    app = App("own")

    @app.step
    async def charge(value: Any) -> Any:
        return value

    async with served(app, "memory:", tmp_path) as (engine, client):
        answer = await client.post("/runs", json={"steps": [{"name": "chrage.card"}, {"name": "charge.card"}, {"name": "noop"}]})
        assert answer.status_code == 422
        near, none = answer.json()["errors"]
        assert (near["place"], near["hint"]) == ("/steps/0/name", "did you mean 'charge'?")
        assert "no step or tool serves 'chrage.card'" in near["message"]
        assert (none["place"], none["hint"]) == ("/steps/2/name", "there are charge")
        assert (await engine.runs.list()).items == []


async def test_def03_steps_are_shown_and_addressed_by_their_own_names(tmp_path: Path, sqlite_url: str):
    app, broken = stepper(), [True]

    @app.step(name="press.*")
    async def press(value: Any) -> Any:
        if broken[0]:
            raise RuntimeError("jammed")
        return value

    body = {"steps": [{"name": "charge.card", "input": {"amount": 3}},
                      {"name": "press.cover page", "input": 1, "dependsOn": ["charge.card"]},
                      {"name": "mail.out", "dependsOn": ["press.cover page"]}]}  # fmt: skip
    async with listening(app, sqlite_url, tmp_path) as (engine, command):
        started = await engine.runs.submit(StartRun(steps=body["steps"]))
        view = await ended(engine, started.id)
        assert view.status == "failed"
        assert {step.id: step.name for step in view.steps} == {
            "charge_card": "charge.card", "press_cover_page": "press.cover page", "mail_out": "mail.out",
        }
        told = {event.name for event in await events(engine, view.id)}
        assert {"charge.card", "press.cover page"} <= told
        why = await engine.runs.why(view.id)
        assert why.waits[0].title == "press.cover page"
        assert "press.cover page" in why.summary
        for words in (["run", "status"], ["run", "why"], ["run", "graph"], ["run", "events"], ["run", "steps"]):
            done = await command(*words, view.id)
            assert "press.cover page" in done.stdout, words
            assert "press_cover_page" not in done.stdout, words
        logged = await command("logs", "stream", view.id, "--node", "press.cover page")
        assert "jammed" in logged.stdout
        assert "charge" not in logged.stdout
        broken[0] = False
        assert (await command("run", "retry", view.id, "press.cover page")).returncode == 0
        assert (await ended(engine, view.id)).status == "completed"
        again = await command("replay", view.id, "--from", "press.cover page", "--wait")
        assert again.returncode == 0, again.stderr


async def test_def03_a_step_list_runs_by_prefix(tmp_path: Path):
    app = App("t")

    @app.step(name="tool_call.*")
    async def tool_call(ctx: Context, value: dict[str, Any]) -> Any:
        return {"node": ctx.node, "got": value}

    @app.step(name="noop")
    async def noop(value: Any = None) -> Any:
        return {"ok": True}

    async with served(app, "memory:", tmp_path) as (_, client):
        body = {"goal": "ship", "steps": [
            {"name": "tool_call.pay", "input": {"x": 1}, "dependsOn": []}, {"name": "tell", "dependsOn": ["tool_call.pay"]},
        ]}  # fmt: skip
        started = await client.post("/runs", json=body)
        assert started.status_code == 202, started.text
        run = (await client.get(f"/runs/{started.json()['id']}?wait=20")).json()
    assert run["status"] == "completed", run
    assert run["steps"][0]["output"]["got"] == {"x": 1}
    assert [step["status"] for step in run["steps"]] == ["completed", "completed"]


async def test_def04_the_shape_of_a_graph_can_be_read(tmp_path: Path):
    app = App("t")
    document = flow([value("a", "1"), value("b", "1"), value("c", "1")], [("a", "b", {"when": "output > 1"}), ("a", "c")],
                    budget={"tokens": 5, "tools": 2, "perTool": {"x": 1}, "wallClockSec": 9})  # fmt: skip
    async with served(app, "memory:", tmp_path) as (_, client):
        assert (await client.post("/workflows", json=document)).status_code == 201
        listed = (await client.get("/workflows")).json()["items"]
        assert [item["name"] for item in listed] == ["w"]
        shown = (await client.get("/workflows/w")).json()
    graph = shown["graph"]
    assert [node["id"] for node in graph["nodes"]] == ["a", "b", "c"]
    assert [(edge["from"], edge["to"], edge["conditional"]) for edge in graph["edges"]] == [("a", "b", True), ("a", "c", False)]
    assert graph["budget"] == {"tokens": 5, "tool_calls": 2, "per_tool": {"x": 1}, "wall_clock_s": 9}


@pytest.mark.parametrize(("n", "taken"), [(9, {"high", "odd"}), (8, {"high"}), (3, {"odd"}), (2, {"rest"})])
async def test_def05_only_true_edges_are_followed_and_else_the_default(n: int, taken: set[str]):
    document = flow(
        [value("a", "input.n"), value("high", "1"), value("odd", "1"), value("rest", "1"), value("end", "1")],
        [("a", "high", {"when": "output > 5"}), ("a", "odd", {"when": "output % 2 == 1"}), ("a", "rest", {"on": "default"}),
         ("high", "end"), ("odd", "end"), ("rest", "end")],
    )  # fmt: skip
    view = await of(document, {"n": n})
    found = statuses(view)
    assert {name for name in ("high", "odd", "rest") if found[name] == "completed"} == taken
    assert {found[name] for name in {"high", "odd", "rest"} - taken} == {"skipped"}
    assert found["end"] == "completed"


async def test_def05_a_condition_that_errs_fails_its_node():
    view = await of(flow([value("a", "{'x': 1}"), value("b", "1")], [("a", "b", {"when": "output.nope > 1"})]))
    assert view.status == "failed"
    assert view.error is not None
    assert "a -> b" in view.error.message
    assert "nope" in view.error.message


LOOP = [
    value("start", "0"), value("body", "iteration"), value("out", "'left'"), value("limit", "'gave up'"),
]  # fmt: skip


@pytest.mark.parametrize(("until", "passes", "ends"), [(3, 3, "out"), (99, 5, "limit")])
async def test_def06_a_loop_breaks_or_meets_its_limit(until: int, passes: int, ends: str):
    document = flow(LOOP, [
        ("start", "body"), ("body", "body", {"when": "output < input.until", "max_iterations": 5}),
        ("body", "out", {"when": "output >= input.until"}), ("body", "limit", {"on": "limit"}),
    ])  # fmt: skip
    view = await of(document, {"until": until})
    assert view.status == "completed", view.error
    assert [step.iteration for step in view.steps if step.node == "body"] == list(range(1, passes + 1))
    assert list(view.output) == [ends]
    assert statuses(view)["out" if ends == "limit" else "limit"] == "skipped"


async def test_def06_a_loop_without_a_way_out_at_its_limit_fails():
    document = flow([value("h", "1"), value("z", "1")], [
        ("h", "h", {"when": "true", "max_iterations": 2}), ("h", "z", {"when": "false"}),
    ])  # fmt: skip
    view = await of(document)
    assert (view.status, view.error and view.error.code) == ("failed", "loop.limit")


async def test_def06_the_references_spelling_of_a_loop_is_understood():
    document = {
        "name": "w",
        "nodes": [
            {"id": "work", "type": "transform", "config": {"value": "iteration"}},
            {"id": "again", "type": "loop", "config": {
                "max_iterations": 3, "loop_back_to": "work", "condition": "output < 2", "break_path": ["done"],
                "timeout_path": ["late"],
            }},
            {"id": "done", "type": "transform", "config": {"value": "'done'"}},
            {"id": "late", "type": "transform", "config": {"value": "'late'"}},
        ],
        "edges": [{"from": "work", "to": "again"}],
    }  # fmt: skip
    view = await of(document)
    assert view.status == "completed", view.error
    assert list(view.output) == ["done"]
    assert [step.iteration for step in view.steps if step.node == "work"] == [1, 2]


async def test_def07_branches_overlap_and_the_join_runs_once(both_url: str):
    app = App("t")
    here: set[str] = set()
    both, joined = asyncio.Event(), []

    @app.step
    async def branch(ctx: Context) -> str:
        here.add(ctx.node)
        if len(here) == 3:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        return ctx.node

    @app.step
    async def join(value: dict[str, str]) -> list[str]:
        joined.append(value)
        return sorted(value.values())

    built = app.workflow("w")
    for name in "abc":
        built.step(branch, id=name)
    built.step(join, id="join", after=list("abc"))
    async with app.engine(both_url) as engine:
        view = await ran(engine, "w")
    assert view.output == {"join": ["a", "b", "c"]}
    assert len(joined) == 1


async def test_def08_the_references_names_of_kinds_are_accepted():
    app = App("t")
    document = {
        "name": "w",
        "nodes": [
            {"id": "p", "agent": "pipeline", "llm": "offline:echo", "config": {"prompt": "say"}},
            {"id": "ask", "type": "hitl", "config": {"message": "ok?", "timeout_hours": 24}},
            {"id": "fork", "type": "conditional"},
            {"id": "l", "type": "transform", "config": {"value": "'l'"}},
            {"id": "r", "type": "transform", "config": {"value": "'r'"}},
            {"id": "both", "type": "parallel"},
        ],
        "edges": [
            {"from": "p", "to": "ask"}, {"from": "ask", "to": "fork", "condition": "output.approved"},
            {"from": "fork", "to": "l", "condition": {"type": "cel", "expression": "true"}}, {"from": "fork", "to": "r"},
            {"from": "l", "to": "both"}, {"from": "r", "to": "both"},
        ],
    }  # fmt: skip
    async with app.engine("memory:") as engine:
        await engine.workflows.publish(document)
        graph = (await engine.workflows.get("w")).graph
        assert graph is not None
        assert [node.kind for node in graph.nodes] == ["agent", "approval", "switch", "transform", "transform", "join"]
        started = await engine.runs.start("w", {})
        async for event in engine.history.stream(started.id):
            if event.type == "ticket.opened":
                await engine.tickets.decide(event.data["ticket"], "approve", by="ann")
        view = await ended(engine, started.id)
    assert view.status == "completed", view.error
    found = statuses(view)
    assert (found["l"], found["r"], found["both"]) == ("completed", "skipped", "completed")


async def test_def08_every_kind_of_data_node_does_its_work():
    document = flow([
        {"id": "big", "kind": "filter", "config": {"over": "${input.xs}", "when": "item > 2"}},
        {"id": "sum", "kind": "aggregate", "config": {"over": "${nodes.big.output}", "op": "sum"}},
        {"id": "from10", "kind": "aggregate", "config": {"over": "${nodes.big.output}", "op": "sum", "initial": 10}},
        {"id": "names", "kind": "aggregate", "config": {"over": "${input.rows}", "op": "collect", "field": "name"}},
        {"id": "text", "kind": "transform", "config": {"template": "sum ${nodes.sum.output}"}},
    ], [("big", "sum"), ("big", "from10"), ("sum", "text")])  # fmt: skip
    view = await of(document, {"xs": [1, 2, 3, 4], "rows": [{"name": "x"}, {"name": "y"}]})
    assert view.status == "completed", view.error
    assert view.output == {"from10": 17, "names": ["x", "y"], "text": "sum 7"}


@pytest.mark.parametrize(
    ("op", "items", "initial", "result"),
    [
        ("sum", [], 5, 5), ("sum", [1, 2], 0.5, 3.5), ("count", [1, 2], 10, 12), ("min", [], 3, 3), ("min", [5, 4], 3, 3),
        ("max", [5, 4], 9, 9), ("avg", [], 7, 7), ("first", [], "none", "none"), ("first", ["a"], "none", "a"),
        ("last", [], 0, 0), ("collect", [2], [1], [1, 2]), ("concat", [[2]], [1], [1, 2]),
        ("merge", [{"b": 2}], {"a": 1, "b": 0}, {"a": 1, "b": 2}), ("unique", [1, 2], [1], [1, 2]),
    ],
)
async def test_def08_an_aggregate_begins_with_its_initial_value(op: str, items: list[Any], initial: Any, result: Any):
    document = flow([{"id": "a", "kind": "aggregate", "config": {"over": "${input}", "op": op, "initial": initial}}])
    view = await of(document, items)
    assert view.status == "completed", view.error
    assert view.output == {"a": result}


async def test_def08_an_initial_value_that_does_not_fit_is_a_clear_failure():
    document = flow([{"id": "a", "kind": "aggregate", "config": {"over": "${input}", "op": "sum", "initial": "x"}}])
    view = await of(document, [1])
    assert (view.status, view.error and view.error.code) == ("failed", "expression.failed")


async def test_def09_a_pipeline_asks_once_then_uses_its_tools_in_order():
    app, order = App("t"), []
    model = ScriptedModel()
    app.model("m:x", model)

    @app.tool(effect="idempotent")
    async def second(query: str) -> str:
        order.append(("second", len(model.requests)))
        return "2"

    @app.tool(effect="idempotent")
    async def first(query: str) -> str:
        order.append(("first", len(model.requests)))
        return "1"

    app.workflow("w").agent("p", model="m:x", prompt="about ${input.q}", tools=[first, second])
    app.workflow("bare").agent("p", "pipeline", tools=[first])
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w", {"q": "fuel"})
        assert (await ran(engine, "bare", {"query": "x"})).output["p"] == {"content": "", "tools": {"first": "1"}}
    assert view.output["p"]["tools"] == {"first": "1", "second": "2"}
    assert view.output["p"]["content"] == "offline:about fuel"
    assert order == [("first", 1), ("second", 1), ("first", 1)]


async def test_def10_a_supervisors_decision_is_visible_and_routes(sqlite_url: str):
    app = App("t")
    app.model("m:x", ScriptedModel(lambda request: ModelReply(content="", choice="billing")))
    built = app.workflow("w").agent("boss", "supervisor", model="m:x", prompt="who?")
    for name in ("billing", "support"):
        built.transform(name, value=f"nodes.boss.output.decision + ' by {name}'")
        built.edge("boss", name, when=f"output.decision == '{name}'")
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w")
    assert steps(view)["boss"].output["decision"] == "billing"
    assert view.output == {"billing": "billing by billing"}


async def test_def11_a_swarm_makes_n_passes_and_costs_as_much():
    app = App("t")
    model = ScriptedModel(lambda request: f"pass {request.seed}")
    app.model("m:x", model)
    app.workflow("one").agent("s", "pipeline", model="m:x", prompt="p" * 400)
    app.workflow("many").agent("s", "swarm", n=5, model="m:x", prompt="p" * 400)
    async with app.engine("memory:") as engine:
        one, many = await ran(engine, "one"), await ran(engine, "many")
    assert many.output["s"]["branches"] == [f"pass {i}" for i in range(5)]
    assert many.budget.spent["tokens"] == 5 * one.budget.spent["tokens"]
    assert len(model.requests) == 6


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("${nodes.a.output}", {"x": {"y": [1, 2]}}), ("$nodes.a", {"x": {"y": [1, 2]}}), ("${nodes.a.output.x.y[1]}", 2),
        ("$nodes.a.x.y", [1, 2]), ("y is ${$nodes.a.x.y}!", "y is [1,2]!"), ("${input.n} of ${nodes.a.output.x.y[0]}", "7 of 1"),
    ],
)  # fmt: skip
async def test_def12_outputs_are_referred_to(template: str, result: Any):
    document = flow([value("a", "{'x': {'y': [1, 2]}}"), {"id": "b", "kind": "transform", "config": {"template": template}}],
                    [("a", "b")])  # fmt: skip
    view = await of(document, {"n": 7})
    assert view.status == "completed", view.error
    assert view.output == {"b": result}


async def test_def12_a_missing_path_fails_the_node_and_is_named():
    view = await of(flow([value("a", "{'x': 1}"), {"id": "b", "kind": "transform", "config": {"template": "${nodes.a.output.nope}"}}], [("a", "b")]))
    assert view.status == "failed"
    assert view.error is not None
    assert "nope" in view.error.message
    assert steps(view)["b"].status == "dead_letter"
    with pytest.raises(InvalidGraph, match="valid"):
        App("t").register(flow([value("a", "1", input={"v": "${nodes.zz.output}"})]))


async def test_def14_an_unknown_kind_is_rejected_with_its_place(tmp_path: Path):
    async with served(App("t"), "memory:", tmp_path) as (_, client):
        document = flow([value("a", "1"), {"id": "b", "type": "transfrom", "config": {}}])
        answer = await client.post("/workflows", json=document)
        assert answer.status_code == 422
        problem = next(p for p in answer.json()["errors"] if "transfrom" in p["message"])
        assert problem["place"].startswith("/nodes/1/")
        assert "transform" in str(problem)
        assert (await client.get("/workflows")).json()["items"] == []


async def test_def15_a_model_may_choose_only_among_the_next_nodes():
    app = App("t")
    app.model("m:x", ScriptedModel(lambda request: ModelReply(choice="treasury")))
    built = app.workflow("w").agent("boss", "supervisor", model="m:x", prompt="who?")
    for name in ("billing", "support"):
        built.transform(name, value="1").edge("boss", name, when=f"output.decision == '{name}'")
    async with app.engine("memory:") as engine:
        view = await ran(engine, "w")
    assert view.status == "failed"
    assert view.error is not None
    assert "treasury" in view.error.message
    assert "billing, support" in view.error.message
    assert steps(view)["boss"].error.code == "agent.choice_refused"


async def test_def16_timeout_and_retry_of_a_node_are_honoured(both_url: str):
    app, tries = App("t"), []

    @app.step
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.step
    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return len(tries)

    async with app.engine(both_url) as engine:
        document = flow([
            {"id": "flaky", "type": "function", "config": {"handler": "flaky"}, "retry": {"max_attempts": 3, "backoff_ms": 1}},
            {"id": "slow", "type": "function", "config": {"handler": "slow"}, "timeout_ms": 20, "retry": {"max_attempts": 2, "backoff_ms": 1}},
        ])  # fmt: skip
        await engine.workflows.publish(document)
        view = await ran(engine, "w")
    found = steps(view)
    assert (found["flaky"].output, found["flaky"].attempt) == (3, 3)
    assert (found["slow"].status, found["slow"].attempt, found["slow"].error.code) == ("dead_letter", 2, "attempt.timeout")
    assert "0.02 s" in found["slow"].error.message


async def _items(policy: Any, bad: set[int], n: int = 20) -> tuple[Any, list[int]]:
    app, done = App("t"), []

    @app.step
    async def one(item: int) -> int:
        done.append(item)
        if item in bad:
            raise ValueError(f"bad {item}")
        return -item

    app.workflow("w").map("m", over="${input}", body=app.body().step(one, id="one", input={"item": "${item}"}),
                          on_failure=policy).transform("after", value="size(nodes.m.output)").edge("m", "after")  # fmt: skip
    async with app.engine("memory:") as engine:
        return await ran(engine, "w", list(range(n))), done


async def test_def17_ten_thousand_items_in_order_with_failures_collected(sqlite_url: str):
    app, done = App("t"), [0]

    @app.step
    async def one(item: int) -> int:
        done[0] += 1
        if item % 10 == 0:
            raise ValueError(f"bad {item}")
        return -item

    body = app.body().step(one, id="one", input={"item": "${item}"}).transform("two", value="nodes.one.output", after="one")
    app.workflow("w").map("m", over="${input.xs}", body=body,
                          on_failure="collect").transform("after", value="size(nodes.m.output)").edge("m", "after")  # fmt: skip
    async with app.engine(sqlite_url) as engine:
        started = await engine.runs.start("w", {"xs": list(range(10_000))})
        view = await engine.runs.result(started.id, timeout_s=60)
        state = (await engine.history.state(started.id)).state
        assert await types(engine, started.id)
    assert view.output == {"after": 10_000}
    assert done == [10_000]
    found = steps(view)["m"]
    assert found.items is not None
    assert (found.items.done, found.items.failed) == (10_000, 1_000)
    assert state


async def test_def17_fail_fast_stops_at_the_first_bad_item():
    view, _ = await _items("fail_fast", {3})
    assert view.status == "failed"
    assert steps(view)["m"].error.code == "map.item_failed"
    assert "item 3: bad 3" in view.error.message
    assert "after" not in statuses(view) or statuses(view)["after"] != "completed"


@pytest.mark.parametrize(("n", "ends"), [(1, "failed"), (2, "completed")])
async def test_def17_tolerate_lets_so_many_fail(n: int, ends: str):
    view, _ = await _items({"tolerate": n}, {3, 7})
    assert view.status == ends
    if ends == "completed":
        assert view.output == {"after": 20}
        out = steps(view)["m"].output
        assert [i for i, item in enumerate(out) if isinstance(item, dict)] == [3, 7]
        assert out[0:3] == [0, -1, -2]
        assert "bad 3" in str(out[3])


async def test_def17_collect_keeps_every_failure_and_runs_the_body_once_an_item():
    view, done = await _items("collect", set(range(20)))
    assert view.status == "completed"
    assert sorted(done) == list(range(20))
    assert all("error" in item for item in steps(view)["m"].output)


async def test_def18_a_predicate_routes_and_is_not_asked_again_by_a_replay(sqlite_url: str):
    app, asked = App("t"), []

    def large(output: dict[str, int]) -> bool:
        asked.append(output["n"])
        return output["n"] > 5

    app.workflow("w").transform("a", value="{'n': input.n}").transform("big", value="1").edge("a", "big", when=large)
    async with app.engine(sqlite_url) as engine:
        view = await ran(engine, "w", {"n": 9})
        assert statuses(view) == {"a": "completed", "big": "completed"}
        taken = [event.data["edges_taken"] for event in await events(engine, view.id) if event.type == "step.completed"]
        assert list(taken[0]) == [0]
        small = await ran(engine, "w", {"n": 1})
        assert statuses(small)["big"] == "skipped"
        asked.clear()
        from tenuto.runtime.services.requests import Replay

        again = await ended(engine, (await engine.runs.replay(view.id, Replay(from_step=1))).id)
        assert statuses(again) == statuses(view)
        assert asked == []


async def test_def19_an_input_that_does_not_fit_creates_no_run(tmp_path: Path):
    app = App("t")
    app.workflow("w").input_schema({
        "type": "object", "required": ["n", "name"], "properties": {"n": {"type": "integer"}, "name": {"type": "string"}},
    }).transform("a", value="1")  # fmt: skip
    async with served(app, "memory:", tmp_path) as (engine, client):
        answer = await client.post("/runs", json={"workflow": "w", "input": {"n": "x"}})
        assert answer.status_code == 422
        told = str(answer.json()["errors"])
        assert "/input/n" in told
        assert "name" in told
        with pytest.raises(InvalidInput):
            await engine.runs.start("w", {})
        assert (await engine.runs.list()).items == []


async def test_def22_a_goal_is_kept_shown_and_found(tmp_path: Path, both_url: str):
    app = App("t")
    app.workflow("w").transform("a", value="1")
    async with served(app, both_url, tmp_path) as (engine, client):
        started = await client.post("/runs", json={"workflow": "w", "goal": "pay the March invoices"})
        await client.post("/runs", json={"workflow": "w", "goal": "something else"})
        run = (await client.get(f"/runs/{started.json()['id']}?wait=20")).json()
        assert run["goal"] == "pay the March invoices"
        listed = (await client.get("/runs")).json()["items"]
        assert {item["goal"] for item in listed} == {"pay the March invoices", "something else"}
        for text in ("March", "march invo"):
            found = (await client.get("/runs", params={"q": text})).json()["items"]
            assert [item["id"] for item in found] == [run["id"]]
        assert len((await engine.runs.list(ListRuns(text="nothing like it"))).items) == 0


async def test_tol07_an_http_node_refuses_private_addresses():
    for url in ("http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://[::1]/"):
        view = await of(flow([{"id": "a", "kind": "http", "config": {"url": url}}]))
        assert view.status == "failed"
        assert steps(view)["a"].error.code == "http.address_refused"
    literal = flow([{"id": "a", "kind": "http", "config": {"url": "file:///etc/passwd"}}])
    with pytest.raises(InvalidGraph):
        App("t").register(literal)
