"""What lists show and how they are filtered: versions of workflows, steps and runs, and the tail of the journals."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class WorkflowRow(msgspec.Struct, kw_only=True):
    """A stored version of a workflow."""

    ns: str
    name: str
    digest: str
    body: bytes
    created_at: int = 0
    retired: bool = False
    tags: tuple[str, ...] = ()


class StepRow(msgspec.Struct, kw_only=True):
    """A step as lists across runs show it; a projection, rebuilt from journals at will.

    Attributes:
        as_of: The record the row was last made from; an older one never replaces a newer.
        reused: Whether its result came from the cache.
        cache: What the cache had to do with its outcome: `hit`, `joined`, `miss`, `unread`, or empty for nothing.
        stored: Whether its result was kept for others.
        saved_ms: What the result of a `hit` or `joined` had taken to compute, with `saved_usd_micros`.
    """

    ns: str
    run_id: str
    step: str
    node: str
    kind: str
    status: str
    attempt: int = 0
    started_at: int = 0
    finished_at: int = 0
    error: str = ""
    as_of: int = 0
    reused: bool = False
    cache: str = ""
    stored: bool = False
    saved_ms: int = 0
    saved_usd_micros: int = 0
    cursor: str = ""


class TailRow(msgspec.Struct, frozen=True):
    """One committed group: which runs got which positions. Cursors are per writer and dense."""

    writer: int
    n: int
    runs: tuple[tuple[str, int], ...]


class RunFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which runs a list shows; unset fields do not filter. `labels` must all match; `text` searches goal and id."""

    ns: str = "default"
    statuses: tuple[str, ...] = ()
    workflow: str | None = None
    digest: str | None = None
    labels: Mapping[str, str] = {}
    replay_of: str | None = None
    parent: str | None = None
    text: str = ""
    created_after: int = 0
    created_before: int = 0


class StepFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which steps a list across runs shows."""

    ns: str = "default"
    run_id: str | None = None
    node: str | None = None
    kind: str | None = None
    statuses: tuple[str, ...] = ()
    after: int = 0
    before: int = 0
