"""What is sure to have happened before a node runs, what every successful run does, and what may run at once.

All of it errs on one side: "may run at once" is said only of nodes that no edge, condition or outcome keeps apart.
Sets are bits, so 10,000 nodes stay cheap.
"""

from __future__ import annotations

from functools import cached_property

from tenuto.domain.graph.cycles import depth_first_order
from tenuto.domain.graph.loops import Adjacency, adjacency, reach
from tenuto.domain.graph.model import Edge, Node
from tenuto.domain.graph.rules.subject import Subject

CLOSE_LOOKS = 500
"""Pairs that are looked at closely, each in the time of a walk over the graph; a definition with more is told less."""


class Order:
    """Answers about one definition that `check` found no problem in."""

    def __init__(self, s: Subject) -> None:
        """Work out nothing yet."""
        self._s = s
        self._looks = CLOSE_LOOKS

    @cached_property
    def sorted(self) -> list[list[str]]:
        """The nodes of each level, each before those it leads to."""
        return [depth_first_order(shape.names, shape.forward) for shape in self._s.shapes]

    @cached_property
    def position(self) -> dict[str, int]:
        """Where each node stands in its level's order."""
        return {name: at for level in self.sorted for at, name in enumerate(level)}

    @cached_property
    def into(self) -> Adjacency:
        """The predecessors of each node over forward edges, implicit ones included."""
        return adjacency((dst, src) for shape in self._s.shapes for src, names in shape.forward.items() for dst in names)

    @cached_property
    def _ended(self) -> dict[str, int]:
        """The nodes of a node's level that are over when it begins, as bits by position."""
        ended: dict[str, int] = {}
        for names in self.sorted:
            for name in names:
                node = self._s.by_id[name].node
                ways = [ended[src] | 1 << self.position[src] for src in self.into.get(name, ())]
                first = ways[0] if ways else 0
                for way in ways[1:]:
                    # A join that does not wait for all leaves the others running, unless it cancels them.
                    first = first | way if node.join == "all" or node.cancel_losers else first & way
                ended[name] = first
        return ended

    def may_overlap(self, a: str, b: str) -> bool:
        """Return whether two nodes of one level may run at the same time in one run."""
        if a == b or self._looks == 0 or self._is_over(a, b) or self._is_over(b, a):
            return False
        self._looks -= 1
        return not self._share_loop_order(a, b) and not self._exclude_each_other(a, b)

    def _is_over(self, a: str, b: str) -> bool:
        return bool(self._ended[b] >> self.position[a] & 1)

    def _share_loop_order(self, a: str, b: str) -> bool:
        """Say whether one is in a loop that leads to the other: passes make what comes first hard to say."""
        shape = self._s.shapes[self._s.by_id[a].level]
        for one, other in ((a, b), (b, a)):
            loop = next((loop for loop in shape.loops if one in loop.body), None)
            if loop is not None and (other not in loop.body) and other in reach([loop.header], shape.forward):
                return True
        return False

    def _exclude_each_other(self, a: str, b: str) -> bool:
        """Say whether a choice before both keeps them apart: then every way to one leaves by another edge."""
        above_a, above_b = reach([a], self.into), reach([b], self.into)
        shape = self._s.shapes[self._s.by_id[a].level]
        for fork in above_a & above_b:
            ways = [(edge, place) for edge, place in self._s.outgoing.get(fork, ()) if edge.max_iterations is None]
            if len(shape.forward.get(fork, ())) < 2:
                continue
            node = self._s.by_id[fork].node
            to_a = [edge for edge, _ in ways if edge.to in above_a]
            to_b = [edge for edge, _ in ways if edge.to in above_b]
            implicit = len(shape.forward.get(fork, ())) > len(ways)
            if implicit or not to_a or not to_b or any(_exclusive(node, x, y) for x in to_a for y in to_b):
                return True
        return False

    # --- what every successful run does ------------------------------------------------------------------------

    @cached_property
    def certain(self) -> set[str]:
        """Nodes that complete in every run that succeeds; of a map's body, in every item."""
        found: set[str] = set()
        for names, shape in zip(self.sorted, self._s.shapes, strict=True):
            cut = {name for name in names if self._s.by_id[name].node.cancel_losers}
            losing = reach(cut, self.into) - cut
            sure: dict[str, int] = {}
            for name in names:
                node = self._s.by_id[name].node
                arrive = sure.get(name, 0)
                need = node.join if isinstance(node.join, int) else 1
                if name in losing or not (shape.n_in[name] == 0 or arrive >= need):
                    continue
                found.add(name)
                edges = [edge for edge, _ in self._s.outgoing.get(name, ()) if edge.max_iterations is None]
                for edge in edges:
                    if _is_certain(node, edge, edges):
                        sure[edge.to] = sure.get(edge.to, 0) + 1
        return found


def _is_certain(node: Node, edge: Edge, edges: list[Edge]) -> bool:
    if edge.on != "success" or edge.when or (node.on_error is not None and node.on_error.action != "escalate"):
        return False
    if node.kind == "agent" and "choices" in node.config:
        return False
    supervisor = node.kind == "agent" and node.config.get("pattern") == "supervisor"
    if supervisor or any(other.on in ("error", "rejected", "limit") for other in edges):
        return False
    return node.route != "first" or len(edges) == 1


def _exclusive(node: Node, x: Edge, y: Edge) -> bool:
    if x is y:
        return False
    supervisor = node.kind == "agent" and (node.config.get("pattern") == "supervisor" or "choices" in node.config)
    return (
        node.route == "first" or supervisor or x.on != y.on or bool(x.when and y.when) or "default" in (x.on, y.on)
    )
