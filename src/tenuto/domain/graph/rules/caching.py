"""Rules of the cache: which nodes may take a kept result instead of doing their work."""

from __future__ import annotations

from typing import Any

from tenuto.domain.graph.caching import DEFAULT_POLICY, FIELDS, PASSES, POLICIES, WORKS, fields_of
from tenuto.domain.graph.model import Node
from tenuto.domain.graph.reading import nearest, pointer
from tenuto.domain.graph.requirements import TOOL
from tenuto.domain.graph.rules.data import Upstream
from tenuto.domain.graph.rules.groups import check_group
from tenuto.domain.graph.rules.nodes import effect_of
from tenuto.domain.graph.rules.subject import Known, Spot, Subject, text_of

_HINT = "leave 'cache' out, or declare the node 'pure', or 'idempotent' and 'deterministic'"


def check_caching(s: Subject) -> None:
    """Report every fault in what nodes want of the cache."""
    named: dict[str, list[Spot]] = {}
    for spot in s.spots:
        if spot.node.cache is None:
            continue
        fields = fields_of(spot.node)
        _check_fields(s, spot, fields)
        group = fields.get("group")
        if isinstance(group, str) and group and fields.get("policy", DEFAULT_POLICY) != "off":
            named.setdefault(group, []).append(spot)
    upstream = Upstream(s) if named else None
    for group, spots in named.items():
        assert upstream is not None
        check_group(s, group, spots, upstream)


def why_not_cacheable(known: Known, node: Node) -> str:
    """Return why the result of a node may not be kept, as the rest of a sentence; empty when it may."""
    if node.kind in PASSES and fields_of(node).get("group"):
        return ""
    if node.kind not in WORKS:
        return f"a node of kind {node.kind!r} has no result of its own"
    effect = effect_of(known, node)
    if effect == "effect":
        return "it has an effect, which a cached result would leave out"
    tool = text_of(node.config.get("tool"))
    name = TOOL + tool if tool else text_of(node.config.get("handler"))
    if effect == "idempotent" and not node.deterministic and name not in known.deterministic:
        return "it is idempotent, which does not mean that its result is always the same"
    return ""


def _check_fields(s: Subject, spot: Spot, fields: dict[str, Any]) -> None:
    place = pointer(spot.place, "cache")
    for key in fields:
        if key not in FIELDS:
            s.found.unknown_field(place, key, FIELDS, "a cache policy")
    policy = fields.get("policy", DEFAULT_POLICY)
    if policy not in POLICIES:
        message = f"{policy!r} is no cache policy; allowed: {', '.join(POLICIES)}"
        s.report(place, message, "graph.cache", nearest(str(policy), POLICIES))
    for name, allowed in (("ttl_s", "more than 0 seconds"), ("max_bytes", "a whole number of bytes, more than 0")):
        value = fields.get(name)
        fits = isinstance(value, int if name == "max_bytes" else int | float) and not isinstance(value, bool)
        if value is not None and not (fits and value > 0):
            s.report(pointer(place, name), f"{value!r} is not allowed; allowed: {allowed}", "graph.cache")
    group = fields.get("group")
    if group is not None and not (isinstance(group, str) and group):
        s.report(pointer(place, "group"), f"{group!r} is no name of a group; allowed: text that is not empty", "graph.cache")
    if policy == "off":
        return
    reason = why_not_cacheable(s.known, spot.node)
    if reason:
        s.report(place, f"{spot.node.id!r} cannot be cached: {reason}", "graph.cache", _HINT)
