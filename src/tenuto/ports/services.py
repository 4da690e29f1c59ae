"""How processes tell each other what they reach outside: a row a process, and the wish that all of them look again."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from tenuto.ports.tools import Condition, Health

Kind = Literal["mcp", "openapi", "model"]
Role = Literal["worker", "api"]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside, as one process saw it.

    Attributes:
        kind: A server of tools, an API described by a document, or a host of models.
        place: Scheme, host and port; empty where it is a program.
        health: Unknown until the process looked for the first time.
        tools: What it offers, also while it is away.
    """

    kind: Kind
    name: str
    place: str = ""
    health: Health = Health()
    tools: tuple[str, ...] = ()


class ReportRow(msgspec.Struct, kw_only=True):
    """What one process saw.

    Attributes:
        process: Its id; that of its worker, where it has one.
        services: JSON list of `Service`.
        answered: The newest wish to look again that it has fulfilled; see `Reports.ask_look`.
        until: When it counts as gone unless it reports again.
    """

    process: str
    role: Role
    services: bytes = b"[]"
    answered: int = 0
    until: int = 0


class Reports(Protocol):
    """The part of a store through which processes tell each other what is outside."""

    async def put_report(self, row: ReportRow, keep_ms: int) -> None:
        """Replace what a process reported; it is kept for so long from now, and reports that ended are forgotten."""
        ...

    async def drop_report(self, process: str) -> None:
        """Forget what a process reported."""
        ...

    async def reports(self) -> list[ReportRow]:
        """Return what processes reported that are not known to be gone, by id."""
        ...

    async def ask_look(self) -> int:
        """Ask every process to look again; return the wish's number, above that of every wish before."""
        ...

    async def asked_look(self) -> int:
        """Return the number of the newest wish; 0 when there was none."""
        ...


class Checked(Protocol):
    """Something outside that can be looked at without cost or effect."""

    @property
    def service(self) -> Service:
        """Return what it is, whatever its health."""
        ...

    async def look(self) -> tuple[Condition, str]:
        """Return how it is, and why; whoever asks sets the time it may take."""
        ...
