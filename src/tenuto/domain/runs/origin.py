"""Where the origin of a frozen replay stands, and what the replay says where that is no outcome."""

from __future__ import annotations

from tenuto.domain.runs import events as ev
from tenuto.domain.runs.state import RunState

UNRECORDED = ev.Failure(code="replay.unrecorded", message="the origin recorded no failure", retryable=False)
UNENDED = "origin unended"


def where_origin_stands(st: RunState, fork: ev.Fork) -> ev.Failure:
    """Say how far a frozen replay came: to where its origin was stopped, or had come to when it was replayed."""
    unended = [key for key, step in st.steps.items() if step.status == "cancelled" and step.how == UNENDED]
    if unended:
        return ev.Failure(
            code="replay.unended", type="ReplayUnended", retryable=False,
            message=f"run {fork.run} had not ended at record {fork.seq}: all it had decided by then is verified, with "
            f"{st.divergences} divergences; it ends at {', '.join(unended[:5])}, which had no outcome yet",
        )
    stopped = [key for key, step in st.steps.items() if step.status == "cancelled"]
    return ev.Failure(
        code="replay.stopped", type="ReplayStopped", retryable=False,
        message=f"run {fork.run} was stopped here too, at {', '.join(stopped[:5]) or 'its first step'}",
    )
