"""What a store hands out of a run: its history and its messages."""

from __future__ import annotations

import msgspec

from tenuto.domain.runs.wire import Record
from tenuto.errors import TenutoError


class InboxRow(msgspec.Struct, frozen=True):
    """A message to a run; `n` is dense per run, `key` unique per run."""

    n: int
    key: str
    body: bytes


class History(msgspec.Struct, frozen=True):
    """What is needed to rebuild a run.

    Attributes:
        snapshot: Encoded state at `snapshot_seq`, or `None` when the records start at 1.
        records: Dense from `snapshot_seq + 1`.
        fault: Why the store refuses to hand them out; there are none then.
    """

    run_id: str
    snapshot_seq: int
    snapshot: bytes | None
    records: list[Record]
    fault: TenutoError | None = None

    def sound(self) -> History:
        """Return this, if it can be read.

        Raises:
            TenutoError: `fault`.
        """
        if self.fault is not None:
            raise self.fault
        return self
