"""The verdict of the invariant checker."""

from __future__ import annotations

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One broken invariant.

    Attributes:
        seq: The record at which it shows.
        rule: The invariant, such as `I1`, with the detail after a dot: `I5.second_outcome`.
    """

    run: str
    seq: int
    rule: str
    message: str
