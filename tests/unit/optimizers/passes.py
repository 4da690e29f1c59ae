"""Asks the built-in passes about a graph, and applies what they suggest as anybody's patch is applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import msgspec

from tenuto.adapters.optimizers.builtin import builtin_optimizers
from tenuto.adapters.optimizers.sandbox import WasmSandbox
from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.rules.subject import Known
from tenuto.domain.graph.validate import load_definition
from tenuto.domain.overlays.overlay import document_of
from tenuto.domain.overlays.terms import Surroundings, Terms
from tenuto.domain.runs.patches import examine
from tenuto.domain.runs.state import RunState
from tenuto.ports.optimizers import Bounds, Limits, NodeStatistics, Statistics, Suggestion, Task

MODULES = {builtin.name: builtin.module for builtin in builtin_optimizers()}
Complete = Callable[[Definition], Definition]


def shown(document: dict[str, Any], runs: int = 20, p50_ms: float = 10, **nodes: NodeStatistics) -> Statistics:
    """Return statistics in which every node took the same time, but for those that are given."""
    names = [node["id"] for node in document["nodes"]]
    usual = NodeStatistics(completed=runs, p50_ms=p50_ms, p95_ms=2 * p50_ms, bytes=100)
    known = {name: nodes.get(name, usual) for name in names}
    return Statistics(runs=runs, p50_ms=p50_ms * (len(names) + 1), p95_ms=p50_ms * 2 * len(names), steps=len(names), nodes=known)


async def suggestions(
    sandbox: WasmSandbox, name: str, document: dict[str, Any], *, statistics: Statistics | None = None,
    fixed: Iterable[str] = (), **settings: Any,
) -> tuple[Suggestion, ...]:
    """Return what a built-in pass says of a graph in any spelling."""
    definition = load_definition(document)
    task = Task(
        workflow=document_of(definition), version=compile_definition(definition).digest, fixed=tuple(fixed),
        statistics=shown(document) if statistics is None else statistics, settings=settings,
        limits=Limits(max_agents=5, max_nodes=500, max_operations=50),
    )
    return (await sandbox.run(MODULES[name], task, Bounds())).suggestions


def asked(name: str, document: dict[str, Any], **options: Any) -> tuple[Suggestion, ...]:
    """Return the same from where no event loop runs, each module compiled once."""
    return asyncio.run(suggestions(_sandbox(), name, document, **options))


@cache
def _sandbox() -> WasmSandbox:
    return WasmSandbox()


def patched(document: dict[str, Any], suggestion: Suggestion) -> dict[str, Any]:
    """Return the graph after a patch that nothing is wrong with."""
    plan = compile_definition(load_definition(document))
    around = Surroundings(Terms(), Known(), lambda definition: definition)
    ops = msgspec.json.decode(msgspec.json.encode(suggestion.operations))
    verdict = examine(RunState(id=""), plan, ops, base=plan.digest, author="optimizer", around=around)
    assert verdict.plan is not None, verdict.findings
    return document_of(verdict.plan.definition)


def nodes_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a graph's nodes by id."""
    return {node["id"]: node for node in document["nodes"]}


def edges_of(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the ends of a graph's edges."""
    return {(edge["from"], edge["to"]) for edge in document.get("edges", [])}
