"""Database rows as the port's values."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from tenuto.domain.runs.wire import Record
from tenuto.ports.store import Claim, RunRow, StepRow, TaskRow, TicketRow, WorkerRow, WorkflowRow

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_labels = msgspec.json.Decoder(dict[str, str]).decode


def is_id(run_id: str) -> bool:
    """Tell whether a text can be the id of a run; nothing is stored under another."""
    return _UUID.fullmatch(run_id) is not None


@lru_cache(maxsize=4096)
def packed_digest(digest: str) -> bytes:
    """Return how a run's row names its version: half the bytes of the text, in a row that is written twice a run."""
    if _DIGEST.fullmatch(digest) is not None:
        return b"\0" + bytes.fromhex(digest[7:])
    return digest.encode()


@lru_cache(maxsize=4096)
def plain_digest(stored: bytes) -> str:
    """Return the digest that was packed."""
    return "sha256:" + stored[1:].hex() if stored[:1] == b"\0" else stored.decode()


def run_row(row: Any) -> RunRow:
    """Return a run's row, ids as text."""
    return RunRow(
        id=str(row["id"]), ns=row["ns"], workflow=row["workflow"], digest=plain_digest(row["digest"]), state=row["state"],
        status=row["status"], priority=row["priority"], wake_at=row["wake_at"], worker=row["worker"],
        epoch=row["epoch"], inbox_seq=row["inbox_seq"], goal=row["goal"], labels=_labels(row["labels"]),
        parent=row["parent"], replay_of=row["replay_of"], error=row["error"], business_key=row["business_key"],
        created_at=row["created_at"], started_at=row["started_at"], finished_at=row["finished_at"],
        cursor=f"{row['created_at']}.{row['id']}",
    )  # fmt: skip


def run_cursor(cursor: str) -> tuple[int | None, str | None]:
    """Return where a page of runs starts; an empty or foreign cursor starts at the beginning."""
    created_at, _, run_id = cursor.partition(".")
    return (int(created_at), run_id) if created_at.isdecimal() and is_id(run_id) else (None, None)


def record(row: Any) -> Record:
    """Return a record as it was stored."""
    return Record(row["seq"], row["epoch"], row["body"], row["chain"])


def claim(row: Any, stolen_from: str | None = None, status: str = "") -> Claim:
    """Return a run that is now ours."""
    return Claim(
        str(row["id"]), row["ns"], row["epoch"], plain_digest(row["digest"]), row["inbox_seq"], stolen_from, status
    )


def ticket(row: Any) -> TicketRow:
    """Return a ticket, ids as text."""
    return TicketRow(**_named(row))


def task(row: Any) -> TaskRow:
    """Return an attempt for an executor, ids as text."""
    return TaskRow(**_named(row))


def worker(row: Any) -> WorkerRow:
    """Return a worker."""
    return WorkerRow(**row)


def workflow(row: Any) -> WorkflowRow:
    """Return a version of a workflow."""
    values: dict[str, Any] = dict(row)
    values["tags"] = tuple(row["tags"])
    return WorkflowRow(**values)


def step(row: Any) -> StepRow:
    """Return a step of the projection, ids as text."""
    return StepRow(**_named(row), cursor=f"{row['started_at']}.{row['run_id']}.{row['step']}")


def step_cursor(cursor: str) -> tuple[int | None, str | None, str | None]:
    """Return where a page of steps starts; an empty or foreign cursor starts at the beginning."""
    started_at, _, rest = cursor.partition(".")
    run_id, _, step_id = rest.partition(".")
    return (
        (int(started_at), run_id, step_id) if started_at.isdecimal() and is_id(run_id) else (None, None, None)
    )


def group_runs(packed: bytes) -> tuple[tuple[str, int], ...]:
    """Return the runs and positions of a listed group: 16 bytes of id and 4 of position each."""
    return tuple(
        (_id_text(packed[at : at + 16].hex()), int.from_bytes(packed[at + 16 : at + 20], "big"))
        for at in range(0, len(packed), 20)
    )


def _named(row: Any) -> dict[str, Any]:
    """Return a row by column, its run as text."""
    values: dict[str, Any] = dict(row)
    values["run_id"] = str(row["run_id"])
    return values


def _id_text(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
