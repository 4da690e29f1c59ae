"""Graphs that change while their run goes on, on the bare core."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tenuto.domain.overlays.overlay import overlay_of
from tenuto.domain.overlays.terms import Surroundings, Terms, unchecked
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.fork import Cut, graph_at, reuse
from tests.unit.domain.runs.harness import Core


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": "function", "config": {"handler": name}, **more}


def agent(name: str) -> dict[str, Any]:
    return {"id": name, "kind": "agent", "config": {"pattern": "pipeline", "prompt": "x"}}


def edge(src: str, dst: str, **more: Any) -> dict[str, Any]:
    return {"from": src, "to": dst, **more}


CHAIN = {"nodes": [function(name) for name in "abc"], "edges": [edge("a", "b"), edge("b", "c")]}
ADD_D = [
    {"op": "add", "path": "/nodes/-", "value": function("d")},
    {"op": "add", "path": "/edges/-", "value": edge("b", "d")},
]


def begun(document: dict[str, Any], **more: Any) -> Core:
    """A run whose entries have begun and whose code has not returned."""
    core = Core(document, **more)
    inputs, core.todo = core.todo, []
    core.step(*inputs)
    return core


def propose(core: Core, ops: Any, *, patch: str = "p1", base: str | None = None, **more: Any) -> ev.PatchProposed:
    """Send a patch and return what was written of it."""
    message = msg.ProposePatch(
        patch=patch, base=core.plan.digest if base is None else base, ops=Raw(msgspec.json.encode(ops)), by="ada", **more
    )
    core.send(message)
    core.verify()
    return next(event for event in core.events(ev.PatchProposed) if event.patch == patch)


def codes(said: ev.PatchProposed) -> set[str]:
    return {finding.code for finding in said.findings}


def test_new_nodes_run_in_the_same_run() -> None:
    """What is patched in behind a step that is not over yet runs, and its output is the run's."""
    core = begun(CHAIN)
    said = propose(core, ADD_D)
    assert not said.findings
    assert said.changed.nodes_added == ("d",)
    assert core.st.patches["p1"].status == "applied"
    core.run()
    assert core.status == "completed"
    assert core.output == {"c": {"did": "c"}, "d": {"did": "d"}}
    assert core.st.version == core.first.digest != core.st.digest


def test_nodes_go_by_their_ids_and_edges_by_their_ends() -> None:
    """A path with an id means the node of that id, wherever the operations before have moved it."""
    core = begun(CHAIN)
    ops = [
        {"op": "add", "path": "/nodes/0", "value": function("z")},
        {"op": "replace", "path": "/nodes/c/config/handler", "value": "other"},
        {"op": "remove", "path": "/edges/b->c"},
        {"op": "add", "path": "/edges/-", "value": edge("b", "z")},
        {"op": "add", "path": "/edges/-", "value": edge("z", "c")},
        {"op": "test", "path": "/nodes/z/id", "value": "z"},
    ]
    said = propose(core, ops)
    assert not said.findings
    assert said.changed.nodes_changed == ("c",)
    core.run()
    assert core.executed == ["a", "b", "z", "c"]


def test_a_removed_edge_lets_a_join_fire_that_waited_for_nothing_else() -> None:
    """Joins count their edges anew: what is gone is not waited for."""
    wide = {"nodes": [function(name) for name in "abj"], "edges": [edge("a", "j"), edge("b", "j")]}
    core = begun(wide)
    core.execute("a")
    core.started.remove("a")
    assert "j" not in core.st.steps
    propose(core, [{"op": "remove", "path": "/edges/b->j"}])
    assert core.st.steps["j"].status == "running"
    core.run()
    assert core.output == {"b": {"did": "b"}, "j": {"did": "j"}}


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ([{"op": "remove", "path": "/nodes/a"}, {"op": "remove", "path": "/edges/a->b"}], "patch.frozen"),
        ([{"op": "replace", "path": "/nodes/a/config/handler", "value": "evil"}], "patch.frozen"),
        ([{"op": "add", "path": "/nodes/-", "value": function("d")}, {"op": "add", "path": "/edges/-", "value": edge("a", "d")}],
         "patch.frozen"),
        ([{"op": "remove", "path": "/edges/a->b"}], "patch.frozen"),
        ([{"op": "add", "path": "/nodes/-", "value": function("d")}], "patch.orphan"),
        ([{"op": "add", "path": "/nodes/-", "value": function("d")}, {"op": "add", "path": "/edges/-", "value": edge("d", "c")}],
         "patch.orphan"),
        ([{"op": "add", "path": "/edges/-", "value": edge("c", "b")}], "graph.cycle"),
        ([{"op": "add", "path": "/edges/-", "value": edge("c", "a", max_iterations=2)}], "patch.frozen"),
        ([{"op": "replace", "path": "/budget", "value": {}}], "patch.path"),
        ([{"op": "replace", "path": "/nodes/zz/config", "value": {}}], "patch.unknown_node"),
        ([{"op": "replace", "path": "/nodes/c/description", "value": "x"}, {"op": "test", "path": "/nodes/0/id", "value": "q"}],
         "patch.test"),
        ([{"op": "test", "path": "/nodes/0/id", "value": "a"}], "patch.nothing"),
        ([], "patch.empty"),
        ({"op": "add"}, "patch.type"),
        ([{"op": "add", "path": "/nodes/99", "value": function("d")}], "patch.conflict"),
    ],
)  # fmt: skip
def test_what_a_run_relies_on_cannot_be_patched(ops: Any, code: str) -> None:
    """Started steps, their edges, cycles, orphans, places outside: each refused by name, kept, and without effect."""
    core = begun(CHAIN)
    core.execute(core.started.pop(0))
    before = core.plan.digest
    said = propose(core, ops)
    assert code in codes(said), said.findings
    assert core.plan.digest == before
    assert core.st.patches["p1"].status == "invalid"
    core.run()
    assert core.status == "completed"


