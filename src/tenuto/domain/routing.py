"""Which model does a task: tiers of models, and the tier that the task's type and complexity ask for."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.errors import Problem

COMPLEXITIES = ("simple", "medium", "complex")
OTHER = "other"
"""The row of the table for task types that have none of their own."""

TIERS: Mapping[str, tuple[str, ...]] = {
    "local": ("ollama:llama3.2",),
    "small": ("anthropic:claude-haiku-4-5", "openai:gpt-5-mini"),
    "large": ("anthropic:claude-sonnet-4-6", "openai:gpt-5"),
    "planning": ("anthropic:claude-sonnet-4-6", "openai:gpt-5"),
}
TABLE: Mapping[str, Mapping[str, str]] = {
    "code": {"simple": "small", "medium": "large", "complex": "large"},
    "research": {"simple": "local", "medium": "small", "complex": "large"},
    "analysis": {"simple": "local", "medium": "small", "complex": "large"},
    "documentation": {"simple": "local", "medium": "small", "complex": "large"},
    "asset": {"simple": "local", "medium": "local", "complex": "local"},
    "integration": {"simple": "small", "medium": "small", "complex": "large"},
    "planning": {"simple": "planning", "medium": "planning", "complex": "planning"},
    OTHER: {"simple": "small", "medium": "small", "complex": "small"},
}


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """The tiers there are, cheapest first, and the tier of every type and complexity.

    Attributes:
        tiers: By name: `provider:model` names; a later one serves where the earlier cannot.
        table: Task type -> complexity -> tier. `other` serves the types that have no row.
    """

    tiers: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(TIERS))
    table: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=lambda: dict(TABLE))

    def tier(self, task_type: str = "", complexity: str = "medium") -> str:
        """Return the tier a task is done in.

        Args:
            complexity: `simple`, `medium` or `complex`; any other word counts as `medium`.
        """
        row = self.table.get(task_type) or self.table[OTHER]
        return row.get(complexity) or row["medium"]

    def models(self, tier: str, *, dearer: bool = False) -> tuple[str, ...]:
        """Return the models of a tier in the order they are tried, each once.

        Args:
            dearer: Also name those of the tiers above, for when none of its own answers.
        """
        names = list(self.tiers)
        chosen = names[names.index(tier) :] if dearer else [tier]
        return tuple(dict.fromkeys(model for name in chosen for model in self.tiers[name]))

    def problems(self) -> tuple[Problem, ...]:
        """Return what contradicts itself: empty tiers, names that are no models, rows that lead nowhere."""
        found: list[Problem] = []
        for name, models in self.tiers.items():
            if not models:
                found.append(Problem(f"tiers.{name}.models", "names no model", "give at least one", "settings.value"))
            for model in models:
                if not all(model.partition(":")[::2]):
                    message = f"{model!r} is no model; write provider:model, such as 'ollama:llama3.2'"
                    found.append(Problem(f"tiers.{name}.models", message, code="settings.value"))
        for task_type, row in self.table.items():
            for complexity, tier in row.items():
                if tier not in self.tiers:
                    message = f"there is no tier {tier!r}; tiers are {', '.join(self.tiers)}"
                    hint = did_you_mean(tier, self.tiers).lstrip("; ")
                    found.append(Problem(f"routes.{task_type}.{complexity}", message, hint, "settings.value"))
        return tuple(found)
