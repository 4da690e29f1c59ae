"""Read-only use cases: artifacts, steps across runs, workers and usage."""

from __future__ import annotations

from tenuto.runtime.services.context import Context
from tenuto.runtime.services.requests import ListRuns, ListSteps
from tenuto.runtime.services.results import (
    ArtifactView,
    Page,
    RunUsage,
    StepRowView,
    UsageView,
    WorkerView,
)


class Artifacts:
    """Stored values by digest."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def get(self, digest: str) -> bytes:
        """Return the stored bytes (JSON).

        Raises:
            ArtifactMissing: Nothing has this digest, or it was pruned.
        """
        raise NotImplementedError

    async def list(self, run_id: str) -> list[ArtifactView]:
        """Return the stored values a run's journal refers to, in order."""
        raise NotImplementedError


class Steps:
    """Steps across runs, from the projection."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, where: ListSteps | None = None, *, after: str = "", limit: int = 100
    ) -> Page[StepRowView]:
        """Return steps of any run, newest first; may lag by the projection's delay."""
        raise NotImplementedError


class Workers:
    """Who works, and until when their leases run."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(self) -> list[WorkerView]:
        """Return all workers, live ones first."""
        raise NotImplementedError


class Usage:
    """What runs used."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def run(self, run_id: str) -> RunUsage:
        """Return one run's ledger, current."""
        raise NotImplementedError

    async def totals(self, where: ListRuns | None = None, *, limit: int = 1000) -> UsageView:
        """Return totals over the newest runs that match."""
        raise NotImplementedError
