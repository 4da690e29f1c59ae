"""The key a step's result is kept under: a digest of all that the result follows from, and of nothing else.

In it, for a step by itself:

- the node: `kind`, its `config` with what a redrive changed and with references filled in, and `output_schema`;
- the code: whatever the worker says identifies the handler, the tools and the models (`code`);
- the input: what the step is given, as canonical JSON;
- `reads`: every variable and output that an expression of the config names, with its value;
- for agents also what they may look at: the goal and labels of the run, the outputs of the steps before, and what agents of
  the run have found so far; for a redriven step the guidance a person gave.

Not in it: the node's id, description, `name`, retries, timeouts, joins, effect class, isolation, error handling, resources and
its cache policy; the workflow and its version; the run, the moment and the worker. So equal work in two workflows has one key.
The namespace is not in it either: keys are compared within one.

For a group: that of its head, the node and code of every other member with its input as written, how each member routes, the
edges that decide where between members the run goes, and the value of every output and variable from outside that a member or
such an edge names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tenuto.domain.base.canonical import digest
from tenuto.domain.base.expressions import compile_condition, compile_value
from tenuto.domain.base.references import REQUESTS
from tenuto.domain.graph.caching import Group, Link
from tenuto.domain.graph.kinds import CONFIG
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.plan import Plan, PlanNode, parent_scope, split_key
from tenuto.domain.graph.requests import Unanswered
from tenuto.domain.graph.requirements import PREDICATE
from tenuto.domain.runs import data
from tenuto.domain.runs.inputs import Env
from tenuto.domain.runs.state import ACTIVE_STEP, RunState, Step

FORMAT = 1
"""Counts changes of what is in a key; entries under keys of another format are never found."""

_COSMETIC = ("name",)


def key_of(st: RunState, plan: Plan, env: Env, key: str, code: Mapping[str, Any]) -> str:
    """Return what the result of a step is kept under, `sha256:` and 64 hex digits.

    Args:
        code: What identifies the code, tools and models that would compute it.

    Raises:
        InputMissing: What the step is given does not exist.
        NeedValues: A value is not at hand.
        Unserialisable: Something in it has no JSON form.
    """
    found = plan.node_of(key)
    node, step = found.node, st.steps[key]
    parts = _definition(node, step.config)
    parts["config"] = {**parts["config"], **_rendered(st, plan, env, node, parts["config"], key)}
    parts["reads"] = _reads(st, plan, env, node, parts["config"], key)
    parts["input"] = data.step_input(st, plan, env, key)
    if node.kind == "agent":
        parts["sees"] = _seen_by_agents(st, plan, env, found, key)
    if step.guidance:
        parts["guidance"] = step.guidance
    return digest({"format": FORMAT, "step": parts, "code": code})


def group_key_of(
    st: RunState, plan: Plan, env: Env, head: str, group: Group, codes: Mapping[str, Mapping[str, Any]]
) -> str | None:  # fmt: skip
    """Return what the results of a group are kept under, when its head is about to begin.

    Args:
        codes: As for `key_of`, by member.

    Returns:
        `None` when something that a member reads from outside has no outcome yet, when one reads all nodes, or has begun before,
        or when a registered predicate, which may read anything, decides between members.

    Raises:
        InputMissing: What the head is given does not exist.
        NeedValues: A value is not at hand.
        Unserialisable: Something in it has no JSON form.
    """
    scope = split_key(head)[1]
    others = [name for name in group.members if name != group.head]
    if any(name + scope in st.steps for name in others):
        return None
    parts: dict[str, Any] = {}
    nodes: set[str] = set()
    names: set[str] = set()
    for name in others:
        node = plan.nodes[name].node
        nodes_read, names_read = _names_of(node)
        nodes |= nodes_read
        names |= names_read
        given = None if node.input is msgspec.UNSET else [node.input]
        parts[name] = [_definition(node), given, node.route, codes[name]]
    links = _deciding(plan, group)
    for link in links:
        if link.when.startswith(PREDICATE):
            return None
        reads = compile_condition(link.when).reads if link.when else frozenset[str]()
        nodes |= {name.removeprefix("nodes.") for name in reads if name.startswith("nodes.")}
        names |= {name for name in reads if not name.startswith("nodes.")}
    outside: dict[str, Any] = {}
    for name in sorted(nodes - set(group.members)):
        if not _is_resolved(st, name, scope):
            return None
        value = data.output_of(st, plan, env, name, scope)
        outside[name] = [] if value is data.ABSENT else [value]
    if "nodes" in names:
        return None  # it reads whatever there is
    for name in sorted(names - {"output"}):
        value = data.variable(st, plan, env, name, scope, head)
        outside[f"${name}"] = [] if value is data.ABSENT else [value]
    agents = [name for name in others if plan.nodes[name].node.kind == "agent"]
    seen = _seen_by_agents(st, plan, env, plan.nodes[group.head], head) if agents else None
    return digest({
        "format": FORMAT, "members": parts, "links": [list(link) for link in links], "outside": outside, "sees": seen,
        "head": [group.head, key_of(st, plan, env, head, codes[group.head]), plan.nodes[group.head].node.route],
    })  # fmt: skip


def _deciding(plan: Plan, group: Group) -> list[Link]:
    """Return the edges between members, and those out of the group that are taken instead of one between members."""
    found: list[Link] = []
    for name in group.members:
        node = plan.nodes[name]
        rivals = node.node.route == "first" or any(edge.on == "default" and edge.dst in group.members for edge in node.out)
        for edge in node.out:
            if edge.dst in group.members or (rivals and edge.on == "success"):
                found.append(Link(edge.src, edge.dst, edge.when, edge.on))
    return found


def _names_of(node: Node) -> tuple[set[str], set[str]]:
    """Return the nodes and the other variables that a node's templates and expressions name."""
    nodes: set[str] = set()
    names: set[str] = set()
    held = [node.config[name] for name in CONFIG[node.kind].templates if name in node.config]
    for value in [*held, *(() if node.input is msgspec.UNSET else (node.input,))]:
        for reference in data.template_of(value).references:
            (nodes if reference.node else names).add(reference.node or reference.root)
    for text in expressions_of(node, node.config):
        for name in compile_value(text).reads - {"input"}:  # which is what the node itself is given
            (nodes if name.startswith("nodes.") else names).add(name.removeprefix("nodes."))
    return nodes, names


