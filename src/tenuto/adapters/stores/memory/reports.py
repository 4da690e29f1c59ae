"""What processes reported."""

from __future__ import annotations

import msgspec

from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.services import ReportRow


class Reports:
    """The side of the store through which processes tell each other what is outside."""

    tables: Tables

    async def put_report(self, row: ReportRow, keep_ms: int) -> None:
        """Replace what a process reported, and forget reports that ended."""
        now, kept = self.tables.clock(), self.tables.reports
        kept[row.process] = msgspec.structs.replace(row, until=now + keep_ms)
        for process in [one.process for one in kept.values() if one.until <= now]:
            del kept[process]

    async def drop_report(self, process: str) -> None:
        """Forget what a process reported."""
        self.tables.reports.pop(process, None)

    async def reports(self) -> list[ReportRow]:
        """Return what processes reported that are not known to be gone, by id."""
        now = self.tables.clock()
        return sorted(
            (copied(row) for row in self.tables.reports.values() if row.until > now), key=lambda row: row.process
        )

    async def ask_look(self) -> int:
        """Ask every process to look again; return the wish's number."""
        self.tables.asked_look = max(self.tables.asked_look + 1, self.tables.clock())
        return self.tables.asked_look

    async def asked_look(self) -> int:
        """Return the number of the newest wish; 0 when there was none."""
        return self.tables.asked_look
