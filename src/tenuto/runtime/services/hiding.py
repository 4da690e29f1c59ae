"""What is sensitive in a run, known before anything of it is shown: the values at the places its schemas mark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.graph.plan import Plan
from tenuto.domain.runs.sensitive import HIDDEN, Hidden, Marks, known_in, marks_of
from tenuto.domain.runs.state import RunState
from tenuto.errors import Corrupt, Gone, RunMissing
from tenuto.runtime.services.context import Context


async def hidden_of(context: Context, run_id: str, plan: Plan) -> Hidden | None:
    """Return what hides a run's sensitive values; `None`, at no cost, where its workflow marks nothing.

    Raises:
        RunMissing: There is no such run.
    """
    marks = marks_of(plan)
    if not marks:
        return None
    st, _, _ = await context.load(run_id)
    return await hidden_in(context, st, marks)


async def hidden_in(context: Context, st: RunState, marks: Marks) -> Hidden:
    """Return what hides the sensitive values of a run whose state is at hand; large ones are read from the store."""
    values = {key: step.out for key, step in st.steps.items() if step.out is not None and marks.of_step(key)}
    digests = {digest for value in (st.input, *values.values()) if (digest := digest_of(value)) is not None}
    stored = await context.store.get_blobs(sorted(digests)) if digests else {}

    def read(value: Raw) -> Any:
        digest = digest_of(value)
        return unpack(value) if digest is None else unpack(stored[digest]) if digest in stored else None

    return known_in(marks, read(st.input), {key: read(value) for key, value in values.items()})


async def hidden_in_run(context: Context, run_id: str) -> Callable[[str], str]:
    """Return what takes the sensitive values of a run out of a text, such as the error that a list shows."""
    try:
        row = await context.row(run_id)
        hidden = await hidden_of(context, run_id, await context.definitions.plan(context.ns, row.digest))
    except RunMissing:
        return str
    except (Corrupt, Gone):  # what is sensitive cannot be known, so nothing is shown
        return lambda _: HIDDEN
    return hidden.text if hidden is not None else str