def test_a_patch_for_another_graph_is_stale() -> None:
    """Two authors who saw one graph: the second has to look again."""
    core = begun(CHAIN)
    base = core.plan.digest
    propose(core, ADD_D)
    other = [{"op": "replace", "path": "/nodes/c/description", "value": "last"}]
    assert codes(propose(core, other, patch="p2", base=base)) == {"patch.stale"}
    assert not propose(core, other, patch="p3").findings


def test_agents_are_counted_over_the_whole_graph() -> None:
    """The limit holds for the graph that would be, not for one patch."""
    core = begun({"nodes": [function("a"), *(agent(f"g{n}") for n in range(4))], "edges": [edge("a", f"g{n}") for n in range(4)]})
    more = lambda n: [  # noqa: E731
        {"op": "add", "path": "/nodes/-", "value": agent(f"g{n}")}, {"op": "add", "path": "/edges/-", "value": edge("a", f"g{n}")},
    ]  # fmt: skip
    assert not propose(core, more(4)).findings
    assert codes(propose(core, more(5), patch="p2")) == {"patch.agents"}


def test_agents_are_counted_when_one_is_to_begin() -> None:
    """Should the limit be lower by then, no agent of a patched graph begins."""
    core = begun(CHAIN)
    ops = [{"op": "add", "path": "/nodes/-", "value": agent("g")}, {"op": "add", "path": "/edges/-", "value": edge("a", "g")}]
    propose(core, ops)
    core.env.surroundings = lambda: Surroundings(Terms(max_agents=0), unchecked().known, unchecked().complete)
    core.run()
    assert core.st.steps["g"].failure is not None
    assert core.st.steps["g"].failure.code == "patch.agents"


def test_undo_and_redo_return_to_the_very_graphs() -> None:
    """Taking back leads to the digest before, bringing back to the one after; the journal keeps both."""
    core = begun(CHAIN)
    first = core.plan
    propose(core, ADD_D)
    second = core.plan
    back = overlay_of(second.definition, first.definition)
    assert not propose(core, back, patch="u1", takes="p1").findings
    assert core.plan.digest == first.digest
    assert core.st.overlays == []
    forth = overlay_of(first.definition, second.definition)
    assert not propose(core, forth, patch="r1", takes="p1").findings
    assert (core.plan.digest, core.st.overlays, core.st.undone) == (second.digest, ["p1"], [])
    assert codes(propose(core, back, patch="u2", takes="nobody")) == {"patch.undo"}
    core.run()
    assert "d" in core.output


def approving(core: Core) -> Core:
    core.env.surroundings = lambda: Surroundings(Terms(approval=("all",)), unchecked().known, unchecked().complete)
    return core


def ask(core: Core, ops: Any, *, step: str = "a") -> str:
    """Propose as a step's code does; return the name of the patch."""
    n = core.st.steps[step].attempt
    core.step(io.PatchAsked(step=step, n=n, call="propose_patch", token="t", base=core.plan.digest, ops=Raw(msgspec.json.encode(ops))))
    core.verify()
    return core.events(ev.PatchProposed)[-1].patch


def test_a_step_waits_for_the_decision_and_goes_on_with_it() -> None:
    """The step that proposes parks; approval applies the patch, ends the wait, and its answer says so."""
    core = approving(begun(CHAIN))
    name = ask(core, ADD_D)
    assert isinstance(core.replies[-1][1], io.Waiting)
    ticket = core.st.patches[name].ticket
    assert core.st.tickets[ticket].kind == "patch"
    core.send(msg.Decision(ticket=ticket, decision="approve", by="grace"))
    assert core.wakes == [("a", "propose_patch")]
    call = core.st.steps["a"].calls["propose_patch"]
    assert call.out is not None
    assert core.env.load(call.out)["status"] == "applied"
    core.run()
    assert core.executed == ["a", "b", "c", "d"]


