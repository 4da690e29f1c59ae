"""A run's past: its events, its state and graph at any record, and streams that follow it live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import msgspec

from tenuto.domain.runs.public import PublicEvent
from tenuto.domain.runs.views import GraphView, StepView
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.requests import ListEvents
from tenuto.runtime.services.results import Page, StateView


class Tailed(msgspec.Struct, frozen=True):
    """An event of the stream over all runs; `cursors` resume the stream after the group it came in."""

    event: PublicEvent
    cursors: dict[int, int]


class History:
    """Reads of journals, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def events(
        self, run_id: str, *, after: str = "", limit: int = 100, where: ListEvents | None = None
    ) -> Page[PublicEvent]:
        """Return events after the one with id `after` (`seq.i`), in order."""
        raise NotImplementedError

    async def steps(
        self, run_id: str, *, after: str = "", limit: int = 100, node: str | None = None,
        status: tuple[str, ...] = (),
    ) -> Page[StepView]:
        """Return all steps of a run in the order they began, items of maps included."""
        raise NotImplementedError

    async def state(self, run_id: str, *, at: int | None = None) -> StateView:
        """Return the folded state as of a record (the last when `None`)."""
        raise NotImplementedError

    async def graph(self, run_id: str, *, at: int | None = None) -> GraphView:
        """Return the run's graph with the states of its steps as of a record."""
        raise NotImplementedError

    def stream(
        self, run_id: str, *, after: str = "", where: ListEvents | None = None
    ) -> AsyncIterator[PublicEvent]:
        """Yield every event after `after`, in order and without gaps, live; ends after the run does.

        Raises:
            RunMissing: At the first step, when there is no such run.
        """
        raise NotImplementedError

    def stream_all(self, *, cursors: Mapping[int, int] | None = None) -> AsyncIterator[Tailed]:
        """Yield the events of all runs as they are committed; from now on when `cursors` is `None`."""
        raise NotImplementedError
