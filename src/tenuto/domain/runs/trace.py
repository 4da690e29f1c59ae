"""Which trace a run belongs to, and which span each of its parts is: the same whoever works it out, and when.

Ids follow from the run, the step, the try and the call, so a worker that takes a run over goes on with its trace, and
nothing of it has to be stored but what the caller sent.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NamedTuple

_FULL = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_KIN = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})").fullmatch


class Trace(NamedTuple):
    """Where a run hangs in a trace.

    Attributes:
        id: 32 hexadecimal digits.
        parent: Span above the run's own, 16 hexadecimal digits; empty for a root.
        sampled: What the caller decided; `None` leaves it to a share of all traces.
    """

    id: str
    parent: str
    sampled: bool | None


def traceparent_of(text: str) -> str:
    """Return a W3C `traceparent` header if it is one, else nothing: a caller's bad header harms nobody."""
    found = _FULL(text.strip().lower())
    if found is None or found[1] == "ff" or not int(found[2], 16) or not int(found[3], 16):
        return ""
    if found[1] == "00" and found[5]:
        return ""
    return f"00-{found[2]}-{found[3]}-{found[4]}"


def trace_of(run_id: str, kept: str) -> Trace:
    """Return a run's trace, given the context it was started with."""
    if kept and (full := _FULL(kept)) is not None:
        return Trace(full[2], full[3], bool(int(full[4], 16) & 1))
    if kept and (kin := _KIN(kept)) is not None:
        return Trace(kin[1], kin[2], None)
    return Trace(sha256(b"trace\0" + run_id.encode()).hexdigest()[:32], "", None)


def span_of(run_id: str, *part: str | int) -> str:
    """Return the id of a span: of the run itself, of a try `(step, n)` or of a call `(step, n, call)`."""
    return sha256("\0".join(("span", run_id, *map(str, part))).encode()).hexdigest()[:16]


def context_for_child(run_id: str, kept: str, step: str, n: int) -> str:
    """Return what a run started by a step keeps, so that it belongs to the same trace."""
    trace = trace_of(run_id, kept)
    span = span_of(run_id, step, n)
    return f"{trace.id}-{span}" if trace.sampled is None else f"00-{trace.id}-{span}-{int(trace.sampled):02x}"


def is_sampled(trace: Trace, ratio: float) -> bool:
    """Return whether a trace is among those exported: as its caller decided, else a fixed share of all."""
    if trace.sampled is not None:
        return trace.sampled
    return int(trace.id[16:], 16) < ratio * 2**64
