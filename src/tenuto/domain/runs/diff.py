"""Two runs side by side: what differs in outcome, steps, routing, cost and time, and where they first part."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.views import View


class StepDiff(View):
    """One step that is not the same in both runs.

    Attributes:
        change: `added` (only in b), `removed` (only in a), `changed`.
        fields: For `changed`: field name -> `[value in a, value in b]`.
    """

    step: str
    node: str
    change: str
    fields: dict[str, list[Any]] = {}


class RunDiff(View):
    """What differs between two runs; every `[a, b]` list has exactly two members.

    Attributes:
        first: The earliest step, in `a`'s order of completion, whose outcome differs; `None` when none does.
        routing: `src -> dst` edges taken in one run and not in the other: `{"only_a": […], "only_b": […]}`.
    """

    a: str
    b: str
    same: bool
    version: list[str] = []
    status: list[str] = []
    input: list[Any] = []
    output: list[Any] = []
    steps: list[StepDiff] = []
    n_same_steps: int = 0
    routing: dict[str, list[str]] = {}
    cost: dict[str, list[int]] = {}
    duration_ms: list[int] = []
    first: StepDiff | None = None
