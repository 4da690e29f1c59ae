"""What a step may see: its input, the outputs of other steps, and the variables of its conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from tenuto.domain.base.references import Reference, ReferenceMissing, Template, parse_template
from tenuto.domain.graph.plan import Plan, PlanNode, last_frame, parent_scope, split_key
from tenuto.domain.runs.inputs import Env
from tenuto.domain.runs.state import RunState, Step, public_status
from tenuto.errors import InputMissing

ABSENT: Any = object()


def frames(scope: str) -> list[tuple[str, int]]:
    """Return a scope's frames as `(owner, number)`, outermost first."""
    found: list[tuple[str, int]] = []
    while scope:
        found.append(last_frame(scope))
        scope = parent_scope(scope)
    found.reverse()
    return found


def output_of(st: RunState, plan: Plan, env: Env, node_id: str, scope: str) -> Any:
    """Return the output of a node as seen from a scope: the nearest enclosing one, else its loop's last pass.

    A node inside a map that does not enclose the scope yields the list of its outputs, in order.

    Returns:
        `ABSENT` when the node was skipped or has no outcome yet.
    """
    node = plan.nodes.get(node_id)
    if node is None:
        return ABSENT
    path = plan.region_path(node.region)
    path.reverse()
    return _walk(st, plan, env, node_id, path, frames(scope), "")


def _walk(
    st: RunState, plan: Plan, env: Env, node_id: str, path: list[int], around: list[tuple[str, int]], at: str
) -> Any:
    for depth, region in enumerate(path):
        shape = plan.regions[region]
        if around and around[0][0] == shape.owner:
            at += f"~{shape.owner}.{around[0][1]}"
            around = around[1:]
        elif shape.kind == "loop":
            around = []
            at += f"~{shape.owner}.{st.loops.get(f'{at}~{shape.owner}', 1)}"
        else:
            state = st.maps.get(shape.owner + at)
            if state is None:
                return ABSENT
            rest = path[depth + 1 :]
            items = [_walk(st, plan, env, node_id, rest, [], f"{at}~{shape.owner}.{i}") for i in range(state.count)]
            return [None if item is ABSENT else item for item in items]
    return value_of(st.steps.get(node_id + at), env)


def value_of(step: Step | None, env: Env) -> Any:
    """Return a step's output, or `ABSENT` when it has none that counts."""
    if step is None or step.out is None or step.status not in ("completed", "failed"):
        return ABSENT
    return env.load(step.out)


def source_key(st: RunState, plan: Plan, index: int, scope: str) -> str:
    """Return the key of the step at the source of a taken edge that led into `scope`."""
    edge = plan.edges[index]
    if edge.back:
        owner, number = last_frame(scope)
        at = f"{parent_scope(scope)}~{owner}.{number - 1}"
    elif edge.enters is not None:
        at = parent_scope(scope)
    else:
        at = scope
    for region in reversed(edge.leaves):
        owner = plan.regions[region].owner
        at += f"~{owner}.{st.loops.get(f'{at}~{owner}', 1)}"
    return edge.src + at


@lru_cache(maxsize=4096)
def _template(text: bytes) -> Template:
    return parse_template(msgspec.json.decode(text))


def template_of(value: Any) -> Template:
    """Return the parsed form of an author's template; parsed once."""
    return _template(msgspec.json.encode(value))


def step_input(st: RunState, plan: Plan, env: Env, key: str) -> Any:
    """Return what a step is given: its mapping rendered, or the outputs of its taken predecessors by id.

    An entry of the graph gets the run's input; an entry of a map's body gets its item.

    Raises:
        InputMissing: The mapping names something that does not exist.
        NeedValues: A value is not at hand.
    """
    node = plan.node_of(key)
    if node.node.input is not msgspec.UNSET:
        return render(st, plan, env, node.node.input, key)
    step = st.steps[key]
    scope = key[len(node.node.id) :]
    if not step.via:
        if scope and _is_item_entry(plan, node, scope):
            return item_of(st, env, scope)
        return env.load(st.input)
    return predecessors(st, plan, env, key)


def predecessors(st: RunState, plan: Plan, env: Env, key: str) -> dict[str, Any]:
    """Return the outputs of the nodes whose edges led to a step, by id; what failed stands there with its error.

    Raises:
        NeedValues: A value is not at hand.
    """
    step, scope = st.steps[key], key[len(plan.node_of(key).node.id) :]
    given: dict[str, Any] = {}
    for index in step.via:
        source = st.steps.get(source_key(st, plan, index, scope))
        if source is None:
            continue
        if plan.edges[index].on == "error" and source.failure is not None:
            given[plan.edges[index].src] = {"error": msgspec.to_builtins(source.failure)}
        else:
            value = value_of(source, env)
            given[plan.edges[index].src] = None if value is ABSENT else value
    return given


