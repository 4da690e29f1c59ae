"""On what terms a graph may be patched: limits, who may, and what a person decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tenuto.domain.graph.bodies import levels_of
from tenuto.domain.graph.model import Definition, Node, Patching
from tenuto.domain.graph.rules.subject import Known
from tenuto.domain.overlays.guards import acts, endless
from tenuto.domain.overlays.operations import Bounds
from tenuto.errors import Problem

AUTHORS = ("agent", "person", "optimizer")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What holds where a definition does not say otherwise.

    Attributes:
        bounds: How large one patch may be.
        max_agents: Agent nodes of the whole graph; one that began with more may keep them.
        max_nodes: Nodes of the whole graph, bodies of maps included.
        max_patches: Overlays one run may take.
        max_proposals: Proposals one run may keep, refused ones included; with another one it is paused.
        max_iterations: Passes of a loop that a patch makes; a loop that was there keeps to its own bound.
        approval: Which patches wait for a person; see `Patching`.
        large: A patch that adds, removes or changes more nodes than this is large.
    """

    bounds: Bounds = Bounds()
    max_agents: int = 5
    max_nodes: int = 500
    max_patches: int = 20
    max_proposals: int = 100
    max_iterations: int = 100
    approval: tuple[str, ...] = ("effects",)
    large: int = 5

    def of(self, definition: Definition) -> Terms:
        """Return the terms of one definition, its own words first."""
        own = definition.patches or Patching()
        names = ("max_agents", "max_nodes", "max_patches", "approval")
        return msgspec.structs.replace(self, **{name: value for name in names if (value := getattr(own, name)) is not None})


class Surroundings(msgspec.Struct, frozen=True):
    """What a patch is looked at with: terms, names that exist, and what handlers declare.

    Attributes:
        complete: Writes what handlers declare into nodes that do not say otherwise.
    """

    terms: Terms
    known: Known
    complete: Callable[[Definition], Definition]


def unchecked() -> Surroundings:
    """Return surroundings that let any name go, with the shipped terms."""
    return Surroundings(Terms(), Known(), lambda definition: definition)


def breached(before: Definition, after: Definition, author: str, n_applied: int, terms: Terms) -> list[Problem]:
    """Return which terms a new graph would breach."""
    found: list[Problem] = []
    allowed = (before.patches or Patching()).authors
    if author not in allowed:
        who = ", ".join(allowed) or "nobody"
        found.append(Problem("", f"the workflow takes no patches whose author is {author}; allowed: {who}", code="patch.author"))
    if n_applied >= terms.max_patches:
        message = f"the run has taken {n_applied} patches; at most {terms.max_patches} are allowed"
        found.append(Problem("", message, "start a run of a new version", "patch.limit"))
    agents, most = agents_of(after), max(terms.max_agents, agents_of(before))
    if agents > most:
        message = f"the graph would have {agents} agents; at most {most} are allowed"
        found.append(Problem("/nodes", message, "do the work in fewer agents, or in nodes of other kinds", "patch.agents"))
    nodes = sum(len(level.nodes) for level in levels_of(after))
    if nodes > terms.max_nodes:
        message = f"the graph would have {nodes} nodes; at most {terms.max_nodes} are allowed"
        found.append(Problem("/nodes", message, "use a map over a list instead of a node for each entry", "patch.nodes"))
    return found + endless(before, after, terms.max_iterations)


def agents_of(definition: Definition) -> int:
    """Return how many agent nodes a graph has, bodies of maps included."""
    return sum(node.kind == "agent" for level in levels_of(definition) for node in level.nodes)


def asks_for(
    author: str, changed: Sequence[Node], added: Sequence[Node], n_removed: int, terms: Terms, known: Known
) -> str:
    """Return why a person has to approve a patch, as a sentence; empty when nobody has to.

    Args:
        changed: Nodes that are new or differ.
        added: Nodes that are new.
        n_removed: How many nodes are taken out.
    """
    rules = terms.approval
    if "all" in rules or author in rules:
        whose = "every patch is" if "all" in rules else f"patches by {'a' if author == 'person' else 'an'} {author} are"
        return f"{whose} approved by a person"
    if author == "person":
        return ""
    if "effects" in rules and (names := [node.id for node in changed if acts(node, known)]):
        return f"it adds or changes what acts on the world: {', '.join(names)}"
    if "agents" in rules and (names := [node.id for node in added if node.kind == "agent"]):
        return f"it adds agents: {', '.join(names)}"
    if "large" in rules and (n := len(changed) + n_removed) > terms.large:
        return f"it is large: it adds, removes or changes {n} nodes, and up to {terms.large} need no approval"
    return ""
