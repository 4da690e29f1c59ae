"""Declared inputs that nobody reads, and inputs that are read and cannot be there."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tenuto.domain.base.expression_text import reads_of
from tenuto.domain.base.expressions import CONDITION_VARIABLES
from tenuto.domain.base.reference_text import Segment
from tenuto.domain.base.references import ReferenceSyntaxError, parse_template
from tenuto.domain.graph.analysis.scene import Scene, templates_of
from tenuto.domain.graph.kinds import CONFIG
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requirements import PREDICATE

_DECIDES_OTHERWISE = ("patternProperties", "anyOf", "oneOf", "allOf", "$ref", "not", "propertyNames")


def find_input_faults(scene: Scene) -> None:
    """Report properties of the input schema that nothing reads, and references that it rules out."""
    schema = scene.definition.input_schema
    declared: Any = schema.get("properties") if schema is not None else None
    if schema is None or not isinstance(declared, dict) or any(key in schema for key in _DECIDES_OTHERWISE):
        return
    names = cast("dict[str, Any]", declared)
    read = _reads(scene)
    if schema.get("additionalProperties") is False:
        for name, place in read.items():
            if name and name not in names:
                scene.add("input.undeclared", place, f"the input has no property {name!r}")
    if "" in read or _is_handed_on(scene):
        return
    for name in names:
        if name not in read:
            scene.add("input.unused", pointer("/input_schema/properties", name), f"no node reads {name!r}")


def _reads(scene: Scene) -> dict[str, str]:
    """Return the properties that are read, each with a place; an empty name stands for the whole input."""
    found: dict[str, str] = {}
    for spot in scene.subject.spots:
        for value, place in templates_of(spot):
            try:
                references = parse_template(value).references
            except ReferenceSyntaxError:
                continue
            for reference in references:
                if reference.root == "input":
                    found.setdefault(_first(reference.path), place + reference.place)
        texts = [(spot.node.config.get(key), pointer(spot.place, "config", key)) for key in CONFIG[spot.node.kind].conditions]
        over = spot.node.config.get("over")
        texts.append((over if isinstance(over, str) and "$" not in over else None, pointer(spot.place, "config", "over")))
        for text, place in texts:
            _note_expression(found, text, place)
    for edges in scene.subject.outgoing.values():
        for edge, place in edges:
            _note_expression(found, edge.when, pointer(place, "when"))
    return found


def _note_expression(found: dict[str, str], text: Any, place: str) -> None:
    if not isinstance(text, str) or not text:
        return
    if text.strip().startswith(PREDICATE):
        found.setdefault("", place)
        return
    for path in reads_of(text, CONDITION_VARIABLES).paths:
        if path[0] == "input":
            found.setdefault(path[1] if len(path) > 1 else "", place)


def _first(path: tuple[Segment, ...]) -> str:
    return str(path[0]) if path else ""


def _is_handed_on(scene: Scene) -> bool:
    """Say whether a node that begins a run may get the whole input without saying so."""
    s = scene.subject
    entries = set(s.shapes[0].entries)
    return any(
        spot.node.id in entries and spot.node.input is msgspec.UNSET and not _ignores_input(spot.node.kind, spot.node.config)
        for spot in s.spots
    )


def _ignores_input(kind: str, config: dict[str, Any]) -> bool:
    given = {"function": "args", "agent": "prompt", "aggregate": "over", "filter": "over", "map": "over"}.get(kind)
    return config.get(given) is not None if given else kind in ("http", "transform", "wait", "approval")
