"""Rules of the graph as a whole: ids, edge ends, entries, reachability, cycles and loops."""

from __future__ import annotations

import re

from tenuto.domain.graph.bodies import Level
from tenuto.domain.graph.cycles import all_cycles
from tenuto.domain.graph.loops import Loop, is_back, reach
from tenuto.domain.graph.model import Edge
from tenuto.domain.graph.reading import nearest, pointer
from tenuto.domain.graph.rules.subject import Shape, Subject

NODE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
WORKFLOW_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")


def check_structure(s: Subject) -> None:
    """Report every fault in how nodes and edges hang together."""
    if not WORKFLOW_NAME.fullmatch(s.definition.name):
        message = f"{s.definition.name!r} is no name of a workflow; allowed: letters, digits, '_', '-', '.', '/'"
        s.report("/name", message, "graph.name")
    _check_ids(s)
    for level, shape in zip(s.levels, s.shapes, strict=True):
        if not level.nodes:
            s.report(pointer(level.place, "nodes"), "there are no nodes; at least one is needed", "graph.empty")
            continue
        _check_ends(s, level)
        _check_duplicates(s, level)
        if not _check_cycles(s, shape):
            _check_loops(s, shape)
        _check_reach(s, shape, level)


def _check_ids(s: Subject) -> None:
    first: dict[str, str] = {}
    for spot in s.spots:
        name, place = spot.node.id, pointer(spot.place, "id")
        if not NODE_ID.fullmatch(name):
            message = f"{name!r} is no id of a node; allowed: up to 128 letters, digits, '_' and '-'"
            s.report(place, message, "graph.id")
        if name in first:
            message = f"the id {name!r} is already used at {first[name]}; ids are unique, map bodies included"
            s.report(place, message, "graph.duplicate_id")
        first.setdefault(name, place)


def _check_ends(s: Subject, level: Level) -> None:
    names = {node.id for node in level.nodes}
    for at, edge in enumerate(level.edges):
        for key, name in (("from", edge.from_), ("to", edge.to)):
            if name in names:
                continue
            place = pointer(level.place, "edges", at, key)
            other = s.by_id.get(name)
            if other is None:
                message = f"there is no node {name!r}"
                s.report(place, message, "graph.unknown_node", nearest(name, names))
            else:
                owner = s.levels[other.level].owner
                where = f"inside the body of the map {owner!r}" if owner else "outside the body of this map"
                message = f"{name!r} is {where}; an edge may not cross that boundary"
                s.report(place, message, "graph.crossing", "draw the edge to or from the map itself")


def _check_duplicates(s: Subject, level: Level) -> None:
    seen: dict[tuple[str, str, str, str], int] = {}
    for at, edge in enumerate(level.edges):
        key = (edge.from_, edge.to, edge.on, edge.when)
        if key in seen:
            first = pointer(level.place, "edges", seen[key])
            message = f"the edge {edge.from_!r} -> {edge.to!r} is already at {first}"
            s.report(pointer(level.place, "edges", at), message, "graph.duplicate_edge")
        seen.setdefault(key, at)


def _check_cycles(s: Subject, shape: Shape) -> bool:
    cycles = all_cycles(shape.names, shape.forward)
    for cycle in cycles:
        closing = (cycle[-2], cycle[-1])
        places = [
            place
            for edge, place in zip(shape.edges, shape.places, strict=True)
            if (edge.from_, edge.to) == closing and not is_back(edge)
        ]
        place = places[0] if places else s.by_id[closing[0]].place
        message = f"an unbounded cycle: {' -> '.join(cycle)}"
        s.report(place, message, "graph.cycle", "give the edge that closes it 'max_iterations', or remove it")
    return bool(cycles)


def _check_reach(s: Subject, shape: Shape, level: Level) -> None:
    if not shape.entries:
        message = "there is no entry: every node waits for another"
        s.report(pointer(level.place, "nodes"), message, "graph.no_entry", "leave one node without incoming edges")
    reached = reach(shape.entries, shape.forward)
    for at, node in enumerate(level.nodes):
        if node.id not in reached:
            message = f"{node.id!r} cannot be reached from any entry"
            s.report(pointer(level.place, "nodes", at), message, "graph.unreachable")


def _check_loops(s: Subject, shape: Shape) -> None:
    known = {id(edge) for loop in shape.loops for edge in loop.back}
    for edge, place in zip(shape.edges, shape.places, strict=True):
        if not is_back(edge):
            continue
        spot = pointer(place, "max_iterations")
        if edge.max_iterations is not None and edge.max_iterations < 1:
            message = f"{edge.max_iterations} passes are not possible; allowed: 1 or more"
            s.report(spot, message, "graph.loop_limit")
        if id(edge) not in known:
            message = f"{edge.to!r} does not lead to {edge.from_!r}, so this edge closes no loop"
            s.report(spot, message, "graph.not_a_loop", "leave 'max_iterations' out, or turn the edge round")
    for loop in shape.loops:
        _check_entrance(s, shape, loop)
    _check_limit_edges(s, shape)


def _check_entrance(s: Subject, shape: Shape, loop: Loop) -> None:
    fallbacks = [
        (Edge(from_=src, to=dst), s.by_id[src].place)
        for src, targets in shape.forward.items()
        for dst in targets
        if s.by_id[src].node.on_error is not None
    ]
    seen: set[tuple[str, str]] = set()
    for edge, place in [*zip(shape.edges, shape.places, strict=True), *fallbacks]:
        enters = edge.to in loop.body and edge.to != loop.header and edge.from_ not in loop.body
        if enters and (edge.from_, edge.to) not in seen:
            seen.add((edge.from_, edge.to))
            message = (
                f"{edge.from_!r} -> {edge.to!r} enters the loop of {loop.header!r} in the middle; "
                f"a loop is entered at its header only"
            )
            s.report(place, message, "graph.loop_entry", f"lead the edge to {loop.header!r}")


def _check_limit_edges(s: Subject, shape: Shape) -> None:
    for edge, place in zip(shape.edges, shape.places, strict=True):
        if edge.on != "limit":
            continue
        inside = [loop for loop in shape.loops if edge.from_ in loop.body]
        if not inside:
            message = f"{edge.from_!r} is in no loop, so it has no limit to reach"
            s.report(pointer(place, "on"), message, "graph.limit_edge")
        elif edge.to in inside[-1].body:
            message = f"{edge.to!r} is inside the loop; an edge 'on: limit' leads out of it"
            s.report(pointer(place, "to"), message, "graph.limit_edge")
