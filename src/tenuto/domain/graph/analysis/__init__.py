"""Looks at a definition that may be published for what will go wrong when it runs.

Pure, and near to linear in nodes and edges. A finding is reported only where the definition itself shows it: what
depends on data, on code or on a choice that a run makes is left alone.
"""

from __future__ import annotations

from tenuto.domain.graph.analysis.approvals import find_late_approvals
from tenuto.domain.graph.analysis.caching import find_cached_effects
from tenuto.domain.graph.analysis.caps import find_impossible_caps
from tenuto.domain.graph.analysis.inputs import find_input_faults
from tenuto.domain.graph.analysis.limits import find_missing_limits
from tenuto.domain.graph.analysis.locks import find_lock_faults
from tenuto.domain.graph.analysis.looping import find_loops_without_end
from tenuto.domain.graph.analysis.races import find_races
from tenuto.domain.graph.analysis.reachability import find_constant_conditions
from tenuto.domain.graph.analysis.rules import RULES, SEVERITIES, Finding, Rule, Severity
from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.analysis.secrets import find_secrets
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.rules.subject import Known, Subject

__all__ = ["RULES", "Finding", "Rule", "Severity", "analyse"]

_FAMILIES = (
    find_constant_conditions, find_loops_without_end, find_races, find_late_approvals, find_impossible_caps,
    find_secrets, find_cached_effects, find_lock_faults, find_missing_limits, find_input_faults,
)


def analyse(definition: Definition, known: Known | None = None) -> tuple[Finding, ...]:
    """Return what was found in a definition that `check` found no problem in: errors first, then by place."""
    scene = Scene(Subject(definition, known or Known()))
    for look in _FAMILIES:
        look(scene)
    return tuple(sorted(dict.fromkeys(scene.found), key=lambda one: (SEVERITIES.index(one.severity), one.place, one.id)))
