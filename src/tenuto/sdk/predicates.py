"""Turns a function into a predicate that conditions can ask."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tenuto.errors import InvalidGraph, Problem

VARIABLES = ("input", "output", "nodes", "run")


def read_predicate(fn: Callable[..., Any], name: str) -> Callable[[dict[str, Any]], bool]:
    """Return a function of a condition's variables by name.

    Raises:
        InvalidGraph: The function is asynchronous, or takes something that is no variable.
    """
    parameters = list(inspect.signature(fn).parameters.values())
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    problems: list[Problem] = []
    if inspect.iscoroutinefunction(fn):
        message = "is asynchronous; a predicate only looks at values, so it answers at once"
        problems.append(Problem(place=name, message=message, code="function.signature"))
    if len(required) == 1 and required[0] not in VARIABLES:
        if not problems:
            return lambda values: fn(values)
    else:
        problems += [
            Problem(
                place=f"{name}({parameter})", message=f"is no variable of a condition; allowed: {', '.join(VARIABLES)}",
                code="function.signature",
            )
            for parameter in required
            if parameter not in VARIABLES
        ]
    if problems:
        raise InvalidGraph(f"the function {name!r} cannot be a predicate", problems=tuple(problems))
    wanted = [p.name for p in parameters if p.name in VARIABLES]
    return lambda values: fn(**{key: values.get(key) for key in wanted})
