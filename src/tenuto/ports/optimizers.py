"""What an optimizer is told and what it answers: a workflow with what its runs have shown in, patches with their reasons out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

ABI = 1
"""Version of what crosses the border of a plug-in; a module exports it as `abi()`."""

Stop = Literal["fuel", "memory", "time", "trap", "reply", "module"]


class NodeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What ended steps of one node have shown. Times are of attempts that succeeded, in milliseconds; `None` where none did.

    Attributes:
        completed: Steps that completed.
        failed: Steps that failed for good.
        skipped: Steps on a path that was not taken.
        retried: Attempts beyond the first.
        reused: Steps whose result came from the cache.
        bytes: Mean size of an output, in bytes of canonical JSON.
        cost_usd_micros: Mean cost of a completed step.
    """

    completed: int = 0
    failed: int = 0
    skipped: int = 0
    retried: int = 0
    reused: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    bytes: float | None = None
    cost_usd_micros: float = 0.0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What ended runs of one version of a workflow have shown; times as in `NodeStatistics`, from start to end of a run.

    Attributes:
        runs: Completed runs that were looked at.
        failed: Failed runs that were looked at.
        steps: Mean number of executed steps a run.
        nodes: By node id; a node no step of which ended is absent.
    """

    runs: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    steps: float = 0.0
    cost_usd_micros: float = 0.0
    nodes: Mapping[str, NodeStatistics] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the patch of an optimizer has to keep to."""

    max_agents: int
    max_nodes: int
    max_operations: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What an optimizer is told.

    Attributes:
        workflow: The definition, with what handlers declare about themselves (effect, `deterministic`) written into the nodes.
        version: Its digest.
        fixed: Nodes that may not change, because a live run has begun them or relies on them; empty for runs to come.
        statistics: What its runs have shown.
        settings: What the operator set for this optimizer.
    """

    abi: int = ABI
    workflow: dict[str, Any]
    version: str
    fixed: tuple[str, ...] = ()
    statistics: Statistics = Statistics()
    limits: Limits
    settings: Mapping[str, Any] = {}


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is expected to save, by the median run; 0 where nothing is claimed."""

    ms: float = 0.0
    steps: float = 0.0
    requests: float = 0.0
    cost_usd_micros: float = 0.0


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """One patch, whole in itself: it is applied without the other suggestions of the same answer.

    Attributes:
        rule: Which pass made it, such as `fuse_http`.
        title: One line for people.
        reason: Why it is right and what it changes, for the person who approves it.
        operations: JSON Patch of the definition's `/nodes` and `/edges`.
        nodes: Nodes it is about, as they are called before the patch.
        gain: What a run is expected to save.
        evidence: Figures the claim rests on.
    """

    rule: str
    title: str
    reason: str
    operations: list[Any]
    nodes: tuple[str, ...] = ()
    gain: Gain = Gain()
    evidence: Mapping[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an optimizer answers, with what it used: fuel in instructions, the largest memory in bytes, time in milliseconds."""

    suggestions: tuple[Suggestion, ...] = ()
    fuel: int = 0
    memory: int = 0
    ms: float = 0.0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a plug-in may use."""

    fuel: int = 200_000_000
    memory: int = 64 * 1024 * 1024
    time_s: float = 2.0
    reply: int = 1024 * 1024


class Builtin(msgspec.Struct, frozen=True, kw_only=True):
    """An optimizer that ships with Tenuto, as a module like any other.

    Attributes:
        digest: SHA-256 of the module, in hex.
    """

    name: str
    description: str
    digest: str
    module: bytes


class OptimizerStopped(Exception):
    """A plug-in gave no answer.

    Attributes:
        why: Which limit it met; `trap` when it failed by itself, `reply` when what it answered is not an answer, `module`
            when it cannot be loaded at all.
    """

    def __init__(self, why: Stop, message: str) -> None:
        """Keep which limit and the sentence for people."""
        super().__init__(message)
        self.why: Stop = why


class Sandbox(Protocol):
    """Runs plug-ins, each call in an instance of its own that sees nothing but its task."""

    async def check(self, module: bytes) -> None:
        """Raise `OptimizerStopped` when a module cannot be a plug-in: broken, wanting imports, or exporting too little."""
        ...

    async def run(self, module: bytes, task: Task, bounds: Bounds) -> Answer:
        """Return what a plug-in answers.

        Raises:
            OptimizerStopped: It was stopped at a limit, failed, or answered rubbish.
        """
        ...
