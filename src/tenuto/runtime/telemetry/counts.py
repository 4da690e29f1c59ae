"""Counts of what runs do, made of committed records: how many, how long, how much. Kept in memory, read when asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

from tenuto.domain.runs import events as ev
from tenuto.domain.runs.state import RunState
from tenuto.runtime.telemetry.tracer import ENDS

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Histogram:
    """How many values were up to each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Count nothing yet."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Return how many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """Return each bound as text, `+Inf` last, with the number of values not above it."""
        found: list[tuple[str, float]] = []
        before = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            before += count
            found.append((bound, before))
        return found


class Counts:
    """What one process has committed since it started.

    Attributes:
        runs: Runs created and ended here, by status.
        steps: Tries of steps by outcome: `completed`, `failed`, `lost`, `interrupted`, `cancelled`.
        calls: Calls by kind and outcome.
        cache: Steps by what the cache had to do with them; `saved_s` is what those would have taken that took a result.
        tokens: By direction, `input` and `output`.
        queue_wait: Seconds from ready to begun, of tries that succeeded.
        step_time: Seconds of tries that succeeded.
        groups, group_time: Records in each transaction, and its seconds.
    """

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.calls: Counter[tuple[str, str]] = Counter()
        self.cache: Counter[str] = Counter()
        self.saved_s = 0.0
        self.tokens: Counter[str] = Counter()
        self.cost_usd_micros = 0
        self.queue_wait = Histogram(SECONDS)
        self.step_time = Histogram(SECONDS)
        self.groups = Histogram(SIZES)
        self.group_time = Histogram(SECONDS)

    def hear(self, st: RunState, body: ev.Body) -> None:
        """Count a record."""
        for event in body.ev:
            count = _COUNTERS.get(type(event))
            if count is not None:
                count(self, event)

    def observe(self, size: int, seconds: float) -> None:
        """Count a transaction."""
        self.groups.add(size)
        self.group_time.add(seconds)

    def _created(self, event: ev.RunCreated) -> None:
        self.runs["created"] += 1

    def _ended(self, event: ev.Event) -> None:
        self.runs[ENDS[type(event)]] += 1

    def _completed(self, event: ev.StepCompleted) -> None:
        self.steps["completed"] += 1
        cache = event.cache
        if cache is not None:
            self.cache[cache.how] += 1
            self.saved_s += cache.saved_ms / 1000
            if cache.how in ("hit", "joined"):
                return  # nothing was begun
        self.queue_wait.add(event.queued_ms / 1000)
        self.step_time.add(event.took_ms / 1000)

    def _step(self, event: ev.Event) -> None:
        self.steps[_STEPS[type(event)]] += 1

    def _called(self, event: ev.CallCompleted) -> None:
        self.calls[event.kind, "completed"] += 1
        self._used(event)
        self.tokens["input"] += event.meta.get("input_tokens", 0)
        self.tokens["output"] += event.meta.get("output_tokens", 0)

    def _broke(self, event: Any) -> None:
        self.calls["", "failed" if isinstance(event, ev.CallFailed) else "unknown"] += 1
        self._used(event)

    def _used(self, event: Any) -> None:
        used = getattr(event, "used", None)
        if used is not None:
            self.cost_usd_micros += used.cost_usd_micros


_STEPS: dict[type[ev.Event], str] = {
    ev.AttemptFailed: "failed", ev.StepFailed: "failed", ev.StepDeadLettered: "failed", ev.AttemptLost: "lost",
    ev.AttemptInterrupted: "interrupted", ev.StepCancelled: "cancelled",
}  # fmt: skip

_COUNTERS: dict[type[ev.Event], Callable[[Counts, Any], None]] = {
    ev.RunCreated: Counts._created,
    ev.StepCompleted: Counts._completed,
    ev.CallCompleted: Counts._called,
    ev.CallFailed: Counts._broke,
    ev.CallUnknown: Counts._broke,
    **dict.fromkeys(ENDS, Counts._ended),
    **dict.fromkeys(_STEPS, Counts._step),
}
