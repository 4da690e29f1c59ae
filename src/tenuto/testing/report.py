"""What simulations have met: every fault, event and change of status, with counts, and what was never met."""

from __future__ import annotations

from typing import get_args

import msgspec

from tenuto.domain.runs import events as ev
from tenuto.domain.runs.transitions import RUN_MOVES, STEP_MOVES
from tenuto.testing.faulty import MOMENTS, POINTS

OUT_OF_REACH = frozenset({
    # Allowed by the tables so that old journals and races stay readable; the engine writes none of these.
    "run queued -> paused (PauseRequested)", "run queued -> cancelling (CancelRequested)",
    "run queued -> failed (RunFailed)", "run paused -> failed (RunFailed)",
    "run failed -> cancelling (CancelRequested)", "run budget_exceeded -> cancelling (CancelRequested)",
    "step retrying -> completed (StepCompleted)", "step retrying -> failed (StepFailed)",
    "step retrying -> dead_letter (StepDeadLettered)", "step waiting -> retrying (AttemptFailed)",
    "step cancelled -> ready (StepRedriven)",
})


class Report(msgspec.Struct):
    """Counts over any number of seeds; reports of several processes add up."""

    seeds: int = 0
    failed: int = 0
    runs: int = 0
    faults: dict[str, int] = {}
    seen: dict[str, int] = {}
    events: dict[str, int] = {}
    moves: dict[str, int] = {}
    outcomes: dict[str, int] = {}

    def add(self, other: Report) -> None:
        """Add another report's counts."""
        self.seeds += other.seeds
        self.failed += other.failed
        self.runs += other.runs
        for name in ("faults", "seen", "events", "moves", "outcomes"):
            for key, count in getattr(other, name).items():
                met(getattr(self, name), key, count)

    def missing(self) -> list[str]:
        """Return the faults, events and legal changes of status that were never met."""
        every = [type_.__name__ for type_ in get_args(ev.Events)]
        found = [f"fault {name}" for name in (*POINTS, *MOMENTS) if not self.faults.get(name)]
        found += [f"event {name}" for name in every if not self.events.get(name)]
        return found + [f"move {name}" for name in all_moves() if not self.moves.get(name) and name not in OUT_OF_REACH]

    def text(self) -> str:
        """Return everything as lines for a person."""
        lines = [f"{self.seeds} seeds, {self.runs} runs, {sum(self.faults.values())} faults"]
        for title, counts in (
            ("faults", self.faults), ("observed", self.seen), ("outcomes of runs", self.outcomes),
            ("events", self.events), ("changes of status", self.moves),
        ):
            lines.append(f"{title}:")
            lines += [f"  {count:>9,}  {name}" for name, count in sorted(counts.items())]
        missing = self.missing()
        lines.append("never met: " + (", ".join(missing) if missing else "nothing"))
        return "\n".join(lines)


def all_moves() -> list[str]:
    """Return every change of status the transition tables allow."""
    found: list[str] = []
    for table, what in ((STEP_MOVES, "step"), (RUN_MOVES, "run")):
        for event, (before, after) in table.items():
            found += [move(what, event.__name__, one, after) for one in sorted(before)]
    return found


def move(what: str, event: str, before: str, after: str) -> str:
    """Return the name of a change of status."""
    return f"{what} {before} -> {after} ({event})"


def met(counts: dict[str, int], name: str, count: int = 1) -> None:
    """Count something that was met."""
    counts[name] = counts.get(name, 0) + count
