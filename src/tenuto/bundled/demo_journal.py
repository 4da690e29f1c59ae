"""What the demo reads in a run's journal and in the ledger, to show that nothing was done twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tenuto.domain.runs import events as ev
from tenuto.domain.runs.wire import decode
from tenuto.ports.store import Store

ENDS = (ev.RunCompleted, ev.RunFailed, ev.RunCancelled, ev.RunExceeded)
_DONE = (ev.StepCompleted, ev.StepSkipped, ev.StepFailed)


@dataclass(slots=True)
class Reading:
    """A run's journal as read so far.

    Attributes:
        intents: Calls begun: `(step, call)` -> idempotency key.
        done: Keys of the calls whose result is recorded.
        taken: Takeovers, oldest first.
    """

    run_id: str
    seq: int = 0
    steps: int = 0
    reused: int = 0
    lost: int = 0
    worker: str = ""
    intents: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    done: set[str] = field(default_factory=set[str])
    taken: list[ev.LeaseTaken] = field(default_factory=list[ev.LeaseTaken])
    taken_at: int = 0
    end: ev.Event | None = None

    async def catch_up(self, store: Store) -> bool:
        """Read what was committed since; return whether there was anything."""
        found = await store.records(self.run_id, self.seq)
        for record in found:
            body = decode(record)
            self.seq = record.seq
            for event in body.ev:
                self._take(event, body.t)
        return bool(found)

    def _take(self, event: ev.Event, at: int) -> None:
        if isinstance(event, ev.CallIntended):
            self.intents[event.step, event.call] = event.key
        elif isinstance(event, ev.CallCompleted | ev.CallResolved):
            key = self.intents.get((event.step, event.call))
            if key is not None:
                self.done.add(key)
        elif isinstance(event, ev.Claimed):
            self.worker = event.worker
        elif isinstance(event, ev.LeaseTaken):
            self.taken.append(event)
            self.taken_at = at
        elif isinstance(event, ev.AttemptLost):
            self.lost += 1
        elif isinstance(event, ev.StepReused):
            self.reused += 1
        elif isinstance(event, _DONE):
            self.steps += 1
        elif isinstance(event, ENDS):
            self.end = event

    def how_ended(self) -> str:
        """Return the event that ended the run, with its reason, for a person."""
        if isinstance(self.end, ev.RunFailed):
            return f"it failed, {self.end.failure.message}"
        if isinstance(self.end, ev.RunExceeded):
            return self.end.message
        return "it completed" if isinstance(self.end, ev.RunCompleted) else "it was cancelled"

    def in_flight(self) -> set[str]:
        """Return the keys of calls that were begun and have no recorded result."""
        return set(self.intents.values()) - self.done


@dataclass(frozen=True, slots=True)
class Count:
    """What the outside world saw of one run.

    Attributes:
        requests: Model requests that were really made.
        effects: Effects that really happened, by kind.
        again: Keys of model requests made more than once.
        doubled: Keys of effects that happened more than once; there must be none.
    """

    requests: int
    effects: dict[str, int]
    again: set[str]
    doubled: set[str]


def count(ledger: list[dict[str, Any]], run_id: str) -> Count:
    """Count a run's lines in the ledger."""
    mine = [entry for entry in ledger if str(entry["key"]).startswith(f"{run_id}/")]
    models = Counter(str(entry["key"]) for entry in mine if entry["kind"] == "model")
    effects = Counter(str(entry["key"]) for entry in mine if entry["kind"] != "model")
    kinds = Counter(str(entry["kind"]) for entry in mine if entry["kind"] != "model")
    return Count(
        requests=models.total(), effects=dict(kinds), again={key for key, n in models.items() if n > 1},
        doubled={key for key, n in effects.items() if n > 1},
    )
