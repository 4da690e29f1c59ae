"""Random graphs, random patches of them, at random moments of a run, with crashes in between: the laws of patching."""

from __future__ import annotations

import string
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Raw

from tenuto.domain.graph.model import Node
from tenuto.domain.graph.plan import Plan, split_key
from tenuto.domain.graph.validate import check
from tenuto.domain.overlays.overlay import overlay_of
from tenuto.domain.overlays.terms import agents_of, unchecked
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.state import RunState, decode_state, encode_state
from tests.unit.domain.runs.harness import Core

KINDS = ("function", "agent", "join", "switch")
JOINS: tuple[Any, ...] = ("all", "any", 2)
WHENS = ("", "true", "false")


def node(name: str, kind: str = "function", join: Any = "all") -> dict[str, Any]:
    config = {"function": {"handler": name}, "agent": {"pattern": "pipeline", "prompt": "x"}}.get(kind, {})
    return {"id": name, "kind": kind, "config": config, "join": join}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Acyclic graphs of up to seven nodes, perhaps with a loop over two of them, perhaps with a map."""
    names = string.ascii_lowercase[: draw(st.integers(2, 7))]
    nodes = [node(name, draw(st.sampled_from(KINDS)) if name != "a" else "function") for name in names]
    edges: list[dict[str, Any]] = []
    for at, name in enumerate(names[1:], 1):
        for src in draw(st.lists(st.sampled_from(names[:at]), min_size=1, max_size=3, unique=True)):
            edges.append({"from": src, "to": name, "when": draw(st.sampled_from(WHENS))})
    if draw(st.booleans()):
        last = names[-1]
        nodes += [node("head"), node("tail")]
        edges += [
            {"from": last, "to": "head"}, {"from": "head", "to": "tail"},
            {"from": "tail", "to": "head", "when": "iteration < 3", "max_iterations": 4},
        ]  # fmt: skip
    if draw(st.booleans()):
        body = {"nodes": [node("inner")], "edges": []}
        nodes.append({"id": "many", "kind": "map", "config": {"over": [1, 2, 3], "body": body, "concurrency": 2}})
        edges.append({"from": "a", "to": "many"})
    return {"nodes": nodes, "edges": edges}


class PatchedRuns(RuleBasedStateMachine):
    """One run; its code returns, patches come, its worker is lost, in any order."""

    core: Core

    @initialize(graph=graphs())
    def begin(self, graph: dict[str, Any]) -> None:
        self.core = Core(graph)
        self.valid = not check(self.core.plan.definition)
        self.n = 0
        self.known: dict[str, Node] = {}
        self.routed: dict[str, list[tuple[str, str]]] = {}
        self.agents = agents_of(self.core.plan.definition)
        if self.valid:
            inputs, self.core.todo = self.core.todo, []
            self.core.step(*inputs)

    def alive(self) -> bool:
        return self.valid and self.core.status == "running"

    # --- what happens ---------------------------------------------------------------------------------------------

    @precondition(lambda self: self.alive() and self.core.started)
    @rule(data=st.data())
    def a_step_returns(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.core.started) - 1))
        self.core.execute(self.core.started.pop(at))

    @precondition(lambda self: self.alive() and self.core.plan.edges)
    @rule(data=st.data())
    def somebody_proposes(self, data: st.DataObject) -> None:
        over = {split_key(key)[0] for key, step in self.core.st.steps.items() if step.status in ("completed", "skipped")}
        still = [name for name in sorted(self.core.plan.nodes) if name not in over and name != "inner"]
        names = still if still and data.draw(st.integers(0, 4)) else sorted(self.core.plan.nodes)
        ops = [op for _ in range(data.draw(st.integers(1, 2))) for op in self.some(data, names)]
        self.propose(ops)

    def some(self, data: st.DataObject, names: list[str]) -> list[dict[str, Any]]:
        """Operations of one sort, right or wrong."""
        one, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        sort = data.draw(st.sampled_from(["behind", "between", "drop", "cut", "join", "change", "edge", "loop"]))
        near = [edge for edge in self.core.plan.edges if edge.src in names] or [*self.core.plan.edges]
        cut = data.draw(st.sampled_from(near))
        self.n += 1
        new = f"n{self.n}"
        kind, join = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(JOINS[:2]))
        add = {"op": "add", "path": data.draw(st.sampled_from(["/nodes/-", "/nodes/0"])), "value": node(new, kind, join)}
        edge = lambda src, dst, **more: {"op": "add", "path": "/edges/0", "value": {"from": src, "to": dst, **more}}  # noqa: E731
        found: dict[str, list[dict[str, Any]]] = {
            "behind": [add, edge(one, new, when=data.draw(st.sampled_from(WHENS)))],
            "between": [add, edge(cut.src, new), edge(new, cut.dst)],
            "drop": [{"op": "remove", "path": f"/nodes/{one}"}],
            "cut": [{"op": "remove", "path": f"/edges/{cut.src}->{cut.dst}"}],
            "join": [{"op": "replace", "path": f"/nodes/{one}/join", "value": data.draw(st.sampled_from(JOINS))}],
            "change": [{"op": "replace", "path": f"/nodes/{one}/config", "value": {"handler": new}}],
            "edge": [edge(one, other)],
            "loop": [edge(one, other, max_iterations=3, when="iteration < 2")],
        }
        if sort == "drop":
            near = [e for e in self.core.plan.edges if one in (e.src, e.dst)]
            found["drop"] = [*({"op": "remove", "path": f"/edges/{e.src}->{e.dst}"} for e in near), *found["drop"]]
        return found[sort]

    def propose(self, ops: list[dict[str, Any]], takes: str = "") -> bool:
        self.n += 1
        name, before = f"p{self.n}", self.core.plan
        message = msg.ProposePatch(patch=name, base=before.digest, ops=Raw(msgspec.json.encode(ops)), takes=takes)
        self.core.send(message)
        applied = self.core.st.patches[name].status == "applied"
        assert applied == (self.core.plan.digest != before.digest)
        return applied

    @precondition(lambda self: self.alive() and self.core.st.overlays)
    @rule()
    def it_is_taken_back_and_brought_back(self) -> None:
        """undo∘apply is the identity, wherever the run has not relied on the patch."""
        core, newest = self.core, self.core.st.overlays[-1]
        now, state = core.plan, encode_state(core.st)
        then = self.plan_before(newest)
        if not self.propose(overlay_of(now.definition, then.definition), takes=newest):
            assert core.plan is now
            return
        assert core.plan.digest == then.digest == core.st.patches[newest].base
        if core.status == "running":
            assert self.propose(overlay_of(then.definition, now.definition), takes=newest) or core.plan.digest == then.digest
        if core.plan.digest == now.digest:
            assert bare(core.st) == bare(decode_state(state))

    def plan_before(self, patch: str) -> Plan:
        """Return the plan in force just before a patch was."""
        plan, state = self.core.first, RunState(id="run-1")
        for body in self.core.records:
            if any(isinstance(event, ev.PatchApplied) and event.patch == patch for event in body.ev):
                return plan
            plan = fold_body(state, plan, body)
        raise AssertionError(patch)

    @precondition(lambda self: self.valid and self.core.records)
    @rule(data=st.data())
    def its_worker_is_lost(self, data: st.DataObject) -> None:
        """The next one folds a snapshot of any moment and the records after it, and stands where the first one stood."""
        cut = data.draw(st.integers(1, len(self.core.records)))
        state, plan = RunState(id="run-1"), self.core.first
        for body in self.core.records[:cut]:
            plan = fold_body(state, plan, body)
            state.seq += 1
        state = decode_state(encode_state(state))
        assert state.digest == plan.digest
        for body in self.core.records[cut:]:
            plan = fold_body(state, plan, body)
            state.seq += 1
        assert plan is self.core.plan or plan.digest == self.core.plan.digest
        assert encode_state(state) == encode_state(self.core.st)
        self.core.st, self.core.plan = state, plan

    # --- what holds ---------------------------------------------------------------------------------------------

    @invariant()
    def the_graph_is_sound(self) -> None:
        if not hasattr(self, "core") or not self.valid:
            return
        core = self.core
        assert check(core.plan.definition) == ()
        assert core.st.digest == core.plan.digest
        terms = unchecked().terms
        assert agents_of(core.plan.definition) <= max(terms.max_agents, self.agents)

    @invariant()
    def what_has_begun_never_changes(self) -> None:
        if not hasattr(self, "core") or not self.valid:
            return
        for key, step in self.core.st.steps.items():
            name = split_key(key)[0]
            now = self.core.plan.nodes[name]
            assert self.known.setdefault(name, now.node) == now.node
            if step.status in ("completed", "skipped"):
                out = [(edge.src, edge.dst) for edge in now.out]
                assert sorted(self.routed.setdefault(name, out)) == sorted(out)

    def teardown(self) -> None:
        """Whatever was patched, the run comes to its end, with every node run or skipped."""
        if not hasattr(self, "core") or not self.valid:
            return
        self.core.run()
        failure = self.core.st.failure
        if failure is not None and failure.code in ("join.unreachable", "loop.limit"):
            return  # a quorum that dead edges rule out, loops that turn one another: as in any graph
        assert self.core.status == "completed", (self.core.status, failure)
        reached = {split_key(key)[0] for key in self.core.st.steps}
        assert {name for name, item in self.core.plan.nodes.items() if item.region == 0} <= reached


def bare(state: RunState) -> bytes:
    """Return a state without what the journal itself makes different: its length, its clock, its list of patches."""
    state = decode_state(encode_state(state))
    state.seq, state.t, state.seen, state.patches = 0, 0, {}, {}
    return encode_state(state)


TestPatchedRuns = PatchedRuns.TestCase
TestPatchedRuns.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
