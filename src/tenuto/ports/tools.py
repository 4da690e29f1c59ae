"""Tools that live elsewhere: what a server of tools offers now, how it is, and how one of them is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from tenuto.errors import Permanent, StepError

Condition = Literal["online", "offline", "degraded", "unknown"]


class OfferedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as its server describes it.

    Attributes:
        schema: JSON Schema of the arguments.
        reads_only: The server's own word that a call changes nothing; a hint, never a fact.
        repeatable: The server's own word that a repeated call changes nothing more; a hint, too.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] = {}
    reads_only: bool = False
    repeatable: bool = False


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How something outside was when it was last looked at.

    Attributes:
        reason: Why it is not online; what it offers when it is.
        since: Since when it is so, in ms since 1970.
        checked_at: When it was last looked at; 0 for never.
    """

    condition: Condition = "unknown"
    reason: str = ""
    since: int = 0
    checked_at: int = 0


class ToolSource(Protocol):
    """A server of tools, kept in reach: found again when it was away, listed again when it changed."""

    @property
    def name(self) -> str:
        """Return the name its operator gave it."""
        ...

    @property
    def offered(self) -> tuple[OfferedTool, ...] | None:
        """Return the tools of its last listing, also while it is away; `None` before the first.

        The same object is returned until a listing differs.
        """
        ...

    @property
    def health(self) -> Health:
        """Return how it is."""
        ...

    def start(self, told: Callable[[], None]) -> None:
        """Begin to reach for it; returns at once. `told` is called after every look at it."""
        ...

    async def settled(self) -> None:
        """Return once it was reached, or could not be, for the first time; at once afterwards."""
        ...

    async def refresh(self) -> None:
        """Look at it now, and return when that is done; a server that is away is tried again."""
        ...

    async def call(self, tool: str, arguments: dict[str, Any], *, key: str, traceparent: str = "") -> Any:
        """Call a tool and return its JSON result.

        Args:
            key: The call's idempotency key, the same over retries; the server is told.
            traceparent: W3C context of the call, which the server is told, too; empty when nobody traces.

        Raises:
            ToolUnavailable: The server is away; it was not asked.
            ToolCut: It was asked, and no answer came: nobody knows what it did.
            ToolFailed: It answered that the call failed.
            ToolRefused: It does not know the tool, or does not take the arguments.
        """
        ...

    async def close(self) -> None:
        """Let go of the server; a process that was started for it is ended."""
        ...


class ToolUnavailable(StepError):
    """The tool's server is away; the call was not made and may be made later."""

    code = "tool.unavailable"


class ToolFailed(StepError):
    """The tool answered that it failed; the message is its own."""

    code = "tool.failed"


class ToolRefused(Permanent):
    """The tool's server refused the call as it is; it had no effect."""

    code = "tool.refused"


class ToolCut(StepError):
    """A call was made and no answer came, so it is not known whether it had its effect."""

    code = "tool.outcome_unknown"

    def __init__(self, message: str, **details: Any) -> None:
        """Mark the outcome as unknown, so that it is handled by the tool's policy."""
        super().__init__(message, unknown=True, **details)


class ToolOverran(Permanent):
    """The tool answered with more than is kept; what it did is done, and its answer is lost."""

    code = "tool.result_too_large"
