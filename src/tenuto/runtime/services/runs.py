"""Runs: start, read, steer, replay and compare them."""

from __future__ import annotations

from typing import Any, Unpack

from tenuto.domain.graph.model import Budget, Definition
from tenuto.domain.runs.diff import RunDiff
from tenuto.domain.runs.explain import Explanation
from tenuto.domain.runs.views import RunSummary, RunView
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.requests import ListRuns, Replay, StartOptions, StartRun
from tenuto.runtime.services.results import Accepted, DeletedView, Page, Started


class Runs:
    """Every use case of runs, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store, committer and caches of an engine."""
        self._c = context

    async def start(
        self, workflow: str | Definition, input: Any = None, **options: Unpack[StartOptions]
    ) -> Started:
        """Start a run; when this returns, it is durable and will be worked on."""
        raise NotImplementedError

    async def submit(self, request: StartRun) -> Started:
        """Start a run as asked; when this returns, it is durable. A refused request creates nothing.

        Raises:
            WorkflowMissing: No such workflow, version or tag; names the nearest.
            InvalidGraph: The inline definition breaks rules.
            InvalidInput: The input does not fit the workflow's schema.
            KeyReused: The idempotency key was used with another body.
        """
        raise NotImplementedError

    async def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        """Return a run, current to its last record.

        Args:
            wait_s: Wait this long for the run to end before answering; it is returned as it is then.

        Raises:
            RunMissing: There is no such run.
        """
        raise NotImplementedError

    async def list(self, where: ListRuns | None = None, *, after: str = "", limit: int = 50) -> Page[RunSummary]:
        """Return runs, newest first."""
        raise NotImplementedError

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "", key: str = "") -> Accepted:
        """Ask a run to end; its attempts are stopped and it takes no more work.

        Raises:
            RunTerminal: It has ended.
        """
        raise NotImplementedError

    async def pause(self, run_id: str, *, reason: str = "", by: str = "", key: str = "") -> Accepted:
        """Ask a run to start nothing new.

        Raises:
            RunTerminal: It has ended.
        """
        raise NotImplementedError

    async def resume(self, run_id: str, *, budget: Budget | None = None, by: str = "", key: str = "") -> Accepted:
        """Ask a paused run to go on, or a stopped one to be reopened, with raised caps if given.

        Raises:
            RunTerminal: It completed or was cancelled.
        """
        raise NotImplementedError

    async def signal(
        self, run_id: str, name: str, payload: Any = None, *, by: str = "", key: str = ""
    ) -> Accepted:
        """Deliver a signal; it waits in line until somebody wants it. The same `key` delivers once.

        Raises:
            RunTerminal: The run has ended.
        """
        raise NotImplementedError

    async def retry(
        self, run_id: str, step: str, *, fresh: bool = False, guidance: str = "",
        config: dict[str, Any] | None = None, reason: str = "", by: str = "", key: str = "",
    ) -> Accepted:
        """Ask for a failed step to be tried again; a stopped run is reopened.

        Raises:
            StepMissing: The run has no such step; names the nearest.
            Conflict: The step is not one that can be tried again.
        """
        raise NotImplementedError

    async def delete(self, run_id: str) -> DeletedView:
        """Delete an ended run with everything it owns.

        Raises:
            Conflict: The run has not ended.
        """
        raise NotImplementedError

    async def prune(self, *, before: int, limit: int = 1000) -> DeletedView:
        """Delete runs that finished before a time (ms)."""
        raise NotImplementedError

    async def replay(self, run_id: str, request: Replay | None = None) -> Started:
        """Start a new run that takes over part of an old one.

        Raises:
            StepMissing: The old run has no such step or node.
            Invalid: The cut is out of range, or edits and cut contradict each other.
        """
        raise NotImplementedError

    async def diff(self, a: str, b: str) -> RunDiff:
        """Compare two runs, current to their last records."""
        raise NotImplementedError

    async def why(self, run_id: str) -> Explanation:
        """Explain what a run waits for, since when, and who can move it."""
        raise NotImplementedError

    async def result(self, run_id: str, *, timeout_s: float | None = None) -> RunView:
        """Wait until a run has ended or stopped and return it.

        Raises:
            TimeoutError: It did not end in time.
        """
        raise NotImplementedError
