"""What a replay takes over, and that it goes on to the origin's own end when nothing was edited."""

from __future__ import annotations

from typing import Any

import pytest

from tenuto.domain.graph.plan import split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.fork import Cut, decode_reuse, encode_reuse, last_pass, reuse
from tenuto.errors import Invalid, StepMissing
from tests.unit.domain.runs.harness import Core, Failed
from tests.unit.domain.runs.test_graph_semantics import edge, graph, node

CHAIN = graph("a b c d", ("a", "b"), ("b", "c"), ("c", "d"))
LOOP = {
    "nodes": [node("a"), node("h"), node("b"), node("z")],
    "edges": [
        edge("a", "h"), edge("h", "b"), edge("b", "h", when="iteration < 3", max_iterations=5),
        edge("b", "z", when="iteration >= 3"),
    ],
}
MAP = {
    "nodes": [
        node("a"),
        {"id": "m", "kind": "map", "config": {
            "over": "${input.items}", "body": {"nodes": [node("x"), node("y")], "edges": [edge("x", "y")]},
        }},
        node("z"),
    ],
    "edges": [edge("a", "m"), edge("m", "z")],
}


def bodies(core: Core) -> list[tuple[int, ev.Body]]:
    return list(enumerate(core.records, 1))


def taken(core: Core, cut: Cut, new: Core | None = None, **kwargs: Any) -> dict[str, ev.Reused]:
    return reuse(bodies(core), core.plan, (new or core).plan, cut, **kwargs)


def kept(core: Core, cut: Cut, new: Core | None = None, **kwargs: Any) -> set[str]:
    return set(taken(core, cut, new, **kwargs))


def replayed(core: Core, document: dict[str, Any], cut: Cut, steps: Any = None, given: Any = None) -> Core:
    """Run a replay on the core with what it takes over."""
    fork = ev.Fork(run="run-0", seq=len(core.records), chain="")
    again = Core(document, steps if steps is not None else core.steps, given=given, fork=fork)
    again.env.reuse = decode_reuse(encode_reuse(reuse(bodies(core), core.plan, again.plan, cut)))
    again.env.blobs = core.env.blobs
    return again.run()


def test_a_number_keeps_that_many_completed_steps():
    core = Core(CHAIN).run()
    assert kept(core, Cut(count=2)) == {"a", "b"}
    assert kept(core, Cut(count=0)) == set()
    again = replayed(core, CHAIN, Cut(count=2))
    assert again.executed == ["c", "d"]
    assert again.output == core.output


@pytest.mark.parametrize("count", [-1, 5])
def test_a_number_out_of_range_is_refused(count: int):
    with pytest.raises(Invalid, match="allowed: 0 to 4"):
        taken(Core(CHAIN).run(), Cut(count=count))


def test_a_node_is_done_again_with_all_that_follows():
    doc = graph("a b c d", ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))
    core = Core(doc).run()
    assert kept(core, Cut(node="b")) == {"a", "c"}
    assert sorted(replayed(core, doc, Cut(node="b")).executed) == ["b", "d"]


def test_a_node_that_may_route_otherwise_resets_the_branch_it_did_not_take():
    doc = graph("a b c", ("a", "b", {"when": "output.x > 1"}), ("a", "c", {"when": "output.x <= 1"}))
    core = Core(doc, {"a": lambda v: {"x": 5}}).run()
    again = replayed(core, doc, Cut(node="a"), {"a": lambda v: {"x": 0}})
    assert again.statuses() == {"a": "completed", "b": "skipped", "c": "completed"}


def test_an_unknown_node_or_step_is_named():
    core = Core(CHAIN).run()
    with pytest.raises(StepMissing, match="'q'"):
        taken(core, Cut(node="q"))
    with pytest.raises(StepMissing, match=r"'q~m.1'"):
        taken(core, Cut(step="q~m.1"))


def test_at_keeps_what_was_recorded_up_to_a_record():
    core = Core(CHAIN).run()
    at = next(seq for seq, body in bodies(core) if any(getattr(e, "step", "") == "b" and isinstance(e, ev.StepCompleted) for e in body.ev))
    assert kept(core, Cut(at=at)) == {"a", "b"}
    with pytest.raises(Invalid, match="records 1 to"):
        taken(core, Cut(at=len(core.records) + 1))


def test_a_loop_is_done_again_from_its_last_pass():
    core = Core(LOOP).run()
    assert core.executed == ["a", "h~h.1", "b~h.1", "h~h.2", "b~h.2", "h~h.3", "b~h.3", "z"]
    assert kept(core, Cut(node="b")) == {"a", "h~h.1", "b~h.1", "h~h.2", "b~h.2", "h~h.3"}
    again = replayed(core, LOOP, Cut(node="b"))
    assert again.executed == ["b~h.3", "z"]
    assert again.output == core.output


def test_a_step_in_an_earlier_pass_resets_the_later_ones():
    core = Core(LOOP).run()
    assert kept(core, Cut(step="b~h.1")) == {"a", "h~h.1"}
    assert replayed(core, LOOP, Cut(step="b~h.1")).executed == ["b~h.1", "h~h.2", "b~h.2", "h~h.3", "b~h.3", "z"]


