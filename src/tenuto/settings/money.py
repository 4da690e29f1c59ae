"""What may be spent: caps over all runs of a namespace or a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from tenuto.errors import InvalidSettings, Problem
from tenuto.settings.keys import between, key

MOST_USD = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Caps of one scope in US dollars; a negative value sets none, zero stops every call that costs anything."""

    day_usd: float = key(-1.0, "USD a day (UTC); negative sets no cap", between(-1, MOST_USD, " USD"))
    month_usd: float = key(-1.0, "USD a month (UTC); negative sets no cap", between(-1, MOST_USD, " USD"))
    total_usd: float = key(-1.0, "USD for ever; negative sets no cap", between(-1, MOST_USD, " USD"))
    warn_percent: int = key(80, "share of a cap at which one warning a window is given", between(1, 100, " %"))

    def limits(self) -> Iterator[tuple[str, int]]:
        """Return each cap that is set: its period, and millionths of a US dollar."""
        for period, usd in (("day", self.day_usd), ("month", self.month_usd), ("total", self.total_usd)):
            if usd >= 0:
                yield period, round(usd * 1_000_000)


def declared(caps: Caps, projects: Mapping[str, Caps]) -> Iterator[tuple[str, str, int, int]]:
    """Return every cap of the settings: scope, period, millionths of a US dollar, warning share.

    Raises:
        InvalidSettings: A value is out of its range, as only one that was not read by `load` can be.
    """
    every = {"": caps, **{f"project:{name}": value for name, value in projects.items()}}
    problems = [
        Problem(f"{scope.replace('project:', 'project_caps.') or 'caps'}.{item.name}", wrong, code="settings.value")
        for scope, found in every.items() for item in fields(found)
        if (wrong := item.metadata["check"](getattr(found, item.name)))
    ]  # fmt: skip
    if problems:
        raise InvalidSettings("a cap that runs share is wrong", problems=tuple(problems))
    for scope, found in every.items():
        for period, limit in found.limits():
            yield scope, period, limit, found.warn_percent
