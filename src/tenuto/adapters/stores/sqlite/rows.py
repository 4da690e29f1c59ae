"""Database rows as the port's values, and ids as they are stored."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from tenuto.ports.store import RunRow, StepRow, TaskRow, TicketRow, WorkerRow, WorkflowRow

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID_BYTES = 16
_KEPT_IDS = 8192

encode_labels = msgspec.json.Encoder().encode
_labels = msgspec.json.Decoder(dict[str, str]).decode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class Ids(dict[str, bytes]):
    """The stored form of run ids, remembered, because a run writes many times."""

    def __missing__(self, run_id: str) -> bytes:
        """Return the 16 bytes of an id.

        Raises:
            ValueError: It is no UUID in its usual form.
        """
        if _UUID.fullmatch(run_id) is None:
            raise ValueError(f"{run_id!r} is no run id; ids are UUIDs in lower case with dashes")
        if len(self) >= _KEPT_IDS:
            self.clear()
        stored = self[run_id] = bytes.fromhex(run_id.replace("-", ""))
        return stored


def stored_id(run_id: str) -> bytes | None:
    """Return the stored form of an id, or `None` for a text under which nothing can be stored."""
    return bytes.fromhex(run_id.replace("-", "")) if _UUID.fullmatch(run_id) else None


@lru_cache(maxsize=4096)
def id_text(stored: bytes) -> str:
    """Return an id as text."""
    digits = stored.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def run_row(row: Any) -> RunRow:
    """Return a run's row, in the order of the part `run_columns`."""
    run_id = id_text(row[0])
    return RunRow(
        id=run_id, ns=row[1], workflow=row[2], digest=row[3], state=row[4], status=row[5], priority=row[6],
        wake_at=row[7], worker=row[8], epoch=row[9], inbox_seq=row[10], goal=row[11],
        labels=_labels(row[12]) if row[12] else {}, parent=row[13], replay_of=row[14], error=row[15],
        business_key=row[16], created_at=row[17], started_at=row[18], finished_at=row[19],
        cursor=f"{row[17]}.{run_id}",
    )  # fmt: skip


def run_cursor(cursor: str) -> tuple[int | None, bytes | None]:
    """Return where a page of runs starts; an empty or foreign cursor starts at the beginning."""
    created_at, _, run_id = cursor.partition(".")
    stored = stored_id(run_id)
    return (int(created_at), stored) if created_at.isdecimal() and stored else (None, None)


def ticket(row: Any) -> TicketRow:
    """Return a ticket, in the order of the part `ticket_columns`."""
    return TicketRow(
        ns=row[0], id=row[1], run_id=id_text(row[2]), step=row[3], kind=row[4], state=row[5], message=row[6],
        body=row[7], answer=row[8], created_at=row[9], expires_at=row[10], decided_at=row[11],
        votes=row[12],
    )  # fmt: skip


def task(row: Any) -> TaskRow:
    """Return an attempt for an executor, with the one that held it before."""
    return TaskRow(
        id=row[0], ns=row[1], run_id=id_text(row[2]), step=row[3], attempt=row[4], handler=row[5], body=row[6],
        worker=row[7], created_at=row[8],
    )  # fmt: skip


def worker(row: Any) -> WorkerRow:
    """Return a worker."""
    return WorkerRow(
        id=row[0], host=row[1], pid=row[2], lease_until=row[3], started_at=row[4], manifest=row[5]
    )


def workflow(row: Any) -> WorkflowRow:
    """Return a version of a workflow."""
    return WorkflowRow(
        ns=row[0], name=row[1], digest=row[2], body=row[3], created_at=row[4], retired=bool(row[5]),
        tags=_tags(row[6]),
    )  # fmt: skip


def step(row: Any) -> StepRow:
    """Return a step of the projection."""
    run_id = id_text(row[1])
    return StepRow(
        ns=row[0], run_id=run_id, step=row[2], node=row[3], kind=row[4], status=row[5], attempt=row[6],
        started_at=row[7], finished_at=row[8], error=row[9], as_of=row[10], reused=bool(row[11]), cache=row[12],
        stored=bool(row[13]), saved_ms=row[14], saved_usd_micros=row[15], cursor=f"{row[7]}.{run_id}.{row[2]}",
    )  # fmt: skip


def step_cursor(cursor: str) -> tuple[int | None, bytes | None, str | None]:
    """Return where a page of steps starts; an empty or foreign cursor starts at the beginning."""
    started_at, _, rest = cursor.partition(".")
    run_id, _, step_id = rest.partition(".")
    stored = stored_id(run_id)
    return (int(started_at), stored, step_id) if started_at.isdecimal() and stored else (None, None, None)


def group_runs(packed: bytes) -> tuple[tuple[str, int], ...]:
    """Return the runs and positions of a listed group: 16 bytes of id and 4 of position each."""
    return tuple(
        (id_text(packed[at : at + _ID_BYTES]), int.from_bytes(packed[at + _ID_BYTES : at + 20], "big"))
        for at in range(0, len(packed), 20)
    )
