"""The compiled form of a definition: what routing needs, resolved once per digest.

Nodes of loops and map bodies live in *regions*. A region instance is a *scope*: the empty string for the
run itself, and one frame `~<owner>.<n>` per enclosing loop pass (from 1) or map item (from 0), outermost first.
A step is a node in a scope; its key is the node's id followed by the scope, which is safe in a URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tenuto.domain.graph.caching import Caching, Group
from tenuto.domain.graph.limits import UNBOUNDED
from tenuto.domain.graph.model import Definition, Node

ROOT = 0


@dataclass(slots=True, eq=False)
class PlanEdge:
    """An edge with its place in the region tree.

    Attributes:
        index: Position in `Plan.edges`; recorded in the journal, so it follows the author's order.
        back: Whether it leads to the header of a loop the source is in.
        limit: Passes allowed, on back edges.
        leaves: Regions (loops) the edge leaves, innermost first; empty inside one region.
        enters: The loop region whose header it enters from outside, or `None`.
    """

    index: int
    src: str
    dst: str
    when: str
    on: str
    back: bool = False
    limit: int = 0
    leaves: tuple[int, ...] = ()
    enters: int | None = None


@dataclass(slots=True, eq=False)
class PlanNode:
    """A node with everything that is looked up per step.

    Attributes:
        region: Index of the innermost region that holds the node.
        need: Taken edges that fire the node: 0 means every edge must be resolved (`all`).
        n_in: Forward edges that arrive at the node, from inside and outside its region.
        out: Outgoing edges in the author's order.
        plain: Whether every outgoing edge is a forward success edge without a condition inside one region.
        body: Region of a map's body, or `None`.
        memo: What is to be looked up before an attempt; `None` for members of a group other than its head.
        group: The group it is a member of, whose results are kept as one.
        map_config: `concurrency` (0 = no limit) and how failures of items count, for maps.
    """

    node: Node
    region: int
    n_in: int = 0
    need: int = 0
    out: tuple[PlanEdge, ...] = ()
    plain: bool = True
    body: int | None = None
    concurrency: int = 0
    tolerate: int = 0
    """Failed items a map survives: 0 = fail fast, -1 = any number (collect)."""
    memo: Caching | None = None
    group: str = ""

    @property
    def id(self) -> str:
        """Return the node's id."""
        return self.node.id


@dataclass(slots=True, eq=False)
class Region:
    """The run itself, a loop, or the body of a map.

    Attributes:
        owner: Header of a loop, the map node of a body, empty for the run.
        members: Nodes directly inside plus loops directly inside: what must be resolved before an instance ends.
        entries: Nodes that start when an instance does (for a loop, its header).
        nodes: Ids of the nodes directly inside.
        single: For a map body of one node: that node's id, whose output is the item's output.
    """

    index: int
    kind: Literal["root", "loop", "map"]
    owner: str
    parent: int
    members: int = 0
    entries: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    single: str = ""


class Frame(NamedTuple):
    """One frame of a scope: a pass of a loop or an item of a map.

    Attributes:
        scope: That begins with it, outermost frames included.
    """

    kind: str
    owner: str
    number: int
    scope: str


@dataclass(slots=True, eq=False)
class Plan:
    """A definition compiled for execution; equal digests have equal plans.

    Attributes:
        handlers: Names of the handlers and tools a worker must have; a worker may have `prefix.*` for many.
        predicates: Names of the registered predicates that conditions ask.
        groups: Nodes whose results are kept as one, by name.
        most_steps: How many steps a run may begin, where its author says so.
    """

    digest: str
    definition: Definition
    nodes: dict[str, PlanNode]
    edges: tuple[PlanEdge, ...]
    regions: tuple[Region, ...]
    handlers: frozenset[str] = field(default_factory=frozenset[str])
    cancels_losers: bool = False
    predicates: frozenset[str] = field(default_factory=frozenset[str])
    groups: dict[str, Group] = field(default_factory=dict[str, Group])
    most_steps: int = UNBOUNDED

    def is_flat(self, region: int) -> bool:
        """Say whether no loop and no map lies inside a region, so that its steps are all directly in its scope."""
        inside = self.regions[region]
        return inside.members == len(inside.nodes) and all(self.nodes[name].body is None for name in inside.nodes)

    def loops_in(self, region: int) -> list[Region]:
        """Return the loops directly inside a region."""
        return [inner for inner in self.regions if inner.parent == region and inner.kind == "loop"]

    def node_of(self, key: str) -> PlanNode:
        """Return the node a step executes; a key without a scope is the node's id itself."""
        node = self.nodes.get(key)
        return node if node is not None else self.nodes[key[: key.find("~")]]

    def frames(self, key: str) -> Iterator[Frame]:
        """Yield the frames of a step's scope, innermost first; a map may head a loop, so owners alone do not tell them."""
        node, scope = split_key(key)
        region = self.nodes[node].region if scope else ROOT
        while scope:
            shape = self.regions[region]
            owner, number = last_frame(scope)
            yield Frame(shape.kind, owner, number, scope)
            scope, region = parent_scope(scope), shape.parent

    def title(self, key: str) -> str:
        """Return a step as its author named it, scope included; the key itself where there is no other name."""
        node, scope = split_key(key)
        found = self.nodes.get(node)
        return str(found.node.config.get("name") or node) + scope if found and found.node.kind == "function" else key

    def key_of(self, title: str) -> str:
        """Return the key of a step given by its author's name, and any other text as it is."""
        if title in self.nodes:
            return title
        return next((name for name in self.nodes if self.title(name) == title), title)

    def region_path(self, region: int) -> list[int]:
        """Return the regions from a region up to the run, innermost first, the run excluded."""
        path: list[int] = []
        while region != ROOT:
            path.append(region)
            region = self.regions[region].parent
        return path


def step_key(node: str, scope: str) -> str:
    """Return the key of a step: stable, unique in its run, safe in a URL."""
    return node + scope


def split_key(key: str) -> tuple[str, str]:
    """Return the node and the scope of a step's key."""
    at = key.find("~")
    return (key, "") if at < 0 else (key[:at], key[at:])


def parent_scope(scope: str) -> str:
    """Return the scope one frame further out."""
    return scope[: scope.rindex("~")]


def last_frame(scope: str) -> tuple[str, int]:
    """Return the owner and the number of the innermost frame."""
    owner, _, number = scope[scope.rindex("~") + 1 :].rpartition(".")
    return owner, int(number)
