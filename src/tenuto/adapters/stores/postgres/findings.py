"""Which findings were deleted."""

from __future__ import annotations

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.adapters.stores.postgres.rows import is_id
from tenuto.ports.findings import DeletedFinding


class Findings(Part):
    """The side of the store that remembers deleted findings."""

    async def delete_finding(self, ns: str, row: DeletedFinding) -> bool:
        """Remember that a finding of a run was deleted; `False` when there is no such run."""
        if not is_id(row.run_id):
            return False
        return bool(await self.parts.pool.value("finding_delete", ns, row.run_id, row.id, row.by, row.reason))

    async def deleted_findings(self, ns: str, run_id: str) -> list[DeletedFinding]:
        """Return what was deleted of a run and of the runs it is a replay of, by run and id."""
        if not is_id(run_id):
            return []
        found = await self.parts.pool.fetch("findings_deleted", ns, run_id)
        return [
            DeletedFinding(run_id=str(row["run_id"]), id=row["id"], by=row["by"], reason=row["reason"], at=row["at"])
            for row in found
        ]
