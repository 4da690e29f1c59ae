"""The state machine, from the tables that `fold` obeys."""

from __future__ import annotations

from scripts.docs_pages.markdown import code, opening, table
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.public import TABLE
from tenuto.domain.runs.transitions import RUN_MOVES, STEP_MOVES

Moves = dict[type[ev.Event], tuple[frozenset[str], str]]


RUNS = """
## Runs

`queued` comes with the run's creation.
`completed` and `cancelled` are final; `failed` and `budget_exceeded` are stopped and can be reopened.
The API shows a running run as `waiting` when it has nothing but waits, and a `cancelling` one as `running`.

"""
STEPS = """
## Steps

A step is `ready` when its incoming edges are resolved as its join asks.
Before that the API shows it as `blocked`; a step none of whose edges was taken is `skipped`.
`failed` means handled by an error edge, a fallback or a policy; `dead_letter` means that nothing handled it.

"""


def page() -> str:
    """Return the page."""
    text = opening(
        "State machine",
        "tenuto/domain/runs/transitions.py",
        "These tables are the whole of it: folding a journal moves nothing that is not listed here.",
        "An event that meets a status it may not follow is a broken journal, and the run stops.",
    )
    text += RUNS + diagram("queued", RUN_MOVES) + "\n" + moves(RUN_MOVES)
    return text + STEPS + diagram("ready", STEP_MOVES) + "\n" + moves(STEP_MOVES)


def moves(table_: Moves) -> str:
    """Return the moves as a table."""
    rows = [
        (
            code(TABLE[event].name),
            code(event.__name__),
            ", ".join(code(s) for s in sorted(before)),
            code(after),
            TABLE[event].says,
        )
        for event, (before, after) in table_.items()
    ]
    return table(["public event", "journal event", "from", "to", "meaning"], rows)


def diagram(first: str, table_: Moves) -> str:
    """Return the moves as a diagram; events between the same two statuses share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for event, (before, after) in table_.items():
        for status in sorted(before):
            arrows.setdefault((status, after), []).append(TABLE[event].name.partition(".")[2])
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {a} --> {b}: {', '.join(dict.fromkeys(names))}" for (a, b), names in arrows.items()]
    return "\n".join([*lines, "```", ""])
