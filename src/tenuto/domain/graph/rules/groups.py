"""Rules of groups that are kept as one: a region with one way in, whose results follow from what its head begins with.

A group is one level and one loop pass; only its head is led to from outside; every other member waits for all of its edges;
and whatever its members read from outside has an outcome before the head begins. Edges out of it may leave from any member.
"""

from __future__ import annotations

from tenuto.domain.base.references import ReferenceSyntaxError, parse_template
from tenuto.domain.graph.caching import Link, fields_of, heads_of
from tenuto.domain.graph.compile import fallback_edges
from tenuto.domain.graph.kinds import CONFIG
from tenuto.domain.graph.loops import is_back
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requirements import PREDICATE
from tenuto.domain.graph.rules.data import Upstream, templates
from tenuto.domain.graph.rules.subject import Spot, Subject
from tenuto.domain.graph.rules.texts import nodes_read

_CODE = "graph.cache_group"


def check_group(s: Subject, name: str, spots: list[Spot], upstream: Upstream) -> None:
    """Report what keeps nodes from being kept as one."""
    first = spots[0]
    fields = {key: value for key, value in fields_of(first.node).items() if key != "group"}
    for spot in spots[1:]:
        place = pointer(spot.place, "cache")
        if spot.level != first.level:
            s.report(place, f"group {name!r}: {spot.node.id!r} is not in the same graph as {first.node.id!r}", _CODE)
        elif {key: value for key, value in fields_of(spot.node).items() if key != "group"} != fields:
            message = f"group {name!r}: {spot.node.id!r} wants something else of the cache than {first.node.id!r}"
            s.report(place, message, _CODE, "give all members the same policy and limits")
    if any(spot.level != first.level for spot in spots):
        return
    members = {spot.node.id: spot for spot in spots}
    _check_loops(s, name, members)
    head = _check_ways_in(s, name, members)
    if head is not None:
        for spot in spots:
            _check_reads(s, name, spot, head, members, upstream)


def _check_loops(s: Subject, name: str, members: dict[str, Spot]) -> None:
    for loop in s.shapes[next(iter(members.values())).level].loops:
        inside = [member for member in members if member in loop.body]
        if inside and (len(inside) < len(members) or any(e.from_ in members and e.to in members for e in loop.back)):
            message = f"group {name!r}: the loop at {loop.header!r} crosses its border or lies inside it"
            hint = "group nodes of one pass of a loop, or nodes outside of it"
            s.report(pointer(members[inside[0]].place, "cache", "group"), message, _CODE, hint)


def _check_ways_in(s: Subject, name: str, members: dict[str, Spot]) -> Spot | None:
    """Report ways into a group beside its head; return the head, if there is one."""
    level = s.levels[next(iter(members.values())).level]
    links = [Link(edge.from_, edge.to, edge.when, edge.on) for edge in level.edges if not is_back(edge)]
    links += [Link(src, dst, "", "error") for src, dst in fallback_edges(level)]
    back = [edge.to for edge in level.edges if is_back(edge)]
    heads = heads_of(members, [link for link in links if link.src in members and link.dst in members])
    if len(heads) != 1:
        found = f"{len(heads)} heads ({', '.join(map(repr, heads))})"
        message = f"group {name!r} has {found}; allowed: one node that leads to all others"
        s.report(pointer(members[heads[-1] if heads else next(iter(members))].place, "cache", "group"), message, _CODE)
        return None
    for member, spot in members.items():
        if member == heads[0]:
            continue
        outside = [link.src for link in links if link.dst == member and link.src not in members]
        if outside or member in back:
            message = f"group {name!r}: {member!r} is led to from outside, by {outside[0] if outside else 'a back edge'!r}"
            hint = f"let only its head, {heads[0]!r}, be led to"
            s.report(pointer(spot.place, "cache", "group"), message, _CODE, hint)
        if spot.node.join != "all":
            message = f"group {name!r}: {member!r} does not wait for all of its edges, so its result depends on their order"
            s.report(pointer(spot.place, "join"), message, _CODE)
    return members[heads[0]]


def _check_reads(
    s: Subject, name: str, spot: Spot, head: Spot, members: dict[str, Spot], upstream: Upstream
) -> None:  # fmt: skip
    """Report what a member reads that has no outcome yet when the head begins."""
    for node, place in _reads(s, spot):
        other = s.by_id.get(node)
        if node in members or other is None:
            continue
        if not upstream.can_see(head, node):
            message = f"group {name!r}: {spot.node.id!r} reads {node!r}, which need not have run when {head.node.id!r} begins"
            s.report(place, message, _CODE, f"draw an edge from {node!r} to {head.node.id!r}")


def _reads(s: Subject, spot: Spot) -> list[tuple[str, str]]:
    """Return the nodes that a node and its conditions name, with the places."""
    found: list[tuple[str, str]] = []
    for value, place in templates(spot):
        try:
            found += [(one.node, place + one.place) for one in parse_template(value).references if one.node]
        except ReferenceSyntaxError:
            continue  # reported already
    config = spot.node.config
    texts = [(config.get(key), pointer(spot.place, "config", key), False) for key in (*CONFIG[spot.node.kind].conditions, "over")]
    texts += [(edge.when, pointer(place, "when"), True) for edge, place in s.outgoing.get(spot.node.id, ())]
    for text, place, condition in texts:
        if isinstance(text, str) and text and not text.startswith(PREDICATE) and "${" not in text:
            found += [(node, place) for node in nodes_read(text, condition=condition)]
    return found
