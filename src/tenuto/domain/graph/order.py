"""Orders of a compiled plan that hold for every execution."""

from __future__ import annotations

from collections import deque

from tenuto.domain.graph.plan import Plan


def topological_order(plan: Plan) -> tuple[str, ...]:
    """Return every node after all nodes with a forward edge to it; map bodies come after their map.

    Nodes that are free to come next keep the order they have in the definition.
    """
    waiting = {name: node.n_in for name, node in plan.nodes.items()}
    ready = deque(plan.regions[0].entries)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        node = plan.nodes[name]
        if node.body is not None:
            ready.extend(plan.regions[node.body].entries)
        for edge in node.out:
            if not edge.back:
                waiting[edge.dst] -= 1
                if waiting[edge.dst] == 0:
                    ready.append(edge.dst)
    return tuple(order)


def longest_path(plan: Plan) -> tuple[str, ...]:
    """Return the longest chain of the run's own nodes over forward edges, each loop counted once.

    It is the least number of hops an execution that takes every edge needs.
    """
    best: dict[str, int] = {}
    before: dict[str, str] = {}
    for name in topological_order(plan):
        best.setdefault(name, 1)
        for edge in plan.nodes[name].out:
            if not edge.back and best[name] + 1 > best.get(edge.dst, 1):
                best[edge.dst] = best[name] + 1
                before[edge.dst] = name
    if not best:
        return ()
    at = max(best, key=lambda name: best[name])
    path = [at]
    while at in before:
        at = before[at]
        path.append(at)
    return tuple(reversed(path))
