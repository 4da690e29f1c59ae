"""Which findings were deleted."""

from __future__ import annotations

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.findings import DeletedFinding


class Findings:
    """The side of the store that remembers deleted findings."""

    tables: Tables

    async def delete_finding(self, ns: str, row: DeletedFinding) -> bool:
        """Remember that a finding of a run was deleted; `False` when there is no such run."""
        run = self.tables.runs.get(row.run_id)
        if run is None or run.ns != ns:
            return False
        kept = msgspec.structs.replace(row, at=self.tables.clock())
        self.tables.deleted_findings.setdefault((row.run_id, row.id), kept)
        return True

    async def deleted_findings(self, ns: str, run_id: str) -> list[DeletedFinding]:
        """Return what was deleted of a run and of the runs it is a replay of, by run and id."""
        line: set[str] = set()
        run = self.tables.runs.get(run_id)
        while run is not None and run.ns == ns and run.id not in line:
            line.add(run.id)
            run = self.tables.runs.get(run.replay_of or "")
        rows = self.tables.deleted_findings
        return [copied(rows[key]) for key in sorted(rows) if key[0] in line]
