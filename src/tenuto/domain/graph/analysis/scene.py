"""What the rules of the analysis look at and where they leave what they find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import msgspec

from tenuto.domain.graph.analysis.order import Order
from tenuto.domain.graph.analysis.rules import RULES, Finding
from tenuto.domain.graph.kinds import CONFIG
from tenuto.domain.graph.model import Definition, Node
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requirements import PREDICATE
from tenuto.domain.graph.rules.nodes import effect_of
from tenuto.domain.graph.rules.subject import Spot, Subject


@dataclass
class Scene:
    """A definition that may be published, with the answers that several rules need."""

    subject: Subject
    found: list[Finding] = field(default_factory=list[Finding])

    @property
    def definition(self) -> Definition:
        """The definition."""
        return self.subject.definition

    @cached_property
    def order(self) -> Order:
        """What comes before what."""
        return Order(self.subject)

    def add(self, id: str, place: str, message: str) -> None:
        """Keep a finding."""
        rule = RULES[id]
        self.found.append(Finding(id, rule.severity, place, message, rule.fix))

    def acts(self, node: Node) -> bool:
        """Return whether a node changes something outside of the run, as far as its definition says."""
        return effect_of(self.subject.known, node) == "effect"


def texts_of(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield every text in a JSON value with its place, without recursion."""
    todo: list[tuple[Any, str]] = [(value, place)]
    while todo:
        item, spot = todo.pop()
        if isinstance(item, str):
            yield item, spot
        elif isinstance(item, dict):
            todo.extend((inner, pointer(spot, key)) for key, inner in cast("dict[str, Any]", item).items())
        elif isinstance(item, list | tuple):
            todo.extend((inner, pointer(spot, at)) for at, inner in enumerate(cast("list[Any]", item)))


def templates_of(spot: Spot) -> Iterator[tuple[Any, str]]:
    """Yield the templates of a node with their places."""
    node = spot.node
    if node.input is not msgspec.UNSET:
        yield node.input, pointer(spot.place, "input")
    for key in CONFIG[node.kind].templates:
        if key in node.config:
            yield node.config[key], pointer(spot.place, "config", key)


def conditions_of(s: Subject) -> Iterator[tuple[str, str]]:
    """Yield every condition that is an expression, with its place."""
    for edges in s.outgoing.values():
        for edge, place in edges:
            text = edge.when.strip()
            if text and not text.startswith(PREDICATE):
                yield text, pointer(place, "when")
    for spot in s.spots:
        text = spot.node.config.get("when") if spot.node.kind == "filter" else None
        if isinstance(text, str) and text.strip():
            yield text, pointer(spot.place, "config", "when")
