"""Journals for tests: runs, chained records, and what must have become of them."""

from __future__ import annotations

import os
import time
import uuid

from tenuto.domain.runs import wire
from tenuto.ports.store import Commit, RowChange, RunRow


def run_id() -> str:
    """Return a fresh UUIDv7."""
    number = int.from_bytes(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10), "big")
    number = number & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=number & ~(3 << 62) | 2 << 62))


class Journals:
    """Hands out commits whose records follow each other, run by run."""

    def __init__(self) -> None:
        self.chains: dict[str, bytes] = {}
        self.seqs: dict[str, int] = {}

    def create(self, *, priority: int = 1, labels: dict[str, str] | None = None, goal: str = "") -> Commit:
        """Return the creation of a new run."""
        run = run_id()
        self.chains[run], self.seqs[run] = wire.ZERO, 0
        commit = self.append(run, epoch=0)
        commit.new = RunRow(
            id=run, workflow="w", digest="d", priority=priority, labels=labels or {}, goal=goal
        )
        return commit

    def append(self, run: str, *, epoch: int = 1, row: RowChange | None = None) -> Commit:
        """Return the next record of a run."""
        seq = self.seqs[run] + 1
        body = b'{"t":%d,"ev":[]}' % seq
        record = wire.Record(seq, epoch, body, wire.link(self.chains[run], run, seq, epoch, body))
        self.chains[run], self.seqs[run] = record.chain, seq
        return Commit(run_id=run, epoch=epoch, record=record, row=row)


PARK = RowChange(state="waiting", status="waiting", inbox_seen=0)
