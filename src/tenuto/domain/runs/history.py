"""Rebuilding a run from what is stored: the newest snapshot and the records after it, verified on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs.events import RunCreated
from tenuto.domain.runs.fold import fold_body
from tenuto.domain.runs.state import RunState, decode_state
from tenuto.domain.runs.wire import Record, decode, verify
from tenuto.errors import Corrupt


def digest_of_history(snapshot: bytes | None, records: Sequence[Record]) -> str:
    """Return the digest of the graph that the first of the records goes by."""
    if snapshot is not None:
        return decode_state(snapshot).digest
    for event in decode(records[0]).ev:
        if isinstance(event, RunCreated):
            return event.digest
    raise Corrupt("a journal does not begin with its creation")


def restore(
    run_id: str, snapshot: bytes | None, records: list[Record], plan_of: Callable[[str], Plan], *, until: int = 0
) -> tuple[RunState, Plan]:
    """Return the state after the last record (or after record `until`), with positions and chain verified, and its plan.

    Args:
        plan_of: Gives the plan of `digest_of_history`.

    Raises:
        Corrupt: A record is missing, altered, or cannot follow the one before it.
        UnknownEvent: A newer version wrote the journal.
    """
    if snapshot is not None:
        state = decode_state(snapshot)
        if state.id != run_id:
            raise Corrupt(f"run {run_id}: the snapshot belongs to run {state.id}", run=run_id)
    else:
        state = RunState(id=run_id)
    plan: Plan | None = plan_of(state.digest) if state.digest else None
    verify(run_id, state.chain, records, state.seq + 1)
    for item in records:
        if until and item.seq > until:
            break
        body = decode(item)
        if plan is None:
            first = body.ev[0] if body.ev else None
            if not isinstance(first, RunCreated):
                raise Corrupt(f"run {run_id}: the journal does not begin with its creation", run=run_id)
            plan = plan_of(first.digest)
        try:
            plan = fold_body(state, plan, body)
        except (AssertionError, KeyError, IndexError, ValueError) as exc:
            raise Corrupt(f"run {run_id}: record {item.seq} cannot follow the ones before: {exc}", run=run_id) from exc
        state.seq, state.epoch, state.chain = item.seq, item.epoch, item.chain
    if plan is None:
        raise Corrupt(f"run {run_id}: there is no journal", run=run_id)
    return state, plan
