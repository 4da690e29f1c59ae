"""How outcomes move through the graph: edges resolve, joins count, loops pass, items of maps end.

Part of folding: mechanical, in place, no judgement. What has to be decided next is left in `to_skip`, `to_fail`
and `ended` of the state, in the order it came up.
"""

from __future__ import annotations

from tenuto.domain.graph.plan import Plan, PlanEdge, last_frame, parent_scope, split_key
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.state import Join, MapState, Region, RunState, Step


def open_region(st: RunState, plan: Plan, region: int, scope: str, t: int) -> None:
    """Begin an instance of a region and make its entries ready."""
    shape = plan.regions[region]
    st.regions[scope] = Region(region=region, open=shape.members)
    for entry in shape.entries:
        inner = plan.nodes[entry].region
        at = scope
        if inner != region:
            at = _enter_loop(st, plan, inner, scope)
        make_ready(st, plan, entry + at, [], t)


def _enter_loop(st: RunState, plan: Plan, region: int, scope: str) -> str:
    """Return the scope of a loop's first pass, beginning it when this is the first arrival."""
    shape = plan.regions[region]
    loop = f"{scope}~{shape.owner}"
    inside = loop + ".1"
    if loop not in st.loops:
        st.loops[loop] = 1
        st.regions[inside] = Region(region=region, open=shape.members)
    return inside


INSTANT = frozenset({"approval", "wait", "switch", "join"})


def make_ready(st: RunState, plan: Plan, key: str, via: list[int], t: int) -> None:
    """Let a step exist and wait for a start; at fidelity `fast`, one that may begin without a record begins here."""
    st.active += 1
    step = st.steps[key] = _successor(st.steps.get(key))
    step.via, step.ready_at = via, t
    if st.fidelity == "fast" and st.status == "running" and st.fork is None and _begins_unrecorded(plan, key):
        step.status, step.started_at = "running", t
        step.attempt += 1
        st.begun[key] = 1
    else:
        st.ready[key] = 1


def _successor(before: Step | None) -> Step:
    """Return a new step; in an item that begins anew it counts attempts on and knows the calls that were made."""
    if before is None:
        return Step()
    return Step(attempt=before.attempt, calls=before.calls, group=before.group, doubt=before.doubt)


def _begins_unrecorded(plan: Plan, key: str) -> bool:
    """Say whether losing sight of an attempt's begin is harmless: it can be made again, and no other worker has it."""
    node = plan.node_of(key).node
    return node.kind not in INSTANT and node.effect != "effect" and node.isolation == "inline"


def resolve_out(st: RunState, plan: Plan, key: str, step: Step, taken: tuple[int, ...] | None, t: int) -> None:
    """Resolve every outgoing edge of a step that ended, then count the step as resolved in its region."""
    node = plan.node_of(key)
    scope = key[len(node.node.id) :]
    if taken is None:
        for edge in node.out:
            _arrive(st, plan, edge, scope, True, t)
        step.leaf = not node.out
    else:
        for edge in node.out:
            _resolve(st, plan, edge, scope, edge.index in taken, 0, t)
        step.leaf = not taken
    member_done(st, plan, scope)


def _resolve(st: RunState, plan: Plan, edge: PlanEdge, scope: str, taken: bool, depth: int, t: int) -> None:
    """Resolve an edge as seen from `scope`, after leaving `depth` of the loops it leaves."""
    if depth < len(edge.leaves):
        st.regions[scope].exits[edge.index] = taken
    elif edge.back:
        if taken:
            st.regions[scope].back.append(edge.index)
    elif edge.enters is not None:
        _arrive(st, plan, edge, _enter_loop(st, plan, edge.enters, scope), taken, t)
    else:
        _arrive(st, plan, edge, scope, taken, t)


