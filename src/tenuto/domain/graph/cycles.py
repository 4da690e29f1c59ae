"""Finds the cycles of a directed graph, with their path for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tenuto.domain.graph.loops import Adjacency


def first_cycle(nodes: Iterable[str], towards: Adjacency) -> list[str]:
    """Return a cycle as `[a, b, a]`, or an empty list when the graph has none. Linear, without recursion."""
    done: set[str] = set()
    for start in nodes:
        if start not in done:
            cycle = _cycle_from(start, towards, done)
            if cycle:
                return cycle
    return []


def all_cycles(nodes: Iterable[str], towards: Adjacency) -> list[list[str]]:
    """Return one cycle for each edge that closes one in a depth-first walk; without those edges there is none."""
    done: set[str] = set()
    found: list[list[str]] = []
    for start in nodes:
        if start not in done:
            found.extend(_walk(start, towards, done))
    return found


def _cycle_from(start: str, towards: Adjacency, done: set[str]) -> list[str]:
    return next(_walk(start, towards, done), list[str]())


def _walk(start: str, towards: Adjacency, done: set[str]) -> Iterator[list[str]]:
    path: list[str] = [start]
    at = {start: 0}
    todo = [iter(towards.get(start, ()))]
    while todo:
        following = next(todo[-1], None)
        if following is None:
            todo.pop()
            name = path.pop()
            del at[name]
            done.add(name)
        elif following in at:
            yield [*path[at[following] :], following]
        elif following not in done:
            at[following] = len(path)
            path.append(following)
            todo.append(iter(towards.get(following, ())))


def depth_first_order(nodes: Iterable[str], towards: Adjacency) -> list[str]:
    """Return the nodes of an acyclic graph, each before those it leads to. On a cycle the order means nothing."""
    done: set[str] = set()
    order: list[str] = []
    for start in nodes:
        if start in done:
            continue
        done.add(start)
        todo = [(start, iter(towards.get(start, ())))]
        while todo:
            name, others = todo[-1]
            following = next((other for other in others if other not in done), None)
            if following is None:
                order.append(name)
                todo.pop()
            else:
                done.add(following)
                todo.append((following, iter(towards.get(following, ()))))
    order.reverse()
    return order
