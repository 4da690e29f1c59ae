"""What processes reported."""

from __future__ import annotations

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.services import ReportRow


class Reports(Part):
    """The side of the store through which processes tell each other what is outside."""

    async def put_report(self, row: ReportRow, keep_ms: int) -> None:
        """Replace what a process reported, and forget reports that ended."""
        await self.parts.pool.fetch("report_put", row.process, row.role, row.services, row.answered, keep_ms)

    async def drop_report(self, process: str) -> None:
        """Forget what a process reported."""
        await self.parts.pool.fetch("report_drop", process)

    async def reports(self) -> list[ReportRow]:
        """Return what processes reported that are not known to be gone, by id."""
        return [ReportRow(**dict(row)) for row in await self.parts.pool.fetch("reports")]

    async def ask_look(self) -> int:
        """Ask every process to look again; return the wish's number."""
        return int(await self.parts.pool.value("look_ask"))

    async def asked_look(self) -> int:
        """Return the number of the newest wish; 0 when there was none."""
        return int(await self.parts.pool.value("look_asked"))