def _is_item_entry(plan: Plan, node: PlanNode, scope: str) -> bool:
    region = plan.regions[node.region]
    while region.kind == "loop":
        region = plan.regions[region.parent]
    return region.kind == "map"


def item_of(st: RunState, env: Env, scope: str) -> Any:
    """Return the item of the innermost map around a scope, or `ABSENT` outside of maps."""
    while scope:
        owner, number = last_frame(scope)
        scope = parent_scope(scope)
        state = st.maps.get(owner + scope)
        if state is not None:
            return env.load(state.items)[number]
    return ABSENT


def _number_of(plan: Plan, key: str, kind: str) -> Any:
    return next((frame.number for frame in plan.frames(key) if frame.kind == kind), ABSENT)


def render(st: RunState, plan: Plan, env: Env, value: Any, key: str, given: Mapping[str, Any] = {}) -> Any:
    """Return an author's template with its references filled in, as seen from a step.

    Args:
        given: Variables beside those of the run, by name.

    Raises:
        InputMissing: A reference names something that does not exist.
    """
    template = template_of(value)
    try:
        return template.render(_lookup(st, plan, env, key, given))
    except ReferenceMissing as exc:
        raise InputMissing(str(exc)) from exc


def _lookup(st: RunState, plan: Plan, env: Env, key: str, given: Mapping[str, Any]) -> Callable[[Reference], Any]:
    _, scope = split_key(key)

    def find(reference: Reference) -> Any:
        root = reference.root
        if root == "nodes":
            found = output_of(st, plan, env, reference.node or "", scope)
            if found is ABSENT:
                known = plan.nodes.get(reference.node or "")
                why = "has no output (skipped, or not reached)" if known else "does not exist"
                raise InputMissing(f"{reference.text!r}: node {reference.node!r} {why}")
            return found
        value = given[root] if root in given else variable(st, plan, env, root, scope, key)
        if value is ABSENT:
            raise InputMissing(f"{reference.text!r}: there is no {root!r} here")
        return value

    return find


def variable(st: RunState, plan: Plan, env: Env, name: str, scope: str, key: str) -> Any:
    """Return a variable other than `nodes` and `output`, or `ABSENT` where it has no meaning."""
    if name == "input":
        return env.load(st.input)
    if name == "item":
        return item_of(st, env, scope)
    if name == "index":
        return _number_of(plan, key, "map")
    if name == "iteration":
        return _number_of(plan, key, "loop")
    if name == "run":
        return run_facts(st)
    if name == "error":
        return _error_of(st, plan, scope, key)
    return ABSENT


def _error_of(st: RunState, plan: Plan, scope: str, key: str) -> Any:
    step = st.steps.get(key)
    if step is None:
        return ABSENT
    if step.failure is not None:
        return msgspec.to_builtins(step.failure)
    for index in step.via:
        source = st.steps.get(source_key(st, plan, index, scope))
        if source is not None and source.failure is not None:
            return msgspec.to_builtins(source.failure)
    return ABSENT


def run_facts(st: RunState) -> dict[str, Any]:
    """Return what conditions and templates may know of the run itself."""
    ledger = st.ledger
    return {
        "id": st.id,
        "workflow": st.workflow,
        "goal": st.goal,
        "labels": st.labels,
        "status": public_status(st) if not st.active else "running",
        "spent": msgspec.to_builtins(ledger.spent),
    }


def bindings(
    st: RunState, plan: Plan, env: Env, key: str, reads: frozenset[str], output: Any
) -> dict[str, Any]:
    """Return the variables of a condition on an edge of a step, only those it reads."""
    _, scope = split_key(key)
    found: dict[str, Any] = {}
    nodes: dict[str, Any] = {}
    for name in reads:
        if name == "output":
            found["output"] = output
        elif name == "nodes":
            continue
        elif name.startswith("nodes."):
            node_id = name[6:]
            value = output_of(st, plan, env, node_id, scope)
            if value is not ABSENT:
                nodes[node_id] = {"output": value}
        else:
            value = variable(st, plan, env, name, scope, key)
            if value is not ABSENT:
                found[name] = value
    if any(name == "nodes" for name in reads) and not nodes:
        for node_id in plan.nodes:
            value = output_of(st, plan, env, node_id, scope)
            if value is not ABSENT:
                nodes[node_id] = {"output": value}
    found["nodes"] = nodes
    return found
