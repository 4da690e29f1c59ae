"""Folding changes of the graph: what the run has come to is carried over from one plan to the next.

Edges and regions go by their numbers in a plan, so the numbers change with it; what they stand for does not, because
nothing the run has relied on may differ (`frozen`).
"""

from __future__ import annotations

from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.overlay import plan_after
from tenuto.domain.overlays.terms import agents_of
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import fold_graph
from tenuto.domain.runs.frozen import edge_name, region_name
from tenuto.domain.runs.state import Patch, RunState


def proposed(st: RunState, plan: Plan, e: ev.PatchProposed, t: int) -> None:
    """Remember a proposal, and its operations as long as they may be applied."""
    st.patches[e.patch] = Patch(
        author=e.author, base=e.base, seq=st.seq + 1, status="invalid" if e.findings else "open", digest=e.digest, ops=e.ops,
        by=e.by, step=e.step, call=e.call, takes=e.takes, at=t,
    )


def rejected(st: RunState, plan: Plan, e: ev.PatchRejected, t: int) -> None:
    """Forget the operations of a proposal that has no effect."""
    patch = st.patches[e.patch]
    patch.status, patch.ops, patch.ticket = "rejected", None, ""


def applied(st: RunState, plan: Plan, e: ev.PatchApplied, t: int) -> Plan:
    """Let the run go by the new graph and return its plan."""
    new = plan_after(plan, bytes(e.ops), e.digest)
    patch = st.patches[e.patch]
    patch.status, patch.ops, patch.ticket, patch.digest = "applied", None, "", e.digest
    if not patch.takes:
        st.overlays.append(e.patch)
        st.undone.clear()
    elif patch.takes in st.overlays:
        st.overlays.remove(patch.takes)
        st.undone.append(patch.takes)
    else:
        st.undone.remove(patch.takes)
        st.overlays.append(patch.takes)
    if not st.version:
        st.version, st.agents = st.digest, agents_of(plan.definition)
    st.digest = e.digest
    carry_over(st, plan, new, t)
    return new


def carry_over(st: RunState, old: Plan, new: Plan, t: int) -> None:
    """Turn the numbers of edges and regions to those of the new plan, and count again what has changed."""
    names = {edge_name(edge): edge.index for edge in new.edges}
    edges = {edge.index: names[name] for edge in old.edges if (name := edge_name(edge)) in names}
    for step in st.steps.values():
        if step.via:
            step.via = [edges[index] for index in step.via]
    for key in [key for key in st.joins if _node(key) not in new.nodes]:
        del st.joins[key]
    for join in st.joins.values():
        join.taken = [edges[index] for index in join.taken]
    regions = {region_name(new, region.index): region for region in new.regions}
    for scope, inst in list(st.regions.items()):
        name = region_name(old, inst.region)
        before, after = _members(old, inst.region), _members(new, regions[name].index)
        inst.region = regions[name].index
        inst.back = [edges[index] for index in inst.back]
        inst.exits = {edges[index]: taken for index, taken in inst.exits.items()}
        if (difference := len(after - before) - len(before - after)):
            inst.open += difference
            if not inst.open:
                st.ended[scope] = 1
    _recount(st, new, t)


def _members(plan: Plan, region: int) -> set[str]:
    """Return the names of the nodes directly in a region, and of the loops directly in it by their headers."""
    return {*plan.regions[region].nodes, *(f"~{loop.owner}" for loop in plan.loops_in(region))}


def _recount(st: RunState, plan: Plan, t: int) -> None:
    """Let joins fire, or be skipped, whose other edges were removed."""
    for key, join in list(st.joins.items()):
        if not join.fired:
            node = plan.nodes[_node(key)]
            fold_graph.fire(st, plan, node.need, node.n_in, join, key, t)


def _node(key: str) -> str:
    return key.partition("~")[0]