def test_a_rejected_patch_has_no_effect() -> None:
    """The reason reaches the step that asked; the graph stays."""
    core = approving(begun(CHAIN))
    before = core.plan.digest
    name = ask(core, ADD_D)
    core.send(msg.Decision(ticket=core.st.patches[name].ticket, decision="reject", by="grace", reason="too much"))
    call = core.st.steps["a"].calls["propose_patch"]
    assert call.out is not None
    assert {key: core.env.load(call.out)[key] for key in ("status", "reason", "by")} == {
        "status": "rejected", "reason": "too much", "by": "grace"
    }
    core.run()
    assert core.plan.digest == before
    assert core.status == "completed"


def test_an_approval_that_comes_too_late_applies_nothing() -> None:
    """What was shown no longer fits the run: the approved patch is turned down with the reason."""
    core = approving(begun(CHAIN))
    propose(core, ADD_D)
    for _ in "ab":
        core.execute(core.started.pop(0))
    core.send(msg.Decision(ticket=core.st.patches["p1"].ticket, decision="approve", by="grace"))
    (said,) = core.events(ev.PatchRejected)
    assert {finding.code for finding in said.findings} == {"patch.frozen"}
    assert "can no longer be applied" in said.reason
    core.run()
    assert core.status == "completed"


def test_what_nobody_decided_is_turned_down_when_the_run_ends() -> None:
    """No question stays open about a run that is over."""
    core = approving(begun(CHAIN))
    propose(core, ADD_D)
    core.run()
    assert core.status == "completed"
    assert core.st.patches["p1"].status == "rejected"
    assert all(ticket.status != "open" for ticket in core.st.tickets.values())


def test_a_refused_patch_may_be_approved_once_it_fits() -> None:
    """A person looks at what was kept: approving tries it on the graph as it is now."""
    core = begun(CHAIN)
    base = core.plan.digest
    propose(core, ADD_D)
    propose(core, [{"op": "replace", "path": "/nodes/c/description", "value": "last"}], patch="p2", base=base)
    back = overlay_of(core.plan.definition, core.first.definition)
    propose(core, back, patch="u1", takes="p1")
    core.send(msg.ReviewPatch(patch="p2", decision="approve", by="grace"))
    core.verify()
    assert core.st.patches["p2"].status == "applied"


LOOP = {
    "nodes": [function("h"), function("body"), function("out")],
    "edges": [edge("h", "body"), edge("body", "h", when="iteration < 3", max_iterations=5), edge("body", "out", on="default")],
}


def test_a_loop_that_goes_on_takes_new_nodes_into_its_passes() -> None:
    """A node patched into a loop's body before it was reached runs in this pass and in every later one."""
    core = begun(LOOP)
    ops = [
        {"op": "add", "path": "/nodes/-", "value": function("extra")},
        {"op": "remove", "path": "/edges/h->body"},
        {"op": "add", "path": "/edges/-", "value": edge("h", "extra")},
        {"op": "add", "path": "/edges/-", "value": edge("extra", "body")},
    ]
    assert not propose(core, ops).findings
    core.run()
    assert core.status == "completed"
    assert core.executed == [f"{name}~h.{n}" for n in (1, 2, 3) for name in ("h", "extra", "body")] + ["out"]


def bodies(core: Core) -> list[tuple[int, ev.Body]]:
    return list(enumerate(core.records, 1))


def test_a_fork_takes_the_graph_of_the_point_it_is_cut_at() -> None:
    """Before the patch the graph was another one; behind it, outcomes are taken over under the new numbers of edges."""
    core = begun(CHAIN)
    core.execute(core.started.pop(0))
    ops = [
        {"op": "add", "path": "/nodes/0", "value": function("d")}, {"op": "add", "path": "/edges/0", "value": edge("b", "d")},
        {"op": "add", "path": "/edges/0", "value": edge("d", "c", when="true")},
    ]  # fmt: skip
    assert not propose(core, ops).findings
    core.run()
    assert core.executed == ["a", "b", "d", "c"]
    journal, patched = bodies(core), core.plan
    assert graph_at(journal, core.first, Cut(node="b")).digest == core.first.digest
    assert graph_at(journal, core.first, Cut(count=1)).digest == core.first.digest
    assert graph_at(journal, core.first, Cut(node="c")).digest == patched.digest
    assert graph_at(journal, core.first, Cut(everything=True)).digest == patched.digest
    taken = reuse(journal, core.first, patched, Cut(node="c"))
    assert set(taken) == {"a", "b", "d"}
    assert [patched.edges[index].dst for index in taken["d"].taken or ()] == ["c"]
    assert set(reuse(journal, core.first, core.first, Cut(node="b"))) == {"a"}
