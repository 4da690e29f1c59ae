"""How optimizers are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tenuto.ports.optimizers import Bounds, Builtin, Sandbox

MAX_BYTES = 2 * 1024 * 1024
ALL = "all"


@dataclass(frozen=True, slots=True)
class Optimizing:
    """How optimizers are asked, and what follows by itself.

    Attributes:
        open: Returns what runs modules, at the first use; `None` where nothing can.
        builtin: Returns the optimizers that come with Tenuto, at the first use; `chosen` names those that are asked.
        window: Newest ended runs of a version that are looked at.
        min_runs: Ended runs of a version before it is looked at by itself, and before a gain counts as measured.
        every_s: Time between two looks.
        auto: Whether proposals arise without being asked for.
        live: Whether those looks also propose patches of runs that go on.
        max_failures: Failures in a row that quarantine a plug-in.
        given: What single optimizers are told beside, by their names.
        max_bytes: Largest module of a plug-in.
    """

    open: Callable[[], Sandbox] | None = None
    builtin: Callable[[], Sequence[Builtin]] = tuple
    chosen: tuple[str, ...] = (ALL,)
    enabled: bool = True
    bounds: Bounds = field(default_factory=Bounds)
    window: int = 100
    min_runs: int = 20
    every_s: float = 300.0
    auto: Literal["off", "propose"] = "off"
    live: Literal["off", "propose"] = "off"
    max_failures: int = 3
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    max_bytes: int = MAX_BYTES
