"""Results that are kept of work that should happen each time."""

from __future__ import annotations

from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.reading import pointer
from tenuto.domain.graph.requests import SAFE, method_of, requests_of
from tenuto.domain.graph.requirements import TOOL
from tenuto.domain.graph.rules.subject import text_of


def find_cached_effects(scene: Scene) -> None:
    """Report cached nodes that say they have no effect although what they call is known to have one."""
    known = scene.subject.known.effects
    for spot in scene.subject.spots:
        node = spot.node
        policy = node.cache.get("policy", "read_through") if isinstance(node.cache, dict) else node.cache
        if policy in (None, "off"):
            continue
        name = TOOL + text_of(node.config.get("tool")) if node.config.get("tool") else text_of(node.config.get("handler"))
        reason = ""
        if sent := [method_of(request) for request, _ in requests_of(node) if method_of(request) not in SAFE]:
            reason = f"it sends {', '.join(sent)}"
        elif node.kind == "function" and known.get(name) == "effect":
            reason = f"{name.removeprefix(TOOL)!r} acts on the world"
        if reason:
            scene.add("cache.on_effect", pointer(spot.place, "cache"), f"{node.id!r} is cached, but {reason}")
