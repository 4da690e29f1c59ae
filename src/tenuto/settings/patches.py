"""On what terms the graph of a run may be patched while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.domain.overlays.operations import Bounds
from tenuto.domain.overlays.terms import Terms
from tenuto.settings.keys import between, key, meant

RULES = ("agent", "person", "optimizer", "effects", "agents", "large", "all")


def _rules(value: tuple[str, ...]) -> str:
    for rule in value:
        if rule not in RULES:
            return f"{rule!r} is no rule; allowed: {', '.join(RULES)}" + meant(rule, RULES)
    return ""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Terms of patches; a workflow may set its own."""

    approval: tuple[str, ...] = key(
        ("effects",),
        "which patches wait for a person: all, those by an agent, optimizer or person, or those by an agent or optimizer that "
        "add agents, touch what acts on the world (effects), or touch more nodes than patches.large (large)",
        _rules,
    )
    large: int = key(5, "nodes that a patch may add, remove or change without being large", between(0, 100_000))
    max_agents: int = key(5, "agent nodes of a patched graph, unless it began with more", between(0, 1000))
    max_nodes: int = key(500, "nodes of a patched graph", between(1, 100_000))
    max_patches: int = key(20, "patches one run may take", between(0, 1000))
    max_proposals: int = key(100, "proposals one run keeps, refused ones included; then it is paused", between(1, 10_000))
    max_iterations: int = key(100, "passes of a loop that a patch makes", between(1, 1_000_000))
    max_operations: int = key(50, "operations of one patch", between(1, 10_000))
    max_bytes: int = key(65_536, "bytes of one patch", between(100, 16_777_216, " bytes"))

    def terms(self) -> Terms:
        """Return them as the engine takes them."""
        return Terms(
            bounds=Bounds(operations=self.max_operations, bytes=self.max_bytes), max_agents=self.max_agents,
            max_nodes=self.max_nodes, max_patches=self.max_patches, max_proposals=self.max_proposals,
            max_iterations=self.max_iterations, approval=self.approval, large=self.large,
        )
