"""Two runs side by side: what differs in outcome, steps, routing, cost and time, and where they first part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from tenuto.domain.graph.plan import Plan, last_frame, parent_scope, split_key
from tenuto.domain.runs.state import RunState, Step, public_status
from tenuto.domain.runs.views import View

STEPS_SHOWN = 1000
_decode = msgspec.json.Decoder().decode


class StepDiff(View):
    """One step that is not the same in both runs.

    Attributes:
        change: `added` (only in b), `removed` (only in a), `changed`.
        fields: For `changed`: field name -> `[value in a, value in b]`.
    """

    step: str
    node: str
    change: str
    fields: dict[str, list[Any]] = {}


class RunDiff(View):
    """What differs between two runs; every `[a, b]` list has exactly two members.

    Attributes:
        same: Whether status, output, steps and routing are equal; ids, times and cost do not count.
        steps: At most 1,000 of the `n_changed_steps` that differ.
        routing: Edges, as `source -> target`, taken in one run and not in the other: `only_a`, `only_b`.
        first: The earliest step, in the order they ended, whose outcome differs; `None` when none does.
    """

    a: str
    b: str
    same: bool
    version: list[str] = []
    status: list[str] = []
    input: list[Any] = []
    output: list[Any] = []
    steps: list[StepDiff] = []
    n_same_steps: int = 0
    n_changed_steps: int = 0
    routing: dict[str, list[str]] = {}
    cost: dict[str, list[int]] = {}
    duration_ms: list[int] = []
    first: StepDiff | None = None


def diff_runs(a: RunState, plan_a: Plan, b: RunState, plan_b: Plan) -> RunDiff:
    """Compare two runs as they stand. Equal values have equal digests, so large ones need not be loaded."""
    folded = _folded(a, b) | _folded(b, a)
    changed = list(_steps(a, b, folded))
    routes_a, routes_b = _routes(a, plan_a, folded), _routes(b, plan_b, folded)
    routing = {"only_a": sorted(routes_a - routes_b), "only_b": sorted(routes_b - routes_a)}
    status = [public_status(a), public_status(b)]
    total = sum(not _within(key, folded) for key in a.steps.keys() | b.steps.keys())
    same = not changed and status[0] == status[1] and _equal(a.output, b.output) and routes_a == routes_b
    return RunDiff(
        a=a.id, b=b.id, same=same, version=[a.digest, b.digest], status=status,
        input=[_plain(a.input), _plain(b.input)], output=[_plain(a.output), _plain(b.output)],
        steps=changed[:STEPS_SHOWN], n_same_steps=total - len(changed), n_changed_steps=len(changed),
        routing=routing, cost=_cost(a, b), duration_ms=[_duration(a), _duration(b)], first=_first(a, b, changed),
    )


def _folded(a: RunState, b: RunState) -> frozenset[str]:
    """Return the scopes of maps that only one of the runs went through: the other took their outcome over as a whole."""
    return frozenset(
        "{1}~{0}".format(*split_key(key)) for key in a.maps
        if key not in b.maps and (step := b.steps.get(key)) is not None and step.status in ("completed", "failed")
    )


def _within(key: str, folded: frozenset[str]) -> bool:
    """Return whether a step belongs to an item of such a map."""
    scope = split_key(key)[1] if folded else ""
    while scope:
        owner, _ = last_frame(scope)
        scope = parent_scope(scope)
        if f"{scope}~{owner}" in folded:
            return True
    return False


def _steps(a: RunState, b: RunState, folded: frozenset[str]) -> Iterator[StepDiff]:
    for key, step in a.steps.items():
        if _within(key, folded):
            continue
        other = b.steps.get(key)
        if other is None:
            yield StepDiff(step=key, node=split_key(key)[0], change="removed", fields=_fields(step, None))
            continue
        fields = _fields(step, other)
        if fields:
            yield StepDiff(step=key, node=split_key(key)[0], change="changed", fields=fields)
    for key, other in b.steps.items():
        if key not in a.steps and not _within(key, folded):
            yield StepDiff(step=key, node=split_key(key)[0], change="added", fields=_fields(None, other))


def _fields(a: Step | None, b: Step | None) -> dict[str, list[Any]]:
    """Return the outcome fields that differ; a step that is not there has none."""
    fields: dict[str, list[Any]] = {}
    statuses = [a.status if a else None, b.status if b else None]
    if statuses[0] != statuses[1]:
        fields["status"] = statuses
    outs = [a.out if a else None, b.out if b else None]
    if not _equal(outs[0], outs[1]):
        fields["output"] = [_plain(outs[0]), _plain(outs[1])]
    errors = [a.failure.message if a and a.failure else None, b.failure.message if b and b.failure else None]
    if errors[0] != errors[1]:
        fields["error"] = errors
    return fields


def _first(a: RunState, b: RunState, changed: list[StepDiff]) -> StepDiff | None:
    """Return the difference that came first: by the end of its step, then by the order steps began."""
    begun = {key: place for place, key in enumerate([*b.steps, *a.steps])}

    def ended(item: StepDiff) -> tuple[int, int]:
        step = a.steps.get(item.step) or b.steps[item.step]
        return (step.finished_at or 1 << 62, begun[item.step])

    return min(changed, key=ended, default=None)


def _routes(st: RunState, plan: Plan, folded: frozenset[str]) -> set[str]:
    """Return the edges taken, by the scope they led into."""
    found: set[str] = set()
    for key, step in st.steps.items():
        if _within(key, folded):
            continue
        scope = split_key(key)[1]
        for index in step.via:
            edge = plan.edges[index]
            found.add(f"{edge.src} -> {edge.dst}{scope}")
    return found


def _cost(a: RunState, b: RunState) -> dict[str, list[int]]:
    left, right = a.ledger.spent, b.ledger.spent
    return {
        "tokens": [left.tokens, right.tokens],
        "tool_calls": [left.tool_calls, right.tool_calls],
        "cost_usd_micros": [left.cost_usd_micros, right.cost_usd_micros],
        "attempts": [sum(step.attempt for step in st.steps.values()) for st in (a, b)],
    }


def _duration(st: RunState) -> int:
    return max(0, (st.finished_at or st.t) - st.started_at) if st.started_at else 0


def _equal(a: Raw | None, b: Raw | None) -> bool:
    if a is None or b is None:
        return a is b
    return bytes(a) == bytes(b) or _decode(a) == _decode(b)


def _plain(value: Raw | None) -> Any:
    return None if value is None else _decode(value)
