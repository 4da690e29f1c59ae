"""Steps that failed for good: list them and send them round again."""

from __future__ import annotations

from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Accepted, DeadLetterView, Page


class DeadLetters:
    """Every use case of dead letters, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, *, state: str | None = "open", run: str | None = None, after: str = "", limit: int = 100
    ) -> Page[DeadLetterView]:
        """Return dead letters, newest first."""
        raise NotImplementedError

    async def redrive(
        self, letter: str, *, fresh: bool = False, guidance: str = "", by: str = "", key: str = ""
    ) -> Accepted:
        """Send the step of a dead letter round again; its run is reopened if it had stopped.

        Raises:
            TicketMissing: There is no such dead letter.
            Conflict: It was redriven or closed before.
        """
        raise NotImplementedError
