"""The report of a chaos run, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

SHOWN = 20


class Effects(msgspec.Struct, kw_only=True):
    """What the ledger saw.

    Attributes:
        repeated: Keys whose effect was made again although its outcome was known.
        repeated_flagged: Keys whose effect was made again after its outcome was lost, as its policy says.
        zombie_calls: Calls made by a worker that had lost its lease; their results were refused.
    """

    entries: dict[str, int] = {}
    keys: int = 0
    calls: int = 0
    repeated: int = 0
    repeated_flagged: int = 0
    zombie_calls: int = 0


class Takeovers(msgspec.Struct, kw_only=True):
    """How long runs waited for a new owner, from the death of the old one."""

    runs: int = 0
    by_cause: dict[str, int] = {}
    measured: int = 0
    late: int = 0
    bound_ms: int = 0
    latest: list[str] = []
    p50_ms: int = 0
    p99_ms: int = 0
    max_ms: int = 0


class Report(msgspec.Struct, kw_only=True):
    """All that a chaos run showed.

    Attributes:
        ok: Nothing was lost, doubled or wrong.
        counts: The harm was enough to count, by the measure for so many runs.
        wanted: That measure.
        problems: Everything that is not as it must be.
        story: The audit of one run whose worker was killed.
    """

    store: str
    seed: int
    workers: int
    failures: float
    lease_s: float
    seconds: float = 0
    runs: int = 0
    child_runs: int = 0
    shapes: dict[str, int] = {}
    statuses: dict[str, int] = {}
    records: int = 0
    events: dict[str, int] = {}
    acknowledgements: int = 0
    wanted: dict[str, int] = {}
    faults: dict[str, int] = {}
    timeline: list[str] = []
    zombies: dict[str, int] = {}
    effects: Effects = msgspec.field(default_factory=Effects)
    takeovers: Takeovers = msgspec.field(default_factory=Takeovers)
    worker_errors: dict[str, int] = {}
    problems: list[str] = []
    missing: list[str] = []
    story_of: str = ""
    story: list[str] = []

    @property
    def ok(self) -> bool:
        """Return whether everything held."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """Return 0 when all held, 1 when not, 2 when the harm was too small to count."""
        return 1 if self.problems else 2 if self.missing else 0

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {"ok": self.ok, "counts": not self.missing, **msgspec.to_builtins(self)}


def lines(report: Report) -> Iterator[str]:
    """Yield the report as text."""
    r = report
    yield f"chaos on {r.store}: {r.runs} runs (and {r.child_runs} sub-flows), {r.workers} workers, seed {r.seed}, " \
          f"{r.failures:.0%} transient failures, lease {r.lease_s:g} s, {r.seconds:.0f} s"
    yield "  shapes      " + _counts(r.shapes)
    yield "  ended as    " + _counts(r.statuses)
    yield "  faults      " + _counts(r.faults)
    yield f"  records     {r.records:,} checked, {r.acknowledgements:,} acknowledgements reconciled"
    hurt = ("AttemptFailed", "AttemptLost", "AttemptInterrupted", "CallUnknown", "StepDeadLettered", "StepRedriven",
            "LeaseTaken")  # fmt: skip
    yield "  journal     " + _counts({name: r.events.get(name, 0) for name in hurt})
    e = r.effects
    yield f"  effects     {e.keys:,} keys; made again after a lost outcome: {e.repeated_flagged} (all flagged), " \
          f"otherwise: {e.repeated}; {e.calls:,} recorded calls, {e.zombie_calls} made late by zombies"
    yield "  zombies     " + _counts(r.zombies)
    t = r.takeovers
    yield f"  takeover    {t.runs} runs; of {t.measured} timed: p50 {t.p50_ms} ms, p99 {t.p99_ms} ms, " \
          f"max {t.max_ms} ms; bound {t.bound_ms} ms, later: {t.late}"
    yield from (f"  LATE        {text}" for text in t.latest)
    if r.story:
        yield f"  the story of run {r.story_of}"
        yield from (f"    {line}" for line in r.story)
    for text, count in r.worker_errors.items():
        yield f"  worker log  {count} x {text}"
    for problem in r.problems[:SHOWN]:
        yield f"  WRONG       {problem}"
    if len(r.problems) > SHOWN:
        yield f"  WRONG       and {len(r.problems) - SHOWN} more"
    for text in r.missing:
        yield f"  TOO LITTLE  {text}"
    if r.problems:
        yield f"{len(r.problems)} things are not as they must be"
    elif r.missing:
        yield "everything held, but there was too little harm to count"
    else:
        yield "everything held: all runs ended right, nothing lost, nothing doubled, no zombie write accepted"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
