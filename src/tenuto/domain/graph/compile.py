"""Compiles a checked definition to the plan that routing uses.

The plan is a pure function of the definition, so it is cached by digest and never stored.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, cast

from tenuto.domain.graph.bodies import Level, levels_of
from tenuto.domain.graph.caching import Group, Link, caching_of, groups_of
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.limits import UNBOUNDED
from tenuto.domain.graph.loops import Loop, find_loops, is_back
from tenuto.domain.graph.model import Definition, Node
from tenuto.domain.graph.plan import ROOT, Plan, PlanEdge, PlanNode, Region
from tenuto.domain.graph.requirements import handlers_of, predicates_of

CACHE_SIZE = 1024


def compile_definition(definition: Definition) -> Plan:
    """Return the plan of a definition that `check` found no problem in; on any other the result has no meaning."""
    return _compile(digest_of_definition(definition), definition)


_cache: OrderedDict[str, Plan] = OrderedDict()


def compile_cached(digest: str, definition: Definition) -> Plan:
    """Return the plan of a definition whose digest is known, compiled at most once while it stays in use."""
    plan = _cache.get(digest)
    if plan is None:
        plan = _cache[digest] = _compile(digest, definition)
        if len(_cache) > CACHE_SIZE:
            _cache.popitem(last=False)
    return plan


def cached_plan(digest: str) -> Plan | None:
    """Return the plan of a digest that is in use already."""
    return _cache.get(digest)


def fallback_edges(level: Level) -> tuple[tuple[str, str], ...]:
    """Return the error edges to fallback nodes that the author left implicit."""
    written = {(edge.from_, edge.to) for edge in level.edges if edge.on == "error"}
    pairs = [
        (node.id, node.on_error.fallback.node)
        for node in level.nodes
        if node.on_error is not None and node.on_error.fallback is not None and node.on_error.fallback.node
    ]
    return tuple(pair for pair in pairs if pair not in written)


def _compile(digest: str, definition: Definition) -> Plan:
    build = _Build()
    levels = levels_of(definition)
    tops: list[int] = []
    for level in levels:
        tops.append(build.add_level(level, parent=tops[level.parent] if tops else ROOT))
    for level in levels:
        build.add_edges(level)
    for level in levels:
        build.add_fallbacks(level)
    build.finish()
    return Plan(
        digest=digest,
        definition=definition,
        nodes=build.nodes,
        edges=tuple(build.edges),
        regions=tuple(build.regions),
        handlers=handlers_of(definition),
        predicates=predicates_of(definition),
        most_steps=(definition.limits.steps if definition.limits else None) or UNBOUNDED,
        cancels_losers=any(node.node.cancel_losers for node in build.nodes.values()),
        groups=build.groups,
    )


@dataclass(slots=True)
class _Build:
    """The plan while it grows: regions first, then edges, then what counts them."""

    nodes: dict[str, PlanNode] = field(default_factory=dict[str, PlanNode])
    edges: list[PlanEdge] = field(default_factory=list[PlanEdge])
    regions: list[Region] = field(default_factory=list[Region])
    tops: list[int] = field(default_factory=list[int])
    level_nodes: list[tuple[Node, ...]] = field(default_factory=list[tuple[Node, ...]])
    out: dict[str, list[PlanEdge]] = field(default_factory=dict[str, list[PlanEdge]])
    groups: dict[str, Group] = field(default_factory=dict[str, Group])

    def add_level(self, level: Level, parent: int) -> int:
        """Add a level's regions and nodes; return the index of the level's own region."""
        owner = self.nodes.get(level.owner)
        top = len(self.regions)
        kind = "root" if owner is None else "map"
        self.regions.append(Region(top, kind, level.owner, parent if owner is None else owner.region))
        if owner is not None:
            owner.body = top
        self.tops.append(top)
        self.level_nodes.append(level.nodes)
        inside = dict.fromkeys((node.id for node in level.nodes), top)
        for loop in find_loops(level.edges, fallback_edges(level)):
            self._add_loop(loop, inside)
        for node in level.nodes:
            self.nodes[node.id] = _plan_node(node, inside[node.id])
        return top

    def _add_loop(self, loop: Loop, inside: dict[str, int]) -> None:
        index = len(self.regions)
        self.regions.append(Region(index, "loop", loop.header, inside[loop.header], entries=(loop.header,)))
        for name in loop.body:
            inside[name] = index

    def add_edges(self, level: Level) -> None:
        """Add the edges the author wrote."""
        for edge in level.edges:
            self._add_edge(edge.from_, edge.to, edge.when, edge.on, back=is_back(edge), limit=edge.max_iterations or 0)

    def add_fallbacks(self, level: Level) -> None:
        """Add the error edges that fallback nodes imply; they come after every author's edge."""
        for src, dst in fallback_edges(level):
            self._add_edge(src, dst, "", "error")

    def _add_edge(self, src: str, dst: str, when: str, on: str, *, back: bool = False, limit: int = 0) -> None:
        inner, outer = self._path(self.nodes[src].region), self._path(self.nodes[dst].region)
        edge = PlanEdge(
            index=len(self.edges),
            src=src,
            dst=dst,
            when=when,
            on=on,
            back=back,
            limit=limit,
            leaves=tuple(region for region in inner if region not in outer),
            enters=next((region for region in outer if region not in inner), None),
        )
        self.edges.append(edge)
        self.out.setdefault(src, []).append(edge)
        if not back:
            self.nodes[dst].n_in += 1

    def _path(self, region: int) -> list[int]:
        """Return a region and those around it, innermost first, the run excluded."""
        path: list[int] = []
        while region != ROOT:
            path.append(region)
            region = self.regions[region].parent
        return path

    def finish(self) -> None:
        """Count members, name entries and mark the nodes whose edges need no decision."""
        direct: dict[int, list[str]] = {region.index: [] for region in self.regions}
        for name, node in self.nodes.items():
            direct[node.region].append(name)
            node.out = tuple(self.out.get(name, ()))
            node.plain = _is_plain(node)
        for region in self.regions:
            region.nodes = tuple(direct[region.index])
            region.members += len(region.nodes)
            if region.kind == "loop":
                self.regions[region.parent].members += 1
        self.groups = groups_of(
            {name: node.node for name, node in self.nodes.items()},
            [Link(edge.src, edge.dst, edge.when, edge.on) for edge in self.edges if not edge.back],
        )
        for group in self.groups.values():
            for name in group.members:
                self.nodes[name].group = group.name
                if name != group.head:
                    self.nodes[name].memo = None
        for top, nodes in zip(self.tops, self.level_nodes, strict=True):
            region = self.regions[top]
            region.entries = tuple(node.id for node in nodes if self.nodes[node.id].n_in == 0)
            if region.kind == "map" and len(region.nodes) == 1 and region.members == 1:
                region.single = region.nodes[0]


def _plan_node(node: Node, region: int) -> PlanNode:
    need = {"all": 0, "any": 1}.get(node.join, 0) if isinstance(node.join, str) else node.join
    config = node.config if node.kind == "map" else {}
    return PlanNode(
        node=node,
        region=region,
        need=need,
        memo=caching_of(node),
        concurrency=int(config.get("concurrency") or 0),
        tolerate=_tolerated(config.get("on_failure", "fail_fast")),
    )


def _tolerated(policy: Any) -> int:
    if policy == "collect":
        return -1
    return int(cast("dict[str, Any]", policy).get("tolerate", 0)) if isinstance(policy, dict) else 0


def _is_plain(node: PlanNode) -> bool:
    if node.node.route == "first" and len(node.out) > 1:
        return False
    return all(
        edge.on == "success" and not edge.when and not edge.back and not edge.leaves and edge.enters is None
        for edge in node.out
    )
