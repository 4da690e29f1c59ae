"""Which outgoing edges an outcome takes. Conditions are evaluated here, once; the answer is in the journal."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.base.expressions import ExpressionFailed, compile_condition
from tenuto.domain.graph.plan import PlanEdge, PlanNode
from tenuto.domain.runs.data import bindings
from tenuto.domain.runs.draft import Draft
from tenuto.domain.runs.events import DivergenceFound
from tenuto.errors import RoutingFailed

PREDICATE = "py:"
PUSHED_BACK = "pushed_back"
"""The outcome of an approval that sends the run back to an earlier step, which its output names in `to`."""


def route(d: Draft, key: str, node: PlanNode, out: Raw, outcome: str = "success") -> tuple[int, ...] | None:
    """Return the indexes of the edges an outcome takes; `None` when all are plain and all are taken.

    Args:
        outcome: `success`, `error`, `rejected` or `pushed_back`: which edges the outcome speaks for.

    Raises:
        RoutingFailed: A condition could not be evaluated, or is not true or false.
    """
    if node.plain and outcome == "success":
        return None
    taken = _evaluate(d, key, node, out, outcome)
    fork = d.st.fork
    if fork is not None and fork.mode == "freeze":
        return _frozen(d, key, taken)
    return taken


def _evaluate(d: Draft, key: str, node: PlanNode, out: Raw, outcome: str) -> tuple[int, ...]:
    taken: list[int] = []
    default: int | None = None
    first = node.node.route == "first"
    to = d.env.load(out)["to"] if outcome == PUSHED_BACK else ""
    for edge in node.out:
        if edge.on == "default" and outcome == "success":
            default = edge.index
        elif to and edge.dst != to:
            continue
        elif edge.on == outcome and (not edge.when or holds(d, key, edge, out)):
            taken.append(edge.index)
            if first:
                break
    if not taken and default is not None:
        taken.append(default)
    return tuple(taken)


def _frozen(d: Draft, key: str, taken: tuple[int, ...]) -> tuple[int, ...]:
    reused = d.env.reuse.get(key)
    if reused is None or reused.taken is None or tuple(reused.taken) == taken:
        return taken
    d.emit(DivergenceFound(step=key, expected=list(reused.taken), found=list(taken)))
    return tuple(reused.taken)


def holds(d: Draft, key: str, edge: PlanEdge, out: Raw) -> bool:
    """Return whether an edge's condition is true for an outcome.

    Raises:
        RoutingFailed: It cannot be evaluated, or yields something other than true or false.
    """
    place = f"edge {edge.src} -> {edge.dst}"
    if edge.when.startswith(PREDICATE):
        return _ask_predicate(d, key, edge.when[len(PREDICATE) :], out, place)
    expression = compile_condition(edge.when)
    try:
        values = bindings(d.st, d.plan, d.env, key, expression.reads, d.env.load(out))
        if d.failing is not None:
            values["error"] = msgspec.to_builtins(d.failing)
        return bool(expression.evaluate(values))
    except ExpressionFailed as exc:
        raise RoutingFailed(f"{place}: {edge.when!r} failed: {exc}") from exc


def _ask_predicate(d: Draft, key: str, name: str, out: Raw, place: str) -> bool:
    predicate = d.env.predicates.get(name)
    if predicate is None:
        raise RoutingFailed(f"{place}: this worker has no predicate {name!r}")
    values = bindings(d.st, d.plan, d.env, key, frozenset({"output", "input", "nodes", "run"}), d.env.load(out))
    answer: Any
    try:
        answer = predicate(values)
    except Exception as exc:
        raise RoutingFailed(f"{place}: predicate {name!r} raised {type(exc).__name__}: {exc}") from exc
    if not isinstance(answer, bool):
        raise RoutingFailed(f"{place}: predicate {name!r} returned {answer!r}; it must return true or false")
    return answer