def _is_resolved(st: RunState, name: str, scope: str) -> bool:
    """Say whether a node has an outcome, here or around the loops and maps."""
    while True:
        step = st.steps.get(name + scope)
        if step is not None:
            return step.status not in ACTIVE_STEP
        if not scope:
            return False
        scope = parent_scope(scope)


def _definition(node: Node, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what of a node can change its result."""
    merged = {**node.config, **(config or {})}
    return {
        "kind": node.kind, "config": {name: value for name, value in merged.items() if name not in _COSMETIC},
        "output_schema": node.output_schema,
    }


def _rendered(st: RunState, plan: Plan, env: Env, node: Node, config: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {
        name: data.render(st, plan, env, config[name], key, {REQUESTS: Unanswered()})
        for name in CONFIG[node.kind].templates if name in config and not _is_expression(node, name, config[name])
    }


def _is_expression(node: Node, name: str, value: Any) -> bool:
    """Say whether a field is CEL: some always are, and the list that filters and aggregates go over may be."""
    return name in CONFIG[node.kind].conditions or (name == "over" and isinstance(value, str) and "$" not in value)


def expressions_of(node: Node, config: Mapping[str, Any]) -> list[str]:
    """Return the CEL texts of a node's config."""
    names = dict.fromkeys((*CONFIG[node.kind].conditions, "over"))
    return [config[name] for name in names if isinstance(config.get(name), str) and _is_expression(node, name, config[name])]


def _reads(st: RunState, plan: Plan, env: Env, node: Node, config: Mapping[str, Any], key: str) -> dict[str, Any]:
    reads: set[str] = set()
    for text in expressions_of(node, config):
        reads |= compile_value(text).reads
    names = frozenset(reads - {"input", "output"})
    return data.bindings(st, plan, env, key, names, None) if names else {}


def _seen_by_agents(st: RunState, plan: Plan, env: Env, node: PlanNode, key: str) -> dict[str, Any]:
    return {
        "goal": st.goal, "labels": st.labels, "before": data.predecessors(st, plan, env, key),
        "found": [
            [plan.title(name), env.load(step.out)] for name, step in sorted(st.steps.items(), key=_finished)
            if step.status == "completed" and step.out is not None and plan.node_of(name).node.kind == "agent"
        ],
    }  # fmt: skip


def _finished(item: tuple[str, Step]) -> tuple[int, str]:
    return item[1].finished_at, item[0]


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kept result: JSON, and what it took."""

    value: msgspec.Raw
    ms: int = 0
    usd_micros: int = 0


class Bundle(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept under one key.

    Attributes:
        results: By node, or under an empty name for a step by itself.
        artifacts: Digests of artifacts that the results speak of; without one of them the bundle is worth nothing.
    """

    results: dict[str, Result]
    artifacts: tuple[str, ...] = ()


encode_bundle = msgspec.json.Encoder().encode
decode_bundle = msgspec.json.Decoder(Bundle).decode
