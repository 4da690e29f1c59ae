"""Finds the loops of one level: a header and its natural body for each group of back edges.

A back edge is an edge with `max_iterations`. Without the back edges a level must be acyclic, so everything here
is linear in nodes and edges for each loop.

Source: Aho, Lam, Sethi, Ullman, Compilers, natural loops of a reducible flow graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tenuto.domain.graph.model import Edge

Adjacency = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop: its body includes the header; `back` are the edges that start another pass."""

    header: str
    body: frozenset[str]
    back: tuple[Edge, ...]


def is_back(edge: Edge) -> bool:
    """Return whether the author declared the edge as the back edge of a loop."""
    return edge.max_iterations is not None


def adjacency(pairs: Iterable[tuple[str, str]]) -> Adjacency:
    """Return the successors of every source, in order."""
    found: Adjacency = defaultdict(list)
    for src, dst in pairs:
        found[src].append(dst)
    return found


def reach(starts: Iterable[str], towards: Adjacency, stop: str | None = None) -> set[str]:
    """Return everything reachable from the starts, themselves included, without going past `stop`."""
    seen = set(starts)
    todo = [start for start in seen if start != stop]
    while todo:
        for other in towards.get(todo.pop(), ()):
            if other not in seen:
                seen.add(other)
                if other != stop:
                    todo.append(other)
    return seen


def find_loops(edges: Iterable[Edge], implicit: Iterable[tuple[str, str]] = ()) -> tuple[Loop, ...]:
    """Return the loops of one level, outer loops before the loops inside them.

    A back edge whose target does not lead to its source makes no loop and is left out; `check` reports it.

    Args:
        implicit: Forward edges the author did not write, such as those to fallback nodes.
    """
    edges = tuple(edges)
    back: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        if is_back(edge):
            back[edge.to].append(edge)
    if not back:
        return ()
    extra = tuple(implicit)
    forward = adjacency([(e.from_, e.to) for e in edges if not is_back(e)] + list(extra))
    into = adjacency([(e.to, e.from_) for e in edges] + [(dst, src) for src, dst in extra])
    found: list[Loop] = []
    for header, group in back.items():
        below = reach([header], forward)
        tails = [edge for edge in group if edge.from_ in below]
        if tails:
            body = reach([header, *(edge.from_ for edge in tails)], into, stop=header) & below
            found.append(Loop(header, frozenset(body), tuple(tails)))
    return tuple(sorted(found, key=lambda loop: (-len(loop.body), loop.header)))
