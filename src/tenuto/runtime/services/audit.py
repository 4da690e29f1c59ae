"""The audit log: every transition with its proof, verification, and an export that can be checked offline."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import AuditTrail, Verification


class Audit:
    """Every use case of the audit log, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def trail(self, run_id: str, *, after: str = "", limit: int = 1000) -> AuditTrail:
        """Return a run's transitions, claims and takeovers included, with the verdict on its chain."""
        raise NotImplementedError

    async def verify(self, run_id: str | None = None, *, heads: dict[str, str] | None = None) -> Verification:
        """Check chain and invariants of one run, or of all.

        Args:
            heads: Run -> chain (hex) kept elsewhere, that the journals must contain.
        """
        raise NotImplementedError

    def export(self, run_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield JSON lines, one per record, that `verify_export` checks without a store."""
        raise NotImplementedError
