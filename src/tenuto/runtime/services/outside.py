"""What this process reaches outside of it, and how that is: servers of tools, by the last look at each."""

from __future__ import annotations

import asyncio

import msgspec

from tenuto.ports.tools import Condition
from tenuto.runtime.services.context import Context


class OutsideView(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside.

    Attributes:
        reason: Why it is not online; what it offers when it is.
        since: Since when it is so, in ms since 1970.
        checked_at: When it was last looked at.
        tools: What it offers, also while it is away.
    """

    name: str
    condition: Condition
    reason: str
    since: int
    checked_at: int
    tools: list[str]


class Outside:
    """The servers of tools of this process's worker; none where a process does no work."""

    def __init__(self, context: Context) -> None:
        """Look at what the catalog is in touch with."""
        self._c = context

    def list(self) -> list[OutsideView]:
        """Return what is outside, as it was when last looked at."""
        toolsets = self._c.catalog.toolsets if self._c.catalog is not None else ()
        return [
            OutsideView(
                name=item.server.name, condition=item.source.health.condition, reason=item.source.health.reason,
                since=item.source.health.since, checked_at=item.source.health.checked_at, tools=sorted(item.tools()),
            )
            for item in toolsets
        ]

    async def refresh(self) -> None:
        """Look at all of it now; one that does not answer holds up no other."""
        toolsets = self._c.catalog.toolsets if self._c.catalog is not None else ()
        await asyncio.gather(*(item.source.refresh() for item in toolsets))
