"""Asking all optimizers about one graph, and looking at each of their suggestions before anybody sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.overlay import document_of
from tenuto.domain.runs.patches import Verdict
from tenuto.ports.optimizers import Limits, Statistics, Suggestion, Task
from tenuto.runtime.optimizer.panel import Asked
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.optimizer_views import AskedView, OptimizedView, SuggestionView
from tenuto.runtime.services.patch_views import ChangedView
from tenuto.runtime.services.proposed import saving
from tenuto.runtime.services.verdicts import difference, difference_by, problem_views

Judge = Callable[[list[Any]], Awaitable[Verdict]]


class Found(msgspec.Struct):
    """A suggestion that was looked at, and how it is shown."""

    optimizer: str
    suggestion: Suggestion
    verdict: Verdict
    view: SuggestionView

    @property
    def is_done(self) -> bool:
        """Whether the graph is what it suggests already, as it is once the suggestion was applied."""
        return [finding.code for finding in self.verdict.findings] == ["patch.nothing"]

    @property
    def is_free(self) -> bool:
        """Whether it can be applied and nobody has to approve it."""
        return self.verdict.plan is not None and not self.verdict.asks


class Graph(msgspec.Struct, kw_only=True):
    """What optimizers are asked about.

    Attributes:
        judge: Looks at operations on it.
        counts: Whether suggestions that cannot be applied count as failures; not for a run that goes on meanwhile.
    """

    plan: Plan
    statistics: Statistics
    judge: Judge
    fixed: tuple[str, ...] = ()
    counts: bool = True


async def suggestions(
    context: Context, graph: Graph, names: Sequence[str], answer: OptimizedView, seen: set[str]
) -> list[Found]:
    """Return what optimizers suggest for a graph, each graph it leads to once, and note who failed.

    Args:
        answer: Gets who was asked and what came of it; who was stopped before stays so.
        seen: Digests nobody needs to be led to again.
    """
    options = context.panel.options
    asked = await context.panel.ask(context.store, context.ns, _task(context, graph), names)
    found: list[Found] = []
    for one in asked:
        looked = [await _looked(graph, one.name, suggestion) for suggestion in one.answer.suggestions]
        mine = [item for item in looked if not item.is_done]
        faults = [item for item in mine if item.verdict.plan is None]
        error = one.message if one.state == "stopped" else _fault(faults[0]) if faults and graph.counts else ""
        if one.digest and one.state in ("answered", "stopped"):
            await context.store.note_optimizer(context.ns, one.name, one.digest, error, options.max_failures)
        _note(answer, _asked_view(one, mine, faults))
        for item in mine:
            if item.verdict.plan is None or item.verdict.plan.digest not in seen:
                found.append(item)
                if item.verdict.plan is not None:
                    seen.add(item.verdict.plan.digest)
    answer.faults = sum(item.status in ("stopped", "faulty") for item in answer.optimizers)
    return found


def _task(context: Context, graph: Graph) -> Task:
    around = context.surroundings()
    definition = graph.plan.definition
    terms = around.terms.of(definition)
    return Task(
        workflow=document_of(around.complete(definition)), version=graph.plan.digest, fixed=graph.fixed,
        statistics=graph.statistics,
        limits=Limits(max_agents=terms.max_agents, max_nodes=terms.max_nodes, max_operations=terms.bounds.operations),
    )


async def _looked(graph: Graph, optimizer: str, suggestion: Suggestion) -> Found:
    verdict = await graph.judge(suggestion.operations)
    before = graph.plan.definition
    view = SuggestionView(
        optimizer=optimizer, rule=suggestion.rule, title=suggestion.title, reason=suggestion.reason,
        status="shown" if verdict.plan is not None else "invalid", asks=verdict.asks, base_digest=graph.plan.digest,
        digest=verdict.plan.digest if verdict.plan is not None else "", nodes=suggestion.nodes,
        expected=saving(suggestion.gain), evidence=dict(suggestion.evidence), operations=suggestion.operations,
        changed=msgspec.convert(msgspec.to_builtins(verdict.changed), ChangedView), findings=problem_views(verdict),
        difference=difference(before, verdict.plan.definition) if verdict.plan else difference_by(before, suggestion.operations),
    )
    return Found(optimizer, suggestion, verdict, view)


def _asked_view(one: Asked, mine: list[Found], faults: list[Found]) -> AskedView:
    status, message = cast("str", one.state), one.message
    if faults:
        many = "1 suggestion" if len(faults) == 1 else f"{len(faults)} suggestions"
        status, message = "faulty", f"{many} cannot be applied: {_fault(faults[0])}"
    return AskedView(
        name=one.name, kind="plugin" if one.digest else "builtin", status=status, why=one.why, message=message,
        suggestions=len(mine), fuel=one.answer.fuel, memory=one.answer.memory, ms=one.answer.ms,
    )


def _fault(found: Found) -> str:
    first = found.verdict.findings[0]
    return f"{found.suggestion.title or found.suggestion.rule}: {first.message}"


def _note(answer: OptimizedView, view: AskedView) -> None:
    """Keep what came of asking an optimizer; of several times what went wrong, and all it suggested."""
    for at, known in enumerate(answer.optimizers):
        if known.name == view.name:
            if known.status in ("stopped", "faulty"):
                view.status, view.why, view.message = known.status, known.why, known.message
            view.suggestions += known.suggestions
            answer.optimizers[at] = view
            return
    answer.optimizers.append(view)