def _arrive(st: RunState, plan: Plan, edge: PlanEdge, scope: str, taken: bool, t: int) -> None:
    """Count an edge at its target, which fires, is skipped, or waits for more; abandoned items stay as they are."""
    if scope not in st.regions:
        return
    node = plan.nodes[edge.dst]
    key = edge.dst + scope
    if node.n_in == 1:
        if taken:
            make_ready(st, plan, key, [edge.index], t)
        else:
            st.to_skip[key] = 1
        return
    join = st.joins.get(key)
    if join is None:
        join = st.joins[key] = Join()
    join.seen += 1
    if join.fired:
        join.late += 1
        return
    if taken:
        join.taken.append(edge.index)
    fire(st, plan, node.need, node.n_in, join, key, t)


def fire(st: RunState, plan: Plan, need: int, n_in: int, join: Join, key: str, t: int) -> None:
    """Let a join's step begin, be skipped or fail, as far as its arrivals decide that."""
    n_taken = len(join.taken)
    if need == 0:
        if join.seen < n_in:
            return
        if n_taken:
            join.fired = True
            make_ready(st, plan, key, join.taken, t)
        else:
            join.fired = True
            st.to_skip[key] = 1
    elif n_taken >= need:
        join.fired = True
        st.to_fail.pop(key, None)
        make_ready(st, plan, key, list(join.taken), t)
    elif join.seen == n_in and not n_taken:
        join.fired = True
        st.to_fail.pop(key, None)
        st.to_skip[key] = 1
    elif need > n_in - (join.seen - n_taken):
        st.to_fail[key] = 1


def fail_join(st: RunState, key: str, t: int) -> None:
    """Let the step of an unreachable join exist, so that it can fail."""
    del st.to_fail[key]
    join = st.joins[key]
    join.fired = True
    st.steps[key] = Step(via=list(join.taken), ready_at=t)
    st.ready[key] = 1
    st.active += 1


def member_done(st: RunState, plan: Plan, scope: str) -> None:
    """Count one member of a region instance as resolved; the last one ends the instance."""
    inst = st.regions.get(scope)
    if inst is None:
        return
    inst.open -= 1
    if inst.open:
        return
    region = plan.regions[inst.region]
    if region.kind == "map":
        item_done(st, scope)
    else:
        st.ended[scope] = 1


def item_done(st: RunState, scope: str) -> None:
    """Count an item of a map as done."""
    del st.regions[scope]
    owner, _ = last_frame(scope)
    key = owner + parent_scope(scope)
    st.maps[key].done += 1
    st.ended[key] = 1


def fail_item(st: RunState, plan: Plan, key: str, failure: ev.Failure) -> None:
    """End the innermost map item a failed step belongs to."""
    scope = item_scope(plan, key)
    if scope not in st.regions:
        return
    owner, index = last_frame(scope)
    st.maps[owner + parent_scope(scope)].errors[index] = failure
    inst = st.regions[scope]
    if inst.open > 1 and not plan.is_flat(inst.region):
        _abandon(st, open_scopes(st, plan, scope)[1:])
    item_done(st, scope)


def item_scope(plan: Plan, key: str) -> str:
    """Return the scope of the innermost map item around a step, or an empty string."""
    return next((frame.scope for frame in plan.frames(key) if frame.kind == "map"), "")


def pass_loop(st: RunState, plan: Plan, scope: str, following: int, t: int, guidance: str = "") -> None:
    """End a pass: begin the next one, or resolve the edges that leave the loop."""
    st.ended.pop(scope, None)
    inst = st.regions.pop(scope)
    region = plan.regions[inst.region]
    outside = parent_scope(scope)
    if following > 0:
        loop = f"{outside}~{region.owner}"
        st.loops[loop] = following
        inside = f"{loop}.{following}"
        st.regions[inside] = Region(region=inst.region, open=region.members)
        make_ready(st, plan, region.owner + inside, list(inst.back), t)
        st.steps[region.owner + inside].guidance = guidance
        return
    for index in sorted(inst.exits):
        edge = plan.edges[index]
        taken = inst.exits[index]
        if following < 0:
            taken = edge.on == "limit" if following == -1 else edge.on == "error" and edge.src == region.owner
        _resolve(st, plan, edge, outside, taken, edge.leaves.index(inst.region) + 1, t)
    member_done(st, plan, outside)


