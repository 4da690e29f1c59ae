"""Turns a plain list of named steps into a definition.

What does a step's work follows from its name: the step or tool of that very name, or of its prefix before the first
dot. Where there is a handler `noop`, as in the bundled examples, it serves every other name; elsewhere such a name is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from tenuto.domain.graph.cycles import first_cycle
from tenuto.domain.graph.loops import adjacency
from tenuto.domain.graph.model import Definition, Edge, Node
from tenuto.domain.graph.reading import Findings, json_copy, kind_of, nearest, pointer
from tenuto.domain.graph.rules.subject import Known, has_name
from tenuto.errors import InvalidGraph

PREFIXES = ("tool_call", "llm_call")
NOOP = "noop"
_FIELDS = ("name", "input", "dependsOn", "depends_on")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(slots=True)
class _Step:
    """One step as read; `needs` are names with their places."""

    name: str
    place: str
    node: str = ""
    input: Any = msgspec.UNSET
    needs: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def steps_to_definition(document: Any, known: Known | None = None, *, name: str = "steps") -> Definition:
    """Return the definition of a step list `{goal?, steps: [{name, input?, dependsOn?}]}`.

    A step gets its own `input`, whatever it depends on; without one it gets the outputs of what it depends on.

    Args:
        known: What steps may ask for; without it, `tool_call.*`, `llm_call.*` and `noop`.

    Raises:
        InvalidGraph: Names are missing or repeated, nothing serves one, a dependency does not exist, or steps wait
            for each other; `problems` has every fault with its place.
    """
    found = Findings()
    top: Any = json_copy(document, "", found)
    if isinstance(top, list):
        top = {"steps": cast("list[Any]", top)}
    fields = cast("dict[str, Any]", top) if isinstance(top, dict) else {}
    items = fields.get("steps")
    if not isinstance(items, list) or not items:
        found.add("/steps", f"is {kind_of(items)}; allowed: a list of at least one step", code="steps.none")
        items = []
    steps = [_read_step(item, pointer("/steps", at), found) for at, item in enumerate(cast("list[Any]", items))]
    steps = [step for step in steps if step is not None]
    edges = _link(steps, found)
    served = {step.name: _served(step, known, found) for step in steps}
    if found.items:
        raise InvalidGraph("the list of steps is not valid", problems=tuple(found.items))
    goal = fields.get("goal")
    return Definition(
        name=name,
        nodes=tuple(_node(step, served[step.name]) for step in steps),
        edges=tuple(edges),
        description=goal if isinstance(goal, str) else "",
    )


def served_by(name: str, known: Known | None = None) -> dict[str, str] | None:
    """Return what does the work of a step of this name, as a node's config has it; `None` when nothing does."""
    prefix, dot, _ = name.partition(".")
    if known is None or known.handlers is None:
        return {"handler": name if dot and prefix in PREFIXES else NOOP}
    if has_name(known.handlers, name):
        return {"handler": name}
    tools = (known.tools or frozenset[str]()) - known.builtin
    for asked in (prefix, name):
        if asked in known.handlers:
            return {"handler": asked}
        if asked in tools:
            return {"tool": asked}
    return {"handler": NOOP} if NOOP in known.handlers else None


def _served(step: _Step, known: Known | None, found: Findings) -> dict[str, str]:
    config = served_by(step.name, known)
    if config is not None:
        return config
    assert known is not None
    names = (known.handlers or frozenset[str]()) | ((known.tools or frozenset[str]()) - known.builtin)
    prefix = step.name.partition(".")[0]
    message = f"no step or tool serves {step.name!r}: there is neither {step.name!r} nor {prefix!r}"
    hint = nearest(step.name, names) or nearest(prefix, names) or (
        f"there are {', '.join(sorted(names)[:10])}" if names else "register one with `@app.step`"
    )
    found.add(pointer(step.place, "name"), message, hint=hint, code="graph.unknown_handler")
    return {}


def _read_step(data: Any, place: str, found: Findings) -> _Step | None:
    if not isinstance(data, dict):
        found.add(place, f"a step is an object with 'name', not {kind_of(data)}", code="graph.type")
        return None
    fields = cast("dict[str, Any]", data)
    for key in fields:
        if key not in _FIELDS:
            found.unknown_field(place, key, _FIELDS, "a step")
    title = fields.get("name")
    if not isinstance(title, str) or not title.strip():
        found.add(pointer(place, "name"), "a step needs a 'name' of text", code="graph.missing_field")
        return None
    key = "dependsOn" if "dependsOn" in fields else "depends_on"
    names: Any = fields.get(key) or []
    if not isinstance(names, list) or not all(isinstance(item, str) for item in cast("list[Any]", names)):
        found.add(pointer(place, key), f"is {kind_of(names)}; allowed: a list of step names", code="graph.type")
        names = []
    needs = [(item, pointer(place, key, at)) for at, item in enumerate(cast("list[str]", names))]
    return _Step(title, place, input=fields.get("input", msgspec.UNSET), needs=needs)


def _link(steps: list[_Step], found: Findings) -> list[Edge]:
    """Name the nodes and return the edges of the dependencies, noting every name that does not work."""
    by_name: dict[str, _Step] = {}
    taken: set[str] = set()
    for step in steps:
        if step.name in by_name:
            other = by_name[step.name].place
            message = f"the name {step.name!r} is already used by {other}"
            found.add(pointer(step.place, "name"), message, code="graph.duplicate_id")
            continue
        step.node = _unique(step.name, taken)
        taken.add(step.node)
        by_name[step.name] = step
    edges: list[Edge] = []
    for step in by_name.values():
        for need, place in dict(step.needs).items():
            if need not in by_name:
                message = f"{step.name!r} depends on {need!r}, which does not exist"
                found.add(place, message, hint=nearest(need, by_name), code="graph.unknown_node")
            else:
                edges.append(Edge(from_=by_name[need].node, to=step.node))
    _check_cycle(by_name, found)
    return edges


def _check_cycle(by_name: dict[str, _Step], found: Findings) -> None:
    pairs = [(need, step.name) for step in by_name.values() for need, _ in step.needs if need in by_name]
    cycle = first_cycle(by_name, adjacency(pairs))
    if cycle:
        message = f"these steps wait for each other: {' -> '.join(cycle)}"
        found.add(by_name[cycle[0]].place, message, hint="remove one of the dependencies", code="graph.cycle")


def _unique(name: str, taken: Iterable[str]) -> str:
    base = _UNSAFE.sub("_", name).strip("_") or "step"
    candidate, n = base, 1
    while candidate in taken:
        n += 1
        candidate = f"{base}_{n}"
    return candidate


def _node(step: _Step, served: dict[str, str]) -> Node:
    return Node(
        id=step.node,
        kind="function",
        config={**served, "name": step.name},
        input=step.input,
        description="" if step.node == step.name else step.name,
    )
