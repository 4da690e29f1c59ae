"""Which results a workflow keeps for others: the policy of a node, and groups of nodes that are kept as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from tenuto.domain.graph.model import Node

POLICIES = ("off", "read_only", "read_through", "write_only")
FIELDS = ("policy", "ttl_s", "max_bytes", "group")
DEFAULT_POLICY = "read_through"
WORKS = ("function", "agent", "http", "transform", "filter", "aggregate")
"""Kinds whose nodes have a result of their own, so that each may be kept by itself."""
PASSES = ("switch", "join")
"""Kinds that only hand on what they are given; they may be members of a group."""


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """What a node wants of the cache.

    Attributes:
        ttl_s: So long a result is kept; `None` is what the settings say.
        max_bytes: Longest result that is kept; `None` is what the settings say.
        group: Nodes of one group are kept as one; empty for a node by itself.
    """

    policy: str = DEFAULT_POLICY
    ttl_s: float | None = None
    max_bytes: int | None = None
    group: str = ""

    @property
    def reads(self) -> bool:
        """Return whether a kept result is taken instead of computing it."""
        return self.policy in ("read_only", "read_through")

    @property
    def writes(self) -> bool:
        """Return whether a computed result is kept."""
        return self.policy in ("write_only", "read_through")


def fields_of(node: Node) -> dict[str, Any]:
    """Return what a node says of the cache, field by field; the short form is its policy."""
    cache = node.cache
    return {} if cache is None else cache if isinstance(cache, dict) else {"policy": cache}


def caching_of(node: Node) -> Caching | None:
    """Return what a checked node wants of the cache; `None` when it has nothing to do with it."""
    if node.cache is None:
        return None
    given = fields_of(node)
    if given.get("policy", DEFAULT_POLICY) == "off":
        return None
    return Caching(**{name: value for name, value in given.items() if name in FIELDS})


class Link(NamedTuple):
    """An edge, as far as groups care."""

    src: str
    dst: str
    when: str
    on: str


class Group(NamedTuple):
    """Nodes that are kept as one.

    Attributes:
        head: The only member that anything outside leads to; the group is looked up when it would begin.
        members: In the author's order, the head among them.
    """

    name: str
    head: str
    members: tuple[str, ...]


def groups_of(nodes: Mapping[str, Node], links: Iterable[Link]) -> dict[str, Group]:
    """Return the groups among checked nodes, by name."""
    named: dict[str, list[str]] = {}
    for name, node in nodes.items():
        caching = caching_of(node)
        if caching is not None and caching.group:
            named.setdefault(caching.group, []).append(name)
    links = list(links) if named else []
    return {group: _group(group, members, links) for group, members in named.items()}


def _group(name: str, members: list[str], links: Iterable[Link]) -> Group:
    heads = heads_of(members, [link for link in links if link.src in members and link.dst in members])
    return Group(name, heads[0] if heads else members[0], tuple(members))


def heads_of(members: Iterable[str], inner: Iterable[Link]) -> list[str]:
    """Return the members that no other member leads to."""
    led = {link.dst for link in inner}
    return [name for name in members if name not in led]
