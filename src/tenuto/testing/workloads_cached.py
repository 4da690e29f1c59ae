"""Kinds of run whose steps take each other's results: single ones, many at once, some that fail first, and groups."""

from __future__ import annotations

from tenuto.testing.workloads_kinds import RETRY, Document, Scenario, edge, ends, graph, line, node, special

KEPT: Document = {"effect": "pure", "cache": "read_through"}
AS_ONE: Document = {"effect": "pure", "cache": {"policy": "read_through", "group": "g"}}
SAME = {"n": 7}


def cached() -> list[Scenario]:
    """Return runs that are given the same, so that some of their steps compute and others do not."""
    items = special("m", "map", over="${input.items}", body=node("i", "slow_echo", **KEPT))
    grouped = graph(
        [node("a", "slow_echo", **AS_ONE), node("b", "echo", **AS_ONE), node("c", "flaky_echo", retry=RETRY, **AS_ONE),
         node("d", "echo")],
        edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d"),
    )  # fmt: skip
    return [
        Scenario(name="cached", document=line(node("a", "slow_echo", **KEPT), node("b", "echo")), given=lambda _: SAME,
                 expect=ends("completed", {"b": {"a": SAME}})),
        Scenario(name="cached_flaky", document=line(node("a", "flaky_echo", retry=RETRY, **KEPT), node("b", "echo")),
                 given=lambda _: SAME, expect=ends("completed", {"b": {"a": SAME}})),
        Scenario(name="cached_map", document=graph([items]), given=lambda _: {"items": [SAME] * 6},
                 expect=ends("completed", {"m": [SAME] * 6})),
        Scenario(name="cached_group", document=grouped, given=lambda _: SAME,
                 expect=ends("completed", {"d": {"b": {"a": SAME}, "c": {"a": SAME}}})),
    ]  # fmt: skip
