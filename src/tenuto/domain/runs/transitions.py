"""Every legal change of a step's or run's status, as tables. `fold` moves nothing that is not listed here."""

from __future__ import annotations

from tenuto.domain.runs import events as ev

BEGUN = frozenset({"running", "waiting", "retrying"})
ACTIVE = BEGUN | {"ready"}

# event: (statuses it may find, status it leaves)
STEP_MOVES: dict[type[ev.Event], tuple[frozenset[str], str]] = {
    ev.AttemptStarted: (frozenset({"ready", "retrying", "waiting", "running"}), "running"),
    ev.AttemptFailed: (frozenset({"running", "waiting"}), "retrying"),
    ev.AttemptLost: (frozenset({"running"}), "running"),
    ev.AttemptInterrupted: (frozenset({"running"}), "ready"),
    ev.WaitStarted: (frozenset({"ready", "running"}), "waiting"),
    ev.StepCompleted: (ACTIVE, "completed"),
    ev.StepReused: (frozenset({"ready"}), "completed"),
    ev.StepFailed: (ACTIVE, "failed"),
    ev.StepDeadLettered: (ACTIVE | {"completed"}, "dead_letter"),
    ev.StepCancelled: (ACTIVE, "cancelled"),
    ev.StepRedriven: (frozenset({"dead_letter", "retrying"}), "ready"),
}

RUN_MOVES: dict[type[ev.Event], tuple[frozenset[str], str]] = {
    ev.RunStarted: (frozenset({"queued"}), "running"),
    ev.PauseRequested: (frozenset({"queued", "running"}), "paused"),
    ev.Resumed: (frozenset({"paused"}), "running"),
    ev.CancelRequested: (frozenset({"queued", "running", "paused", "failed", "budget_exceeded"}), "cancelling"),
    ev.RunCompleted: (frozenset({"running"}), "completed"),
    ev.RunFailed: (frozenset({"queued", "running", "paused"}), "failed"),
    ev.RunCancelled: (frozenset({"cancelling"}), "cancelled"),
    ev.RunExceeded: (frozenset({"running", "paused"}), "budget_exceeded"),
    ev.RunReopened: (frozenset({"failed", "budget_exceeded"}), "running"),
}


class IllegalTransition(AssertionError):
    """An event met a status it may not follow: the journal or the engine is broken."""


def step_status(event: type[ev.Event], current: str, key: str) -> str:
    """Return the status a step has after an event.

    Raises:
        IllegalTransition: The event may not follow the current status.
    """
    allowed, after = STEP_MOVES[event]
    if current not in allowed:
        raise IllegalTransition(f"step {key!r} is {current}; {event.__name__} needs {sorted(allowed)}")
    return after


def run_status(event: type[ev.Event], current: str) -> str:
    """Return the status a run has after an event.

    Raises:
        IllegalTransition: The event may not follow the current status.
    """
    allowed, after = RUN_MOVES[event]
    if current not in allowed:
        raise IllegalTransition(f"the run is {current}; {event.__name__} needs {sorted(allowed)}")
    return after
