"""Nodes that are kept as one: a run that finds them skips all of them at once, and decides what is between them itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenuto import App, Retry
from tenuto.domain.graph.validate import load_definition
from tenuto.errors import InvalidGraph
from tests.acceptance.features.harness import seen
from tests.integration.cache.test_policies import run

AS_ONE = {"policy": "read_through", "group": "g"}


def region() -> tuple[App, list[str]]:
    """Return an app with a region of five nodes between two others, and the names of the handlers that were called."""
    app, made = App("t"), []

    def step(name: str, effect: Any = "pure") -> None:
        async def work(n: int = 0, **rest: Any) -> dict[str, Any]:
            made.append(name)
            if n == 13:
                raise RuntimeError("unlucky")
            return {"from": name, "n": n, "big": "x" * 9000 if name == "left" else ""}

        app.step(name=name, effect=effect)(work)

    for name in ("head", "left", "right", "rare", "tail"):
        step(name)
    step("before", "idempotent")
    step("after", "idempotent")
    (
        app.workflow("w")
        .step("before", input={"n": 0})
        .step("head", input={"n": "${input.n}"}, cache=AS_ONE, after="before")
        .step("left", input={"n": "${nodes.head.output.n}"}, cache=AS_ONE, after="head")
        .step("right", input={"n": "${input.m}"}, cache=AS_ONE, after="head")
        .step("rare", input={"n": 1}, cache=AS_ONE)
        .join("both", cache=AS_ONE, after=["left", "right"])
        .step("tail", input={"n": "${nodes.both.output.left.n}"}, cache=AS_ONE, after="both")
        .step("after", input={"n": 0}, after=["tail", "rare"])
        .edge("head", "rare", when="output.n > 100")
    )
    return app, made


async def test_a_second_run_skips_a_whole_group_on_one_hit(url: str):
    app, made = region()
    async with app.engine(url) as engine:
        first, said = await run(engine, {"n": 1, "m": 2})
        assert sorted(made) == ["after", "before", "head", "left", "right", "tail"]
        assert (said["head"]["how"], said["head"]["group"]) == ("miss", "g")
        made.clear()
        again, said = await run(engine, {"n": 1, "m": 2})
        assert again == first
        assert made == ["before", "after"]
        assert {step: one["how"] for step, one in said.items() if one} == dict.fromkeys(
            ("head", "left", "right", "tail"), "hit"
        )
        started = await engine.runs.start("w", {"n": 1, "m": 2})
        await engine.runs.get(started.id, wait_s=15)
        ids = {event.step: event.id.partition(".")[0] async for event in engine.history.stream(started.id)
               if event.type == "step.completed"}
        assert len({ids[name] for name in ("head", "left", "right", "both", "tail")}) == 1


@pytest.mark.parametrize("given", [{"n": 2, "m": 2}, {"n": 1, "m": 3}, {"n": 101, "m": 2}])
async def test_whatever_a_member_reads_from_outside_is_in_the_key(given: dict[str, int]):
    app, made = region()
    async with app.engine("memory:") as engine:
        await run(engine, {"n": 1, "m": 2})
        made.clear()
        await run(engine, given)
        assert "head" in made and "tail" in made
        assert ("rare" in made) == (given["n"] > 100)
        made.clear()
        await run(engine, given)
        assert made == ["before", "after"]


def branching(*flows: tuple[str, str, str]) -> tuple[App, list[str]]:
    """Return an app with a workflow for each name, route of the head and condition of its first branch, and what was called."""
    app, made = App("t"), []

    @app.predicate
    def asked(values: dict[str, Any]) -> bool:
        return values["input"]["left"]

    def step(name: str, effect: Any = "pure") -> None:
        async def work(**given: Any) -> dict[str, Any]:
            made.append(name)
            return {"given": sorted(given)}

        app.step(name=name, effect=effect)(work)

    for name in ("head", "left", "right", "tail"):
        step(name)
    step("other", "idempotent")
    for name, route, when in flows:
        flow = app.workflow(name).step("head", input={}, cache=AS_ONE, route=route)
        if when == "away":
            flow = flow.step("other", input={}).edge("head", "other", when="input.left")
        (
            flow.step("left", input={}, cache=AS_ONE)
            .step("right", input={}, cache=AS_ONE)
            .edge("head", "left", when="true" if when == "away" else when)
            .edge("head", "right", when="true" if route == "all" else "")
            .step("tail", cache=AS_ONE, after=["left", "right"])
        )
    return app, made


async def test_what_a_predicate_decides_between_members_is_decided_anew():
    """It may read anything, so no key can say what it follows from: the branch that was taken once is not taken for another."""
    app, _made = branching(("w", "all", "py:asked"))
    async with app.engine("memory:") as engine:
        for left, given in ((True, ["left", "right"]), (False, ["right"]), (True, ["left", "right"])):
            output, _ = await run(engine, {"left": left})
            assert output["tail"] == {"given": given}


async def test_how_the_head_routes_is_in_the_key():
    app, _made = branching(("all", "all", "true"), ("first", "first", "true"))
    async with app.engine("memory:") as engine:
        assert (await run(engine, {}, "all"))[0]["tail"] == {"given": ["left", "right"]}
        assert (await run(engine, {}, "first"))[0]["tail"] == {"given": ["left"]}


async def test_an_edge_out_of_the_group_that_goes_before_others_is_in_the_key():
    app, made = branching(("w", "first", "away"))
    async with app.engine("memory:") as engine:
        assert (await run(engine, {"left": False}))[0]["tail"] == {"given": ["left"]}
        made.clear()
        await run(engine, {"left": True})
        assert made == ["head", "other"]
        made.clear()
        await run(engine, {"left": False})
        assert made == []


async def test_a_group_with_a_failed_member_is_not_kept():
    app, made = region()
    async with app.engine("memory:") as engine:
        for _ in range(2):
            started = await engine.runs.start("w", {"n": 1, "m": 13})
            assert (await engine.runs.get(started.id, wait_s=15)).status == "failed"
        assert made.count("head") == 2
        assert await engine.store.cache_sizes("default") == []
        assert await engine.store.busy_flights([("default", key) for key in ("x",)]) == set()


async def test_a_group_of_which_a_member_was_tried_again_otherwise_is_not_kept():
    """Its key was made before a person changed what the member does."""
    app, made = App("t"), []
    waits, go = asyncio.Event(), asyncio.Event()

    @app.step(effect="pure", cache=AS_ONE)
    async def head() -> int:
        return 1

    @app.step(effect="pure", cache=AS_ONE, retry=Retry(attempts=3, backoff_s=600))
    async def left() -> str:
        made.append("left")
        if len(made) == 1:
            raise RuntimeError("not yet")
        return "as written"

    @app.step(effect="pure")
    async def instead() -> str:
        return "as told"

    @app.step(effect="pure", cache=AS_ONE)
    async def right() -> int:
        waits.set()
        await go.wait()
        return 2

    app.workflow("w").step(head, input={}).step(left, input={}, after="head").step(right, input={}, after="head")
    async with app.engine("memory:") as engine:
        first = await engine.runs.start("w", {})
        await waits.wait()
        await seen(engine, first.id, "step.retrying")
        await engine.runs.retry(first.id, "left", config={"handler": "instead"})
        await seen(engine, first.id, lambda event: (event.type, event.step) == ("step.completed", "left"))
        go.set()
        assert (await engine.runs.get(first.id, wait_s=15)).output == {"left": "as told", "right": 2}
        output, said = await run(engine, {})
        assert output == {"left": "as written", "right": 2}
        assert said["head"]["how"] == "miss"


async def test_a_group_inside_the_body_of_a_map_is_kept_for_each_item():
    app, made = App("t"), []

    @app.step(effect="pure", cache=AS_ONE)
    async def one(n: int) -> int:
        made.append("one")
        return n

    @app.step(effect="pure", cache=AS_ONE)
    async def two(n: int) -> int:
        made.append("two")
        return n * 2

    body = app.body().step(one).step(two, input={"n": "${nodes.one.output}"}, after="one")
    app.workflow("w").map("each", "${input.items}", body)
    async with app.engine("memory:") as engine:
        output, _ = await run(engine, {"items": [{"n": n % 3} for n in range(12)]})
        assert output == {"each": [0, 2, 4] * 4}
        assert sorted(made) == ["one"] * 3 + ["two"] * 3
        made.clear()
        await run(engine, {"items": [{"n": 2}, {"n": 1}]})
        assert made == []


def node(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": "transform", "config": {"value": "1"}, "cache": AS_ONE, **more}


def edge(src: str, dst: str, **more: Any) -> dict[str, Any]:
    return {"from": src, "to": dst, **more}


X = node("x", cache="off")
REFUSED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str]] = {
    "two heads": ([node("a"), node("b")], [], "2 heads"),
    "a way in beside the head": ([X, node("a"), node("b")], [edge("a", "b"), edge("x", "b")], "led to from outside, by 'x'"),
    "another policy": ([node("a"), node("b", cache={"policy": "write_only", "group": "g"})], [edge("a", "b")], "something else"),
    "a value that is not there yet": (
        [node("a"), X, node("b", config={"template": "${nodes.x.output}"})], [edge("a", "b"), edge("x", "b")], "reads 'x'",
    ),
    "a loop across the border": (
        [node("a"), node("b"), X], [edge("a", "b"), edge("b", "x"), edge("x", "b", max_iterations=3)], "crosses its border",
    ),
    "a loop inside": (
        [node("a"), node("b")], [edge("a", "b"), edge("b", "a", max_iterations=3, when="false")], "lies inside it",
    ),
    "a race": (
        [node("a"), node("b"), node("c"), node("d", join="any")],
        [edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d")], "depends on their order",
    ),
    "a question to a person": (
        [node("a"), {"id": "ask", "kind": "approval", "cache": AS_ONE}], [edge("a", "ask")], "has no result of its own",
    ),
    "a group without a name": ([node("a", cache={"group": ""})], [], "no name of a group"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_no_region_of_its_own_is_refused(case: str):
    nodes, edges, why = REFUSED[case]
    with pytest.raises(InvalidGraph) as caught:
        load_definition({"name": "w", "nodes": nodes, "edges": edges})
    assert any(why in problem.message for problem in caught.value.problems), caught.value.problems