def test_one_item_of_a_map_is_done_again_and_the_others_stand():
    core = Core(MAP, given={"items": [1, 2, 3]}).run()
    assert kept(core, Cut(step="y~m.1")) == {"a", "x~m.0", "y~m.0", "x~m.1", "x~m.2", "y~m.2"}
    again = replayed(core, MAP, Cut(step="y~m.1"), given={"items": [1, 2, 3]})
    assert again.executed == ["m", "y~m.1", "z"]
    assert again.output == core.output


def test_a_node_in_a_map_is_done_again_in_every_item():
    core = Core(MAP, given={"items": [1, 2]}).run()
    assert kept(core, Cut(node="y")) == {"a", "x~m.0", "x~m.1"}


def test_a_step_before_a_map_resets_all_its_items():
    core = Core(MAP, given={"items": [1, 2]}).run()
    assert kept(core, Cut(node="a")) == set()


def test_a_kept_map_is_taken_over_whole():
    core = Core(MAP, given={"items": [1, 2]}).run()
    again = replayed(core, MAP, Cut(node="z"), given={"items": [1, 2]})
    assert again.executed == ["z"]


def test_a_handled_failure_is_taken_over_with_its_route():
    doc = graph("a b c", ("a", "b"), ("a", "c", {"on": "error"}))

    def fail(value: Any) -> Any:
        raise Failed("no")

    core = Core(doc, {"a": fail}).run()
    again = replayed(core, doc, Cut(node="c"), {})
    assert again.executed == ["c"]
    assert again.st.steps["a"].status == "failed"


def test_a_dead_letter_is_tried_again():
    def fail(value: Any) -> Any:
        raise Failed("no")

    core = Core(CHAIN, {"c": fail}).run()
    assert core.status == "failed"
    assert replayed(core, CHAIN, Cut(node="d"), {}).executed == ["c", "d"]


class TestEdits:
    """Edits reset what they can change, and nothing else."""

    def test_a_changed_node_and_what_follows_are_done_again(self):
        core = Core(CHAIN).run()
        other = Core(graph("a b c d", ("a", "b"), ("b", "c"), ("c", "d"), c={"config": {"handler": "other"}}))
        assert kept(core, Cut(at=len(core.records)), other) == {"a", "b"}

    def test_a_changed_retry_policy_changes_no_outcome(self):
        core = Core(CHAIN).run()
        other = Core(graph("a b c d", ("a", "b"), ("b", "c"), ("c", "d"), b={"retry": {"attempts": 3}}))
        assert kept(core, Cut(at=len(core.records)), other) == {"a", "b", "c", "d"}

    def test_an_inserted_node_resets_what_it_now_leads_to(self):
        core = Core(CHAIN).run()
        doc = graph("a n b c d", ("a", "n"), ("n", "b"), ("b", "c"), ("c", "d"))
        assert kept(core, Cut(at=len(core.records)), Core(doc)) == {"a"}
        assert replayed(core, doc, Cut(at=len(core.records))).executed == ["n", "b", "c", "d"]

    def test_an_appended_node_runs_on_kept_outcomes(self):
        core = Core(CHAIN).run()
        doc = graph("a b c d e", ("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"))
        assert replayed(core, doc, Cut(at=len(core.records))).executed == ["e"]

    def test_renumbered_edges_still_lead_where_they_led(self):
        doc = graph("a b c", ("a", "b", {"when": "output.x > 1"}), ("a", "c", {"when": "output.x <= 1"}))
        turned = graph("a b c", ("a", "c", {"when": "output.x <= 1"}), ("a", "b", {"when": "output.x > 1"}))
        core = Core(doc, {"a": lambda v: {"x": 5}}).run()
        again = replayed(core, turned, Cut(at=len(core.records)))
        assert again.executed == []
        assert again.st.steps["c"].status == "skipped"

    def test_a_new_condition_asks_its_source_again(self):
        core = Core(CHAIN).run()
        doc = graph("a b c d", ("a", "b"), ("b", "c", {"when": "output.did == 'b'"}), ("c", "d"))
        assert kept(core, Cut(at=len(core.records)), Core(doc)) == {"a"}

    def test_another_input_resets_the_nodes_that_read_it(self):
        doc = graph("a b c", ("a", "c"), ("b", "c"), b={"input": {"fixed": 1}})
        core = Core(doc).run()
        assert kept(core, Cut(at=len(core.records)), input_changed=True) == {"b"}


def test_a_frozen_replay_keeps_everything():
    core = Core(LOOP).run()
    assert kept(core, Cut(everything=True)) == set(core.st.steps)


def test_the_last_pass_is_found_inside_maps_and_loops():
    core = Core(MAP, given={"items": [1, 2]}).run()
    assert last_pass(core.plan, "y", core.st.steps) == ["y~m.0", "y~m.1"]
    looped = Core(LOOP).run()
    assert last_pass(looped.plan, "h", looped.st.steps) == ["h~h.3"]


@pytest.mark.parametrize("document", [CHAIN, LOOP, MAP])
def test_any_prefix_leads_to_the_same_end(document: dict[str, Any]):
    given = {"items": [1, 2, 3]}
    core = Core(document, given=given).run()
    total = len(taken(core, Cut(at=len(core.records))))
    for count in range(total + 1):
        again = replayed(core, document, Cut(count=count), given=given)
        assert again.output == core.output
        ran = [key for key in again.executed if again.plan.nodes[split_key(key)[0]].body is None]
        first = list(taken(core, Cut(count=count)))
        assert not set(ran) & set(first)
