"""What may change when steps are done again: everything their edges lead to, pass by pass and item by item.

A *place* is a node with a prefix of its scope: all steps of the node in that instance of a region or inside it.
Edges are followed whether they were taken or not, because a step done again may route otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tenuto.domain.graph.plan import Plan, PlanNode, split_key
from tenuto.domain.runs.data import frames

Place = tuple[str, str]


def shape_of(plan: Plan, node: PlanNode) -> tuple[tuple[str, str], ...]:
    """Return the kinds and owners of the regions around a node; equal shapes have equal scopes."""
    return tuple((plan.regions[region].kind, plan.regions[region].owner) for region in plan.region_path(node.region))


class Reset:
    """The steps, out of those given, that have to be done again.

    Attributes:
        keys: Grows with every call of `node` and `step`.
    """

    def __init__(self, plan: Plan, keys: Iterable[str]) -> None:
        """Start with nothing to do again.

        Args:
            keys: The steps that have outcomes.
        """
        self.keys: set[str] = set()
        self._plan = plan
        self._by_node: dict[str, list[str]] = defaultdict(list)
        self._passes: dict[str, int] = {}
        for key in keys:
            node, scope = split_key(key)
            self._by_node[node].append(scope)
            at = ""
            for owner, number in frames(scope):
                loop = f"{at}~{owner}"
                self._passes[loop] = max(self._passes.get(loop, 0), number)
                at = f"{loop}.{number}"
        self._done: set[Place] = set()
        self._todo: list[Place] = []

    def step(self, key: str) -> None:
        """Do one step again, and all that follows from it."""
        node, scope = split_key(key)
        if node in self._plan.nodes:
            self.node(node, scope)

    def node(self, node: str, prefix: str) -> None:
        """Do a node again in an instance of a region and everything inside it, and all that follows."""
        self._add(node, prefix)
        while self._todo:
            self._follow(*self._todo.pop())

    def _add(self, node: str, prefix: str) -> None:
        if (node, prefix) in self._done or (node, "") in self._done:
            return
        self._done.add((node, prefix))
        self._todo.append((node, prefix))

    def _mark(self, node: str, prefix: str) -> None:
        for scope in self._by_node.get(node, ()):
            if scope == prefix or scope.startswith(prefix + "~"):
                self.keys.add(node + scope)

    def _follow(self, name: str, prefix: str) -> None:
        node = self._plan.nodes[name]
        self._mark(name, prefix)
        around = frames(prefix)
        path = self._plan.region_path(node.region)
        depth = len(path)
        if node.body is not None:
            self._inside(node.body, prefix)
        for edge in node.out:
            if not edge.back:
                self._add(edge.dst, _cut(around, depth - len(edge.leaves)))
        for region in path:
            depth -= 1
            self._leave(region, around, depth)

    def _inside(self, region: int, prefix: str) -> None:
        """Do everything inside a region again, in all its instances under a prefix."""
        for inner in self._plan.nodes.values():
            if region in self._plan.region_path(inner.region):
                self._add(inner.id, prefix)

    def _leave(self, region: int, around: list[tuple[str, int]], depth: int) -> None:
        """Do again what depends on how an instance of a region ends: later passes, exits, the map around an item.

        Args:
            depth: How many frames are outside of the region.
        """
        shape = self._plan.regions[region]
        outside = _cut(around, depth)
        if shape.kind == "map":
            self._touch_map(shape.owner, outside, around, depth)
            return
        if depth > len(around):
            self._inside(region, outside)
        else:
            at = around[depth][1] if depth < len(around) else 1
            for later in range(at + 1, self._passes.get(f"{outside}~{shape.owner}", 0) + 1):
                self._inside(region, f"{outside}~{shape.owner}.{later}")
        for edge in self._plan.edges:
            if region in edge.leaves:
                further = len(edge.leaves) - edge.leaves.index(region) - 1
                self._add(edge.dst, _cut(around, depth - further))

    def _touch_map(self, owner: str, outside: str, around: list[tuple[str, int]], depth: int) -> None:
        """Let a map gather its results again; its other items stand."""
        place = (f"{owner}|touched", outside)
        if place in self._done:
            return
        self._done.add(place)
        for scope in self._by_node.get(owner, ()):
            if scope == outside or scope.startswith(outside + "~"):
                self.keys.add(owner + scope)
        node = self._plan.nodes[owner]
        for edge in node.out:
            if not edge.back:
                self._add(edge.dst, _cut(around, depth - len(edge.leaves)))


def _cut(around: list[tuple[str, int]], depth: int) -> str:
    """Return the outermost frames of a scope, as a scope."""
    return "".join(f"~{owner}.{number}" for owner, number in around[: max(0, depth)])
