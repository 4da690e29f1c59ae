"""How runs move through graphs: joins, conditions, loops, maps, failures."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tests.unit.domain.runs.harness import Core, Failed


def node(name: str, **rest: Any) -> dict[str, Any]:
    return {"id": name, "kind": "function", "config": {"handler": "noop"}, **rest}


def edge(a: str, b: str, **rest: Any) -> dict[str, Any]:
    return {"from": a, "to": b, **rest}


def graph(nodes: str, *edges: Any, **special: dict[str, Any]) -> dict[str, Any]:
    return {
        "nodes": [node(name, **special.get(name, {})) for name in nodes.split()],
        "edges": [edge(*e) if len(e) == 2 else edge(e[0], e[1], **e[2]) for e in edges],
    }


def test_a_chain_runs_in_order_and_yields_the_last_output():
    core = Core(graph("a b c", ("a", "b"), ("b", "c")), {"c": lambda v: {"got": v}}).run()
    assert core.executed == ["a", "b", "c"]
    assert core.status == "completed"
    assert core.output == {"c": {"got": {"b": {"did": "b"}}}}


def test_a_join_waits_for_all_and_runs_once():
    core = Core(graph("a b c d", ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"))).run()
    assert core.executed.count("d") == 1
    assert core.executed[-1] == "d"


def test_a_join_behind_a_conditional_fork_runs_once():
    doc = graph(
        "a b c d", ("a", "b", {"when": "output.x > 1"}), ("a", "c", {"when": "output.x <= 1"}), ("b", "d"), ("c", "d")
    )
    core = Core(doc, {"a": lambda v: {"x": 5}}).run()
    assert core.status == "completed"
    assert core.statuses() == {"a": "completed", "b": "completed", "c": "skipped", "d": "completed"}


def test_a_dead_path_is_skipped_to_its_end():
    doc = graph("a b c d", ("a", "b", {"when": "false"}), ("b", "c"), ("c", "d"))
    core = Core(doc).run()
    assert core.statuses() == {"a": "completed", "b": "skipped", "c": "skipped", "d": "skipped"}
    assert core.output == {"a": {"did": "a"}}


def test_any_fires_on_the_first_and_notes_the_late():
    core = Core(graph("a b c d", ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), d={"join": "any"})).run()
    assert core.executed.count("d") == 1
    assert core.st.joins["d"].late == 1


def test_a_quorum_that_cannot_be_reached_fails_at_once():
    doc = graph(
        "a b c d e", ("a", "b"), ("a", "c", {"when": "false"}), ("a", "d", {"when": "false"}), ("b", "e"), ("c", "e"),
        ("d", "e"), e={"join": {"quorum": 2}},
    )
    core = Core(doc).run()
    assert core.status == "failed"
    assert core.st.steps["e"].failure.code == "join.unreachable"


def test_a_quorum_whose_edges_all_die_is_skipped():
    doc = graph("a b c d", ("a", "b", {"when": "false"}), ("a", "c", {"when": "false"}), ("b", "d"), ("c", "d"),
                d={"join": {"quorum": 2}})
    assert Core(doc).run().statuses()["d"] == "skipped"


def test_route_first_takes_one_edge_and_default_is_last():
    nodes = [{"id": "s", "kind": "switch", "route": "first"}, node("a"), node("b"), node("c")]
    edges = [edge("s", "a", when="input.n > 10"), edge("s", "b", when="input.n > 5"), edge("s", "c", on="default")]
    doc = {"nodes": nodes, "edges": edges}
    assert Core(doc, given={"n": 20}).run().executed == ["a"]
    assert Core(doc, given={"n": 7}).run().executed == ["b"]
    assert Core(doc, given={"n": 1}).run().executed == ["c"]


def test_a_condition_that_errors_fails_the_node():
    core = Core(graph("a b", ("a", "b", {"when": "output.nope.x > 1"}))).run()
    assert core.status == "failed"
    assert core.st.steps["a"].failure.code == "routing.failed"


def test_a_predicate_routes_and_its_answer_is_recorded():
    doc = graph("a b c", ("a", "b", {"when": "py:big"}), ("a", "c", {"on": "default"}))
    core = Core(doc, {"a": lambda v: {"x": 9}})
    core.env.predicates = {"big": lambda values: values["output"]["x"] > 3}
    core.run()
    assert core.executed == ["a", "b"]
    assert core.events(ev.StepCompleted)[0].taken == (0,)


# --- loops -----------------------------------------------------------------------------------------------------

LOOP = graph("start body check end", ("start", "body"), ("body", "check"),
             ("check", "body", {"when": "output.again", "max_iterations": 3}), ("check", "end", {"when": "!output.again"}))


def test_a_loop_passes_until_its_condition_is_false():
    count = iter([True, True, False])
    core = Core(LOOP, {"check": lambda v: {"again": next(count)}}).run()
    assert core.status == "completed"
    assert core.executed == ["start", "body~body.1", "check~body.1", "body~body.2", "check~body.2", "body~body.3",
                             "check~body.3", "end"]
    assert core.output == {"end": {"did": "end"}}


def test_a_loop_at_its_limit_takes_only_the_limit_edge():
    doc = graph("body check end late", ("body", "check"), ("check", "body", {"when": "true", "max_iterations": 2}),
                ("check", "end", {"when": "true"}), ("check", "late", {"on": "limit"}))
    core = Core(doc).run()
    assert core.status == "completed"
    assert core.executed[-1] == "late"
    assert core.statuses()["end"] == "skipped"


def test_a_loop_at_its_limit_without_a_limit_edge_fails():
    core = Core(LOOP, {"check": lambda v: {"again": True}}).run()
    assert core.status == "failed"
    assert core.st.failure.code == "loop.limit"


def test_nested_loops_pass_independently():
    doc = graph(
        "o i j k end", ("o", "i"), ("i", "j"), ("j", "i", {"when": "iteration < 2", "max_iterations": 5}),
        ("j", "k", {"when": "iteration >= 2"}), ("k", "o", {"when": "iteration < 2", "max_iterations": 5}),
        ("k", "end", {"when": "iteration >= 2"}),
    )
    core = Core(doc).run()
    assert core.status == "completed"
    assert [key for key in core.executed if key.startswith("i")] == [
        "i~o.1~i.1", "i~o.1~i.2", "i~o.2~i.1", "i~o.2~i.2"
    ]


def test_a_node_after_a_loop_sees_the_last_pass():
    count = iter([True, False])
    doc = graph("start body check end", ("start", "body"), ("body", "check"),
                ("check", "body", {"when": "output.again", "max_iterations": 3}),
                ("check", "end", {"when": "!output.again"}), end={"input": {"last": "${nodes.check.output.again}"}})
    core = Core(doc, {"check": lambda v: {"again": next(count)}, "end": lambda v: v}).run()
    assert core.output == {"end": {"last": False}}


# --- maps ------------------------------------------------------------------------------------------------------


def mapped(count: int, **config: Any) -> dict[str, Any]:
    return {
        "nodes": [
            {"id": "m", "kind": "map",
             "config": {"over": "${input.items}", "body": {"nodes": [node("w")], "edges": []}, **config}},
            node("after"),
        ],
        "edges": [edge("m", "after")],
    }


def test_a_map_runs_its_body_once_an_item_and_keeps_order():
    core = Core(mapped(3), {"w": lambda item: item * 2, "after": lambda v: v}, given={"items": [3, 1, 2]}).run()
    assert core.output == {"after": {"m": [6, 2, 4]}}
    assert [k for k in core.executed if k.startswith("w")] == ["w~m.0", "w~m.1", "w~m.2"]


def test_an_empty_map_yields_an_empty_list():
    assert Core(mapped(0), {"after": lambda v: v}, given={"items": []}).run().output == {"after": {"m": []}}


def test_a_map_never_has_more_items_open_than_its_concurrency():
    core = Core(mapped(5, concurrency=2), given={"items": [1, 2, 3, 4, 5]})
    core.run()
    assert [(e.first, e.last) for e in core.events(ev.ItemStarted)] == [(0, 1), (2, 2), (3, 3), (4, 4)]


def fail_on(bad: set[int]) -> Any:
    def work(item: int) -> int:
        if item in bad:
            raise Failed(f"bad {item}")
        return item

    return work


def test_fail_fast_ends_the_map_at_the_first_failure():
    core = Core(mapped(3, concurrency=1), {"w": fail_on({1})}, given={"items": [0, 1, 2]}).run()
    assert core.status == "failed"
    assert core.executed == ["m", "w~m.0", "w~m.1"]
    assert core.st.steps["m"].failure.code == "map.item_failed"


def test_collect_keeps_errors_in_place():
    core = Core(mapped(3, on_failure="collect"), {"w": fail_on({1}), "after": lambda v: v}, given={"items": [0, 1, 2]})
    out = core.run().output["after"]["m"]
    assert out[0] == 0 and out[2] == 2 and out[1]["error"]["message"] == "bad 1"


@pytest.mark.parametrize(("bad", "status"), [({1}, "completed"), ({0, 2}, "failed")])
def test_tolerate_counts_failures(bad: set[int], status: str):
    core = Core(mapped(3, on_failure={"tolerate": 1}), {"w": fail_on(bad)}, given={"items": [0, 1, 2]}).run()
    assert core.status == status


def test_ten_thousand_items_run_once_each():
    core = Core(mapped(10_000), {"w": lambda item: item, "after": lambda v: len(v["m"])},
                given={"items": list(range(10_000))}).run()
    assert core.output == {"after": 10_000}
    assert len(core.executed) == 10_002


# --- failures --------------------------------------------------------------------------------------------------


def boom(_value: Any) -> Any:
    raise Failed("boom")


def test_an_unhandled_failure_leaves_other_branches_running():
    core = Core(graph("a b c d", ("a", "b"), ("a", "c"), ("c", "d")), {"b": boom}).run()
    assert core.status == "failed"
    assert core.statuses() == {"a": "completed", "b": "dead_letter", "c": "completed", "d": "completed"}


def test_retries_back_off_and_then_succeed():
    tries = iter([True, True, False])

    def flaky(_value: Any) -> str:
        if next(tries):
            raise Failed("again")
        return "ok"

    core = Core(graph("a b", ("a", "b"), a={"retry": {"attempts": 5, "jitter": 0}}), {"a": flaky}).run()
    assert core.statuses()["a"] == "retrying"
    assert core.st.steps["a"].retry_at == core.now + 1000
    core.tick(1000)
    assert core.st.steps["a"].retry_at == core.now + 2000
    assert core.tick(2000).status == "completed"
    assert core.st.steps["a"].attempt == 3


def test_a_permanent_failure_is_not_retried():
    def permanent(_value: Any) -> Any:
        raise Failed("no", retryable=False)

    core = Core(graph("a", a={"retry": {"attempts": 5}}), {"a": permanent}).run()
    assert core.executed == ["a"]
    assert core.status == "failed"


@pytest.mark.parametrize(
    ("on_error", "b_status", "output"),
    [
        ("skip", "skipped", {}),
        ("continue", "completed", {"b": {"a": None}}),
        ({"fallback": {"value": 7}}, "completed", {"b": {"a": 7}}),
    ],
)
def test_on_error(on_error: Any, b_status: str, output: Any):
    core = Core(graph("a b", ("a", "b"), a={"on_error": on_error}), {"a": boom, "b": lambda v: v}).run()
    assert core.status == "completed"
    assert core.statuses()["b"] == b_status
    assert core.output == output


def test_an_error_edge_is_taken_on_failure_and_dead_on_success():
    doc = graph("a b c", ("a", "b"), ("a", "c", {"on": "error"}))
    failed = Core(doc, {"a": boom, "c": lambda v: v["a"]["error"]["message"]}).run()
    assert failed.statuses() == {"a": "failed", "b": "skipped", "c": "completed"}
    assert failed.output == {"c": "boom"}
    assert Core(doc).run().statuses() == {"a": "completed", "b": "completed", "c": "skipped"}


def test_a_fallback_node_stands_in():
    doc = graph("a b c", ("a", "b"), ("c", "b"), a={"on_error": {"fallback": {"node": "c"}}}, b={"join": "any"})
    core = Core(doc, {"a": boom}).run()
    assert core.status == "completed"
    assert core.executed == ["a", "c", "b"]


def test_a_missing_reference_fails_the_step_by_name():
    core = Core({"nodes": [{"id": "j", "kind": "join", "input": {"x": "${input.nope}"}}]}, given={"a": 1}).run()
    assert core.status == "failed"
    assert "input.nope" in core.st.failure.message


# --- a run's own retries, and fidelity -------------------------------------------------------------------------


def test_a_failed_run_is_sent_round_again_from_where_it_stood():
    broken = [True]

    def flaky(_value: Any) -> str:
        if broken[0]:
            raise Failed("down")
        return "ok"

    doc = {**graph("a b", ("a", "b")), "retry": {"attempts": 3, "jitter": 0}}
    core = Core(doc, {"b": flaky}).run()
    assert core.status == "running"
    assert core.events(ev.RunRetried)[0].retry_at == core.now + 1000
    broken[0] = False
    assert core.tick(1000).status == "completed"
    assert core.executed == ["a", "b", "b"]


def test_a_run_whose_tries_are_spent_has_failed():
    core = Core({**graph("a"), "retry": {"attempts": 2, "jitter": 0}}, {"a": boom}).run()
    assert core.tick(1000).status == "failed"
    assert len(core.executed) == 2


def test_fast_fidelity_journals_outcomes_and_no_begins():
    doc = graph("a b c", ("a", "b"), ("b", "c"), ("c", "b", {"when": "iteration < 2", "max_iterations": 3}))
    core = Core(doc, fidelity="fast").run()
    assert core.status == "completed"
    assert core.events(ev.AttemptStarted) == []
    assert core.executed == ["a", "b~b.1", "c~b.1", "b~b.2", "c~b.2"]


def test_fast_fidelity_starts_a_lost_step_again():
    core = Core(graph("a b", ("a", "b")), fidelity="fast")
    core.step(*core.todo)
    core.todo, core.started = [], []
    core.step(io.Begin(worker="w2", epoch=2, lost=True))
    assert core.started == ["a"]
    assert core.run().status == "completed"
    assert core.st.steps["a"].losses == 1


def lose(core: Core, times: int) -> None:
    for epoch in range(2, times + 2):
        core.todo, core.started = [], []
        core.step(io.Begin(worker=f"w{epoch}", epoch=epoch, lost=True))


def test_the_third_lost_attempt_is_the_last_whatever_the_retry_policy_allows():
    core = Core(graph("a", a={"retry": {"attempts": 10}}))
    core.step(*core.todo)
    lose(core, 2)
    assert core.started == ["a"]
    lose(core, 1)
    assert core.started == []
    assert core.statuses() == {"a": "dead_letter"}
    assert core.st.steps["a"].failure.code == "attempt.worker_lost"
    assert len(core.events(ev.AttemptStarted)) == 3
    core.verify()


def test_lost_attempts_do_not_use_up_the_retry_policy():
    core = Core(graph("a", a={"retry": {"attempts": 2, "jitter": 0}}), {"a": boom})
    core.step(*core.todo)
    lose(core, 2)
    core.run()
    assert core.statuses() == {"a": "retrying"}
    core.tick(1000)
    assert core.statuses() == {"a": "dead_letter"}
    assert len(core.executed) == 2


class TestMapThatHeadsALoop:
    """A map may be the header of a loop: its passes and its items have frames of one name, and are told apart."""

    DOCUMENT: ClassVar[dict[str, Any]] = {
        "nodes": [
            {"id": "a", "kind": "function", "config": {"handler": "a"}},
            {"id": "many", "kind": "map", "config": {"over": [1, 2], "body": {"nodes": [
                {"id": "inner", "kind": "function", "config": {"handler": "inner"}}]}}},
        ],
        "edges": [{"from": "a", "to": "many"}, {"from": "many", "to": "many", "when": "iteration < 2", "max_iterations": 3}],
    }  # fmt: skip

    def test_every_pass_maps_anew(self):
        core = Core(self.DOCUMENT, {"inner": lambda value: value}).run()
        assert core.output == {"many": [1, 2]}
        assert core.executed.count("inner~many.2~many.1") == 1

    def test_a_failed_item_fails_the_pass(self):
        def inner(value: Any) -> Any:
            raise Failed("no", retryable=False)

        core = Core(self.DOCUMENT, {"inner": inner}).run()
        assert core.statuses()["many~many.1"] == "dead_letter"
        assert core.status == "failed"
