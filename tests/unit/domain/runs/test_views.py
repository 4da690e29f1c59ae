"""Public shapes of runs: statuses, blocked steps, maps folded, loops numbered, graphs overlaid."""

from __future__ import annotations

from tenuto.domain.runs.present import graph_view, run_view, step_view
from tests.unit.domain.runs.harness import Core
from tests.unit.domain.runs.test_fork import CHAIN, LOOP, MAP


def test_nodes_no_outcome_has_reached_are_blocked():
    core = Core(CHAIN)
    core.step(*core.todo)
    view = run_view(core.st, core.plan)
    assert [(step.id, step.status) for step in view.steps] == [
        ("a", "running"), ("b", "blocked"), ("c", "blocked"), ("d", "blocked"),
    ]
    assert view.status == "running"
    assert view.n_steps == 4


def test_passes_and_items_are_numbered():
    looped = Core(LOOP).run()
    assert [step_view(looped.st, looped.plan, key).iteration for key in ("a", "h~h.1", "b~h.3")] == [0, 1, 3]
    mapped = Core(MAP, given={"items": [1, 2]}).run()
    assert [step_view(mapped.st, mapped.plan, key).branch for key in ("a", "x~m.0", "y~m.1")] == [None, 0, 1]


def test_items_are_counted_on_their_map():
    core = Core(MAP, given={"items": list(range(50))}).run()
    view = run_view(core.st, core.plan)
    assert [step.id for step in view.steps] == ["a", "m", "z"]
    items = view.steps[1].items
    assert items is not None
    assert (items.count, items.done, items.failed, view.n_steps) == (50, 50, 0, 103)


def test_only_so_many_steps_are_shown():
    core = Core(CHAIN).run()
    view = run_view(core.st, core.plan, limit=2)
    assert ([step.id for step in view.steps], view.n_steps) == (["a", "b"], 4)


def test_a_graph_shows_regions_back_edges_and_counts():
    core = Core(LOOP).run()
    view = graph_view(core.plan, core.st)
    nodes = {node.id: node for node in view.nodes}
    assert (nodes["b"].region, nodes["b"].counts, nodes["z"].region) == ("h", {"completed": 3}, "")
    (back,) = [item for item in view.edges if item.back]
    assert (back.from_, back.to, back.max_iterations, back.taken) == ("b", "h", 5, 2)
