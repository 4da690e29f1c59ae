"""Which findings of agents a person deleted. The findings themselves stand in outputs, and those are never altered."""

from __future__ import annotations

from typing import Protocol

import msgspec


class DeletedFinding(msgspec.Struct, kw_only=True):
    """A finding that later prompts leave out.

    Attributes:
        id: What findings of a run that say the same have in common.
        by: Who deleted it.
        at: When, in ms since 1970 by the store's clock; set by the store.
    """

    run_id: str
    id: str
    by: str = ""
    reason: str = ""
    at: int = 0


class Findings(Protocol):
    """The part of a store that remembers deleted findings."""

    async def delete_finding(self, ns: str, row: DeletedFinding) -> bool:
        """Remember that a finding of a run was deleted, until the run is.

        One that was deleted before stays as it is. `False` when there is no such run.
        """
        ...

    async def deleted_findings(self, ns: str, run_id: str) -> list[DeletedFinding]:
        """Return what was deleted of a run and of the runs it is a replay of, by run and id."""
        ...
