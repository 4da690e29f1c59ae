"""Two runs side by side."""

from __future__ import annotations

from tenuto.domain.runs.diff import diff_runs
from tests.unit.domain.runs.harness import Core
from tests.unit.domain.runs.test_fork import CHAIN
from tests.unit.domain.runs.test_graph_semantics import graph

FORKED = graph("a b c d", ("a", "b", {"when": "output.x > 1"}), ("a", "c", {"when": "output.x <= 1"}), ("b", "d"), ("c", "d"))


def test_equal_runs_have_no_difference():
    one, two = Core(CHAIN).run(), Core(CHAIN).run()
    found = diff_runs(one.st, one.plan, two.st, two.plan)
    assert found.same
    assert (found.steps, found.first, found.n_same_steps) == ([], None, 4)


def test_the_first_difference_and_all_that_follow_are_found():
    one = Core(FORKED, {"a": lambda v: {"x": 5}}).run()
    two = Core(FORKED, {"a": lambda v: {"x": 0}}).run()
    found = diff_runs(one.st, one.plan, two.st, two.plan)
    assert not found.same
    assert found.first is not None
    assert (found.first.step, found.first.fields) == ("a", {"output": [{"x": 5}, {"x": 0}]})
    assert found.routing == {"only_a": ["a -> b", "b -> d"], "only_b": ["a -> c", "c -> d"]}
    assert [(step.step, step.change) for step in found.steps] == [
        ("a", "changed"), ("b", "changed"), ("c", "changed"),
    ]


def test_steps_only_one_run_has_are_told_apart():
    one, two = Core(CHAIN).run(), Core(graph("a b n", ("a", "b"), ("b", "n"))).run()
    found = diff_runs(one.st, one.plan, two.st, two.plan)
    assert {(step.step, step.change) for step in found.steps} == {("c", "removed"), ("d", "removed"), ("n", "added")}
