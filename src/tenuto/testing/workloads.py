"""Workflows a simulation runs: every kind by name, compiled once a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

from tenuto.domain.graph.compile import cached_plan, compile_cached
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.parse import parse_definition
from tenuto.domain.graph.plan import Plan
from tenuto.testing.workloads_cached import cached
from tenuto.testing.workloads_graphs import basic, failing_loops, loops, maps
from tenuto.testing.workloads_kinds import Scenario
from tenuto.testing.workloads_patches import patched
from tenuto.testing.workloads_people import CHILDREN, durable, failures, people, priced, several
from tenuto.testing.workloads_steps import catalog

ASKED = 0.25
"""Share of the seeds in which one of the runs asks several people."""


@cache
def scenarios() -> dict[str, Scenario]:
    """Return every kind of run by name."""
    groups = (basic(), loops(), failing_loops(), maps(), failures(), people(), several(), durable(), priced(), patched(),
              cached())
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


def plan_of(digest: str) -> Plan:
    """Return the plan of a workflow, or of a graph that a patch made of one in this process."""
    plan = compiled().plans.get(digest) or cached_plan(digest)
    if plan is None:
        raise KeyError(digest)
    return plan


def choose(random: Random, runs: int, special: Sequence[Scenario] = ()) -> list[Scenario]:
    """Return the kinds of run for a seed, as different as there is room for.

    Args:
        special: What half of them are, of the kinds that only some seeds have: those that spend under caps they share, or
            that are patched, or that take each other's results.
    """
    names = {scenario.name for scenario in (*priced(), *patched(), *cached(), *several())}
    every = [scenario for scenario in scenarios().values() if scenario.name not in names]
    random.shuffle(every)
    while len(every) < runs:
        every.append(random.choice(every))
    chosen = [special[at % len(special)] for at in range(runs // 2)] if special else []
    chosen += every[: runs - len(chosen)]
    lot = Random("".join(scenario.name for scenario in chosen))  # drawn apart, so that all else is drawn as it was
    if lot.random() < ASKED:
        chosen[-1] = lot.choice(several())
    return chosen
