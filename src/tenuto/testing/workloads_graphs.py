"""Kinds of run that exercise graphs: branches, joins, loops, maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.testing.workloads_kinds import (
    AGAIN,
    DONE,
    RETRY,
    Document,
    Scenario,
    edge,
    ends,
    graph,
    line,
    node,
    special,
)


def basic() -> list[Scenario]:
    """Return chains, branches and joins."""
    diamond = [node("a", "echo"), node("b"), node("c"), node("d", "echo")]
    return [
        Scenario(
            name="chain",
            document=line(node("a"), node("b"), node("c", "echo", input={"x": "${nodes.a.output.v}"})),
            expect=ends("completed", {"c": {"x": "a"}}, a=1, b=1, c=1),
        ),
        Scenario(
            name="conditional", given=lambda _: {"n": 7},
            document=graph(diamond, edge("a", "b", when="output.n > 5"), edge("a", "c", when="output.n <= 5"),
                           edge("b", "d"), edge("c", "d")),
            expect=ends("completed", {"d": {"b": {"v": "b"}}}, b=1, c=0, d=1),
        ),
        Scenario(
            name="any",
            document=graph([node("a"), node("b"), node("c", "slow"), node("d", join="any"), node("e")],
                           edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d"), edge("d", "e")),
            expect=ends("completed", {"e": {"v": "e"}}, b=1, c=1, d=1),
        ),
        Scenario(
            name="quorum",
            document=graph(
                [node("a"), node("b"), node("c"), node("x", "slow"), node("d", join={"quorum": 2}, cancel_losers=True)],
                edge("a", "b"), edge("a", "c"), edge("a", "x"), edge("b", "d"), edge("c", "d"), edge("x", "d")),
            expect=ends("completed", {"d": {"v": "d"}}, d=1),
        ),
        Scenario(
            name="unreachable",
            document=graph(
                [node("a"), node("b"), node("c"), node("d", join={"quorum": 2})],
                edge("a", "b"), edge("a", "c", when="false"), edge("b", "d"), edge("c", "d")),
            expect=ends("failed", b=1, d=0),
        ),
        Scenario(
            name="large",
            document=graph(
                [node("a", "large"), node("b", "large"), node("c", "echo", input={"n": "${nodes.a.output.n}"})],
                edge("a", "c", when="output.n == 7"), edge("b", "c")),
            expect=ends("completed", {"c": {"n": 7}}),
        ),
        Scenario(
            name="switch", given=lambda _: {"n": 3},
            document=graph([node("a", "echo"), {**special("s", "switch"), "route": "first"}, node("b"), node("c")],
                           edge("a", "s"), edge("s", "b", when="input.n > 5"), edge("s", "c", on="default")),
            expect=ends("completed", {"c": {"v": "c"}}, a=1, b=0, c=1),
        ),
        Scenario(name="plain", document=line(node("a", "plain"), node("b", "plain")),
                 expect=ends("completed", {"b": {"v": "plain"}})),
    ]


def loops() -> list[Scenario]:
    """Return loops, alone and nested."""
    return [
        Scenario(
            name="loop",
            document=graph([node("s"), node("b"), node("c"), node("e")], edge("s", "b"), edge("b", "c"),
                           edge("c", "b", **AGAIN), edge("c", "e", **DONE)),
            expect=ends("completed", {"e": {"v": "e"}}, b=3, c=3, e=1),
        ),
        Scenario(
            name="nested",
            document=graph(
                [node("o"), node("i"), node("j"), node("k"), node("e")], edge("o", "i"), edge("i", "j"),
                edge("j", "i", when="iteration < 2", max_iterations=4), edge("j", "k", when="iteration >= 2"),
                edge("k", "o", when="iteration < 2", max_iterations=4), edge("k", "e", when="iteration >= 2")),
            expect=ends("completed", {"e": {"v": "e"}}, o=2, i=4, j=4, k=2, e=1),
        ),
        Scenario(
            name="loop_join",
            document=graph(
                [node("h"), node("p"), node("q", "slow"), node("j", join="any"), node("t"), node("e")],
                edge("h", "p"), edge("h", "q"), edge("p", "j"), edge("q", "j"), edge("j", "t"),
                edge("t", "h", **AGAIN), edge("t", "e", **DONE)),
            expect=ends("completed", {"e": {"v": "e"}}, h=3, p=3, q=3, j=3, t=3),
        ),
        Scenario(
            name="loop_limit",
            document=graph([node("b"), node("c"), node("e"), node("late")], edge("b", "c"),
                           edge("c", "b", when="true", max_iterations=2), edge("c", "e", when="false"),
                           edge("c", "late", on="limit")),
            expect=ends("completed", {"late": {"v": "late"}}, b=2, c=2, e=0, late=1),
        ),
    ]


def failing_loops() -> list[Scenario]:
    """Return loops that pass their limit."""
    looping = graph([node("b"), node("c")], edge("b", "c"), edge("c", "b", when="true", max_iterations=2))
    return [Scenario(name="loop_fails", document=looping, expect=ends("failed", b=2, c=2))]


def _map(body: str, policy: Any, items: Sequence[int], concurrency: int) -> Document:
    inner = {"nodes": [{**node("w", body), "input": {"item": "${item}"}}], "edges": []}
    return graph(
        [special("m", "map", over=list(items), body=inner, on_failure=policy, concurrency=concurrency), node("z", "echo")],
        edge("m", "z"),
    )


def maps() -> list[Scenario]:
    """Return maps with every policy."""
    doubled = [{"v": 2}, {"v": 4}, {"v": 6}, {"v": 8}, {"v": 10}]
    return [
        Scenario(name="map", document=_map("double", "fail_fast", [1, 2, 3, 4, 5], 2),
                 expect=ends("completed", {"z": {"m": doubled}}, m=1)),
        Scenario(name="map_fails", document=_map("odd", "fail_fast", [2, 3, 4], 3), expect=ends("failed", z=0)),
        Scenario(name="map_collects", document=_map("odd", "collect", [1, 2, 3, 4], 2), expect=ends("completed", m=1)),
        Scenario(
            name="map_chain",
            document=graph(
                [special("m", "map", over=[1, 2, 3], concurrency=2, on_failure="fail_fast", body={
                    "nodes": [{**node("u", "double"), "input": {"item": "${item}"}}, node("t", "flaky", retry=RETRY)],
                    "edges": [edge("u", "t")]}), node("z")],
                edge("m", "z")),
            expect=ends("completed", {"z": {"v": "z"}}, m=1, u=3, t=3),
        ),
    ]
