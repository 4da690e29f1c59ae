"""What a run, or an item of a map, comes to: the outputs of its steps that nothing follows."""

from __future__ import annotations

from typing import Any

from tenuto.domain.graph.plan import parent_scope, split_key
from tenuto.domain.runs.draft import Draft


def leaf_outputs(d: Draft, scope: str, nodes: tuple[str, ...]) -> dict[str, Any]:
    """Return the outputs of the steps directly in a scope that no taken edge left, by node id."""
    found: dict[str, Any] = {}
    for node_id in nodes:
        step = d.st.steps.get(node_id + scope)
        if step is not None and step.leaf and step.out is not None:
            found[node_id] = d.env.load(step.out)
    return found


def run_output(d: Draft) -> dict[str, Any]:
    """Return the outputs of the steps no taken edge left, by node id; of loops, those of the last pass."""
    st = d.st
    found: dict[str, Any] = {}
    for key, step in st.steps.items():
        if not step.leaf or step.out is None or step.status == "cancelled":
            continue
        node_id, scope = split_key(key)
        if not scope or _is_last(d, key):
            found[node_id] = d.env.load(step.out)
    return found


def _is_last(d: Draft, key: str) -> bool:
    return all(
        frame.kind == "loop" and d.st.loops.get(f"{parent_scope(frame.scope)}~{frame.owner}") == frame.number
        for frame in d.plan.frames(key)
    )
