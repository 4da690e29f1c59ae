"""Workflows a simulation runs: every kind by name, compiled once a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from random import Random

from tenuto.domain.graph.compile import compile_cached
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.parse import parse_definition
from tenuto.domain.graph.plan import Plan
from tenuto.testing.workloads_graphs import basic, failing_loops, loops, maps
from tenuto.testing.workloads_kinds import Scenario
from tenuto.testing.workloads_people import CHILDREN, durable, failures, people, priced
from tenuto.testing.workloads_steps import catalog


@cache
def scenarios() -> dict[str, Scenario]:
    """Return every kind of run by name."""
    groups = (basic(), loops(), failing_loops(), maps(), failures(), people(), durable(), priced())
    return {scenario.name: scenario for group in groups for scenario in group}


@dataclass(frozen=True, slots=True)
class Compiled:
    """All workflows, ready to run, by digest and by name."""

    definitions: dict[str, Definition] = field(default_factory=dict[str, Definition])
    digests: dict[str, str] = field(default_factory=dict[str, str])
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])


@cache
def compiled() -> Compiled:
    """Compile everything once a process."""
    found = Compiled()
    documents = {name: scenario.document for name, scenario in scenarios().items()} | CHILDREN
    for name, document in documents.items():
        definition = catalog().complete(parse_definition({"name": name, **document}))
        digest = digest_of_definition(definition)
        found.definitions[digest] = definition
        found.digests[name] = digest
        found.plans[digest] = compile_cached(digest, definition)
    return found


def choose(random: Random, runs: int, *, spends: bool = False) -> list[Scenario]:
    """Return the kinds of run for a seed, as different as there is room for.

    Args:
        spends: Whether half of them spend under caps they share; else none does.
    """
    dear = priced()
    names = {scenario.name for scenario in dear}
    every = [scenario for scenario in scenarios().values() if scenario.name not in names]
    random.shuffle(every)
    while len(every) < runs:
        every.append(random.choice(every))
    bought = [dear[at % len(dear)] for at in range(runs // 2)] if spends else []
    return bought + every[: runs - len(bought)]
