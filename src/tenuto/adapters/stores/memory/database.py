"""What a memory store holds; several stores may share it, as processes share a database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tenuto.domain.runs.wire import Record
from tenuto.ports.store import InboxRow, OutboxRow, RunRow, StepRow, TailRow, TaskRow, TicketRow, WorkerRow, WorkflowRow


def wall_clock() -> int:
    """Return this machine's time in ms."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Database:
    """Tables as dictionaries, in the order rows were made."""

    clock: Callable[[], int] = wall_clock
    runs: dict[str, RunRow] = field(default_factory=dict[str, RunRow])
    journal: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])
    inbox: dict[str, list[InboxRow]] = field(default_factory=dict[str, list[InboxRow]])
    inbox_keys: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    snapshots: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    workers: dict[str, WorkerRow] = field(default_factory=dict[str, WorkerRow])
    workflows: dict[tuple[str, str, str], WorkflowRow] = field(default_factory=dict[tuple[str, str, str], WorkflowRow])
    tags: dict[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    tickets: dict[tuple[str, str], TicketRow] = field(default_factory=dict[tuple[str, str], TicketRow])
    outbox: dict[int, OutboxRow] = field(default_factory=dict[int, OutboxRow])
    outbox_seq: int = 0
    tasks: dict[str, TaskRow] = field(default_factory=dict[str, TaskRow])
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict[tuple[str, str], tuple[str, str]])
    groups: list[TailRow] = field(default_factory=list[TailRow])
    steps: dict[str, dict[tuple[str, str], StepRow]] = field(default_factory=dict[str, dict[tuple[str, str], StepRow]])
    cursors: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Tell whoever waits that something changed."""
        self.changed.set()
        self.changed = asyncio.Event()
