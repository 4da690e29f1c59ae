"""The invariants of a journal as assertions: what must hold of any run's records, whatever faults it met."""

from __future__ import annotations

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One broken invariant.

    Attributes:
        rule: The invariant, such as `I1`, with the detail after a dot: `I5.second_outcome`.
    """

    run: str
    seq: int
    rule: str
    message: str
