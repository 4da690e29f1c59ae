"""Checks a whole definition and reports every fault at once, each with its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.parse import read_definition
from tenuto.domain.graph.rules.approvals import check_approvals
from tenuto.domain.graph.rules.budgets import budget_problems
from tenuto.domain.graph.rules.caching import check_caching
from tenuto.domain.graph.rules.configs import check_configs
from tenuto.domain.graph.rules.data import check_references
from tenuto.domain.graph.rules.edges import check_edges
from tenuto.domain.graph.rules.nodes import check_nodes, check_retry
from tenuto.domain.graph.rules.structure import check_structure
from tenuto.domain.graph.rules.subject import Known, Subject
from tenuto.domain.graph.schema import check_schema
from tenuto.errors import InvalidGraph, Problem

__all__ = ["Known", "check", "load_definition", "require_valid"]

NOTHING_KNOWN = Known()


def check(definition: Definition, known: Known | None = None) -> tuple[Problem, ...]:
    """Return every fault of a definition; an empty answer means it compiles and can be run.

    Args:
        known: Names the definition may use; `None` leaves names unchecked.
    """
    s = Subject(definition, known or NOTHING_KNOWN)
    check_structure(s)
    check_nodes(s)
    check_caching(s)
    check_configs(s)
    check_edges(s)
    check_references(s)
    check_approvals(s)
    if definition.budget is not None:
        s.found.items.extend(budget_problems(definition.budget, "/budget"))
    if definition.retry is not None:
        check_retry(s, definition.retry, "/retry")
    if definition.input_schema is not None:
        s.found.items.extend(check_schema(definition.input_schema, "/input_schema"))
    return tuple(dict.fromkeys(s.found.items))


def require_valid(definition: Definition, known: Known | None = None) -> Definition:
    """Return the definition if nothing is wrong with it.

    Raises:
        InvalidGraph: With every fault.
    """
    problems = check(definition, known)
    if problems:
        raise _invalid(definition.name, problems)
    return definition


def load_definition(
    document: Any, known: Known | None = None, *, name: str | None = None,
    complete: Callable[[Definition], Definition] | None = None,
) -> Definition:
    """Return the valid definition a document describes.

    Faults of shape and faults of the graph are reported together; what is said about a node that could not be
    read is left out.

    Args:
        complete: Adds what the author left to defaults, before the graph is checked; it keeps ids and order.

    Raises:
        InvalidGraph: With every fault.
    """
    reading = read_definition(document, name=name)
    problems = list(reading.problems)
    definition = reading.definition
    if definition is not None:
        definition = complete(definition) if complete is not None else definition
        unread = tuple(place + "/" for place in reading.broken)
        named = {problem.place for problem in problems}
        for problem in check(definition, known):
            place = reading.written(problem.place)
            if place not in named and not (place + "/").startswith(unread):
                problems.append(dataclasses.replace(problem, place=place))
    if problems or definition is None:
        raise _invalid(definition.name if definition else name or "", tuple(problems))
    return definition


def _invalid(name: str, problems: tuple[Problem, ...]) -> InvalidGraph:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    title = f"the workflow {name!r}" if name else "the workflow definition"
    return InvalidGraph(f"{title} is not valid: {count}", problems=problems)
