"""Questions to people, and their answers."""

from __future__ import annotations

from typing import Any

from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Page, TicketView


class Tickets:
    """Every use case of tickets, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store of an engine."""
        self._c = context

    async def list(
        self, *, kind: str | None = None, state: str | None = None, run: str | None = None,
        after: str = "", limit: int = 100,
    ) -> Page[TicketView]:
        """Return tickets, newest first; dead letters are listed apart unless `kind` asks for them."""
        raise NotImplementedError

    async def get(self, ticket: str) -> TicketView:
        """Return one ticket.

        Raises:
            TicketMissing: There is none.
        """
        raise NotImplementedError

    async def decide(
        self, ticket: str, decision: str, *, reason: str = "", data: Any = None, by: str = ""
    ) -> TicketView:
        """Answer a ticket, atomically with the message to its run. An identical repeat gets the same answer.

        Raises:
            TicketMissing: There is none.
            AlreadyDecided: It was answered otherwise before.
            RunTerminal: It was closed because its run ended.
            Invalid: The decision is not one of the ticket's, or a rejection has no reason.
        """
        raise NotImplementedError
