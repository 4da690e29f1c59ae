"""What a kind of run is: its graph, what clients do to it, and what must have come of it in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from tenuto.domain.graph.model import Budget

if TYPE_CHECKING:
    from tenuto.testing.simulation_client import Client, Outcome

Document = dict[str, Any]
Script = Callable[["Client"], Awaitable[None]]
Expect = Callable[["Outcome"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of run.

    Attributes:
        given: The run's input.
        verdict: What the simulated person says to approvals.
        script: What a client does while the run goes on.
        expect: Returns what is wrong with the end of the run, or an empty string.
    """

    name: str
    document: Document
    expect: Expect
    given: Callable[[Random], Any] = lambda _: None
    verdict: str = "approve"
    script: Script | None = None
    budget: Budget | None = None


# --- writing graphs ----------------------------------------------------------------------------------------------


def node(name: str, handler: str = "work", **rest: Any) -> Document:
    """Return a function node."""
    return {"id": name, "kind": "function", "config": {"handler": handler}, **rest}


def special(name: str, kind: str, **config: Any) -> Document:
    """Return a node of another kind."""
    return {"id": name, "kind": kind, "config": config}


def edge(source: str, target: str, **rest: Any) -> Document:
    """Return an edge."""
    return {"from": source, "to": target, **rest}


def graph(nodes: Sequence[Document], *edges: Document, **rest: Any) -> Document:
    """Return a definition without a name."""
    return {"nodes": list(nodes), "edges": list(edges), **rest}


def line(*nodes: Document) -> Document:
    """Return a chain."""
    return graph(nodes, *(edge(a["id"], b["id"]) for a, b in zip(nodes, nodes[1:], strict=False)))


# --- what must come of it ----------------------------------------------------------------------------------------


def ends(status: str, output: Any = None, **counts: int) -> Expect:
    """Expect a status, an output (unless `None`), and how many outcomes nodes have."""

    def check(found: Outcome) -> str:
        if found.lost:
            return "" if found.status in (status, "completed", "failed", "budget_exceeded") else f"{found.status} after losses"
        if found.status != status:
            return f"expected {status}, found {found.status}: {found.why}"
        if output is not None and found.output != output:
            return f"expected the output {output!r}, found {found.output!r}"
        for name, count in counts.items():
            if found.completed(name) != count:
                return f"expected {count} outcomes of {name!r}, found {found.completed(name)}"
        return ""

    return check


def one_of(*expected: Expect) -> Expect:
    """Expect one of several ends."""

    def check(found: Outcome) -> str:
        wrong = [expect(found) for expect in expected]
        return "" if "" in wrong else " or ".join(wrong)

    return check


# --- settings that several share ---------------------------------------------------------------------------------

PATIENT = {"attempts": 3, "backoff_s": 400.0}
RETRY = {"attempts": 4, "backoff_s": 0.3, "jitter": 0.2}
AGAIN = {"when": "iteration < 3", "max_iterations": 5}
DONE = {"when": "iteration >= 3"}