def open_map(st: RunState, e: ev.MapOpened) -> None:
    """Remember a map's list."""
    st.maps[e.step] = MapState(items=e.items, count=e.count)
    st.ended[e.step] = 1


def start_items(st: RunState, plan: Plan, e: ev.ItemStarted, t: int) -> None:
    """Begin the bodies of some items, in order."""
    node_id, scope = split_key(e.step)
    body = plan.nodes[node_id].body
    assert body is not None
    for index in range(e.first, e.last + 1):
        open_region(st, plan, body, f"{scope}~{node_id}.{index}", t)
    state = st.maps[e.step]
    state.started = max(state.started, e.last + 1)
    while state.again and e.first <= state.again[0] <= e.last:
        state.again.pop(0)


def reopen_map(st: RunState, key: str, *, fresh: bool) -> None:
    """Keep the items of a map that are done; the others begin anew, under new keys when `fresh`."""
    state = st.maps[key]
    node_id, scope = split_key(key)
    prefix = f"{scope}~{node_id}."
    again = set(state.errors)
    for name, step in st.steps.items():
        if step.status == "cancelled" and step.how != "loser" and (index := _item_of(name, prefix)) >= 0:
            again.add(index)
    for name, step in st.steps.items():
        if _item_of(name, prefix) in again:
            step.leaf, step.out = False, None
            st.maps.pop(name, None)
            if fresh:
                step.group += 1
                step.calls = {}
                step.doubt = False
    for known in (st.joins, st.loops, st.regions):
        for name in [name for name in known if _item_of(name, prefix) in again]:
            del known[name]
    state.errors = {}
    state.again = sorted(again)
    state.done = state.started - len(again)


def _item_of(name: str, prefix: str) -> int:
    """Return the item of a map that a step, scope or loop belongs to, -1 for none."""
    place = name[name.find("~") :] if "~" in name else ""
    if not place.startswith(prefix):
        return -1
    return int(place[len(prefix) :].partition("~")[0])


def recheck_maps(st: RunState) -> None:
    """Let the next decision look at every unfinished map again, after a stop."""
    for key, state in st.maps.items():
        if state.done < state.count or not state.count:
            st.ended[key] = 1


def close_map(st: RunState, plan: Plan, key: str) -> None:
    """Abandon the items of a map that ended before they did."""
    state = st.maps[key]
    if state.done < state.started:
        _abandon(st, open_items(st, plan, key))


def open_scopes(st: RunState, plan: Plan, scope: str) -> list[tuple[str, int]]:
    """Return an open instance and all open instances inside it, each with its region, looking at no others."""
    inst = st.regions.get(scope)
    if inst is None:
        return []
    found = [(scope, inst.region)]
    if plan.is_flat(inst.region):
        return found
    for inner in plan.loops_in(inst.region):
        loop = f"{scope}~{inner.owner}"
        found += open_scopes(st, plan, f"{loop}.{st.loops.get(loop, 0)}")
    for name in plan.regions[inst.region].nodes:
        if name + scope in st.maps:
            found += open_items(st, plan, name + scope)
    return found


def open_items(st: RunState, plan: Plan, key: str) -> list[tuple[str, int]]:
    """Return the open items of a map and all open instances inside them, each with its region."""
    node_id, scope = split_key(key)
    items = range(st.maps[key].started)
    return [inner for index in items for inner in open_scopes(st, plan, f"{scope}~{node_id}.{index}")]


def _abandon(st: RunState, instances: list[tuple[str, int]]) -> None:
    for scope, _ in instances:
        del st.regions[scope]
        st.ended.pop(scope, None)


def forget_marks(st: RunState) -> None:
    """Drop the marks of maps that moved and of steps that began; they speak for one record only."""
    for name in [name for name in st.ended if name and name[0] != "~"]:
        del st.ended[name]
    st.begun.clear()
