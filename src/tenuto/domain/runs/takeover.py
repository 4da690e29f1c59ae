"""The one record a store makes by itself: the run has another owner now."""

from __future__ import annotations

from typing import Protocol

import msgspec

from tenuto.domain.runs.events import Body, LeaseTaken
from tenuto.domain.runs.wire import ZERO, Record, record


class Taken(msgspec.Struct, kw_only=True, frozen=True):
    """A run that changes hands.

    Attributes:
        epoch: The one it had.
        head: Its last record as stored; `None` when there is none.
        now: The store's clock.
        by: The worker that takes it.
    """

    run_id: str
    epoch: int
    head: Record | None
    now: int
    by: str
    owner: str


class _Time(msgspec.Struct):
    """The one field of a record that a takeover needs; the rest may be of a newer version."""

    t: int = 0


_time = msgspec.json.Decoder(_Time).decode


def body_of(taken: Taken, before: bytes | None) -> Body:
    """Return what is recorded, at a time not before that of the last record's body."""
    event = LeaseTaken(epoch=taken.epoch + 1, by=taken.by, from_=taken.owner)
    return Body(t=max(taken.now, _moment(before)), ev=(event,))


def lease_taken(taken: Taken) -> Record:
    """Return the record that occupies the position the old owner would write next."""
    seq, chain, body = (0, ZERO, None) if taken.head is None else (taken.head.seq, taken.head.chain, taken.head.body)
    return record(chain, taken.run_id, seq + 1, taken.epoch + 1, body_of(taken, body))


class MakeRecord(Protocol):
    """Makes the record that occupies the position the old owner would write next."""

    def __call__(self, taken: Taken, /) -> Record:
        """Return it."""
        ...


def _moment(body: bytes | None) -> int:
    try:
        return _time(body).t if body else 0
    except msgspec.DecodeError:
        return 0
