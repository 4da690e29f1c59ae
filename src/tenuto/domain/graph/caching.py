"""Which results a workflow keeps for others: the policy of a node, and groups of nodes that are kept as one."""

from __future__ import annotations

from typing import Any

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
    return Caching(**given)
