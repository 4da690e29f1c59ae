"""What processes reported."""

from __future__ import annotations

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.services import ReportRow


class Reports(Part):
    """The side of the store through which processes tell each other what is outside."""

    async def put_report(self, row: ReportRow, keep_ms: int) -> None:
        """Replace what a process reported, and forget reports that ended."""

        def put(tx: Tx) -> None:
            sql.change(tx.db, "report_put", row.process, row.role, row.services, row.answered, tx.now + keep_ms)
            sql.change(tx.db, "report_forget", tx.now)

        await self.parts.writer.run(put)

    async def drop_report(self, process: str) -> None:
        """Forget what a process reported."""
        await self.parts.writer.run(lambda tx: sql.change(tx.db, "report_drop", process))

    async def reports(self) -> list[ReportRow]:
        """Return what processes reported that are not known to be gone, by id."""
        return [
            ReportRow(process=process, role=role, services=services, answered=answered, until=until)
            for process, role, services, answered, until in await self.parts.readers.rows("reports", self.parts.clock())
        ]

    async def ask_look(self) -> int:
        """Ask every process to look again; return the wish's number."""

        def ask(tx: Tx) -> int:
            sql.change(tx.db, "look_ask", tx.now)
            return sql.first(tx.db, "look_asked")[0]

        return await self.parts.writer.run(ask)

    async def asked_look(self) -> int:
        """Return the number of the newest wish; 0 when there was none."""
        return (await self.parts.readers.first("look_asked"))[0]
