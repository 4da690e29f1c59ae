"""What the rules look at: one definition, its levels and edges by place, and what is known outside of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from tenuto.domain.graph.bodies import Level, levels_of
from tenuto.domain.graph.compile import fallback_edges
from tenuto.domain.graph.loops import Adjacency, Loop, adjacency, find_loops, is_back
from tenuto.domain.graph.model import Definition, Edge, Node
from tenuto.domain.graph.reading import Findings, nearest, pointer


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Names that exist outside of a definition. `None` means unknown, so that such names are not checked.

    Attributes:
        handlers: A name that ends in `.*` stands for every handler with that prefix.
        builtin: Those of the tools that come with Tenuto; they serve nodes that name them as tools, nothing else.
        providers: Of models; with them, a model's name must be one of `models` or begin with one of these and a colon.
        effects: Effect class by handler or `tool:NAME`, where it is not the default.
        deterministic: Handlers that always give the same output for the same input.
        irreversible: Handlers, and tools as `tool:NAME`, that need an approval upstream.
    """

    handlers: frozenset[str] | None = None
    tools: frozenset[str] | None = None
    builtin: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    providers: frozenset[str] | None = None
    predicates: frozenset[str] | None = None
    hooks: frozenset[str] | None = None
    workflows: frozenset[str] | None = None
    effects: dict[str, str] = {}
    deterministic: frozenset[str] = frozenset()
    irreversible: frozenset[str] = frozenset()


def has_name(names: frozenset[str], name: str) -> bool:
    """Return whether a name is among others of which some may stand for a whole prefix (`tool_call.*`)."""
    return name in names or f"{name.partition('.')[0]}.*" in names


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a node is."""

    node: Node
    level: int
    place: str


@dataclass
class Subject:
    """A definition under examination."""

    definition: Definition
    known: Known
    found: Findings = field(default_factory=Findings)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """Every level, parents first."""
        return levels_of(self.definition)

    @cached_property
    def spots(self) -> list[Spot]:
        """Every node, with repeated ids."""
        return [
            Spot(node, index, pointer(level.place, "nodes", at))
            for index, level in enumerate(self.levels)
            for at, node in enumerate(level.nodes)
        ]

    @cached_property
    def by_id(self) -> dict[str, Spot]:
        """The first node of each id."""
        found: dict[str, Spot] = {}
        for spot in self.spots:
            found.setdefault(spot.node.id, spot)
        return found

    @cached_property
    def shapes(self) -> list[Shape]:
        """The graph of each level, without edges that lead nowhere."""
        return [_shape(level) for level in self.levels]

    @cached_property
    def outgoing(self) -> dict[str, list[tuple[Edge, str]]]:
        """The edges that leave each node, with their places."""
        found: dict[str, list[tuple[Edge, str]]] = {}
        for level in self.levels:
            for at, edge in enumerate(level.edges):
                found.setdefault(edge.from_, []).append((edge, pointer(level.place, "edges", at)))
        return found

    def report(self, place: str, message: str, code: str, hint: str = "") -> None:
        """Keep a problem."""
        self.found.add(place, message, code=code, hint=hint)


def check_name(s: Subject, names: frozenset[str] | None, name: str, what: str, place: str) -> None:
    """Report a name that nothing is registered under."""
    if names is not None and name and not has_name(names, name):
        s.report(place, f"there is no {what} {name!r}", f"graph.unknown_{what}", nearest(name, names))


@dataclass(frozen=True, slots=True)
class Shape:
    """The graph of one level.

    Attributes:
        forward: Successors over edges that are not back edges, fallback edges included.
        n_in: Forward edges into each node.
        loops: Outer loops first.
    """

    names: tuple[str, ...]
    edges: tuple[Edge, ...]
    places: tuple[str, ...]
    forward: Adjacency
    n_in: dict[str, int]
    loops: tuple[Loop, ...]

    @property
    def entries(self) -> list[str]:
        """Nodes that nothing leads to."""
        return [name for name in self.names if not self.n_in[name]]


def _shape(level: Level) -> Shape:
    names = {node.id for node in level.nodes}
    kept = [(at, edge) for at, edge in enumerate(level.edges) if edge.from_ in names and edge.to in names]
    implicit = [pair for pair in fallback_edges(level) if set(pair) <= names]
    pairs = [(edge.from_, edge.to) for _, edge in kept if not is_back(edge)] + implicit
    n_in = dict.fromkeys((node.id for node in level.nodes), 0)
    for _, dst in pairs:
        n_in[dst] += 1
    return Shape(
        names=tuple(n_in),
        edges=tuple(edge for _, edge in kept),
        places=tuple(pointer(level.place, "edges", at) for at, _ in kept),
        forward=adjacency(pairs),
        n_in=n_in,
        loops=find_loops((edge for _, edge in kept), implicit),
    )


def text_of(value: Any) -> str:
    """Return a value if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def check_model(s: Subject, name: str, place: str) -> None:
    """Report a model that no provider serves, with the nearest provider."""
    providers, models = s.known.providers, s.known.models or frozenset()
    if providers is None:
        check_name(s, s.known.models, name, "model", place)
        return
    provider, _, model = name.partition(":")
    if not name or "${" in name or name in models or provider in models or (provider in providers and model):
        return
    if provider in providers:
        s.report(place, f"{name!r} names no model of {provider!r}; write {provider}:MODEL", "graph.unknown_model")
        return
    message = f"there is no provider of models {provider!r}; providers are {', '.join(sorted(providers))}"
    s.report(place, message, "graph.unknown_model", nearest(provider, providers))
