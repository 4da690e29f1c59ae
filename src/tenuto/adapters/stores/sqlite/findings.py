"""Which findings were deleted."""

from __future__ import annotations

import sqlite3

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import id_text, stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.findings import DeletedFinding


class Findings(Part):
    """The side of the store that remembers deleted findings."""

    async def delete_finding(self, ns: str, row: DeletedFinding) -> bool:
        """Remember that a finding of a run was deleted; `False` when there is no such run."""
        run = stored_id(row.run_id)

        def put(tx: Tx) -> bool:
            if sql.first(tx.db, "run_replays", run, ns) is None:
                return False
            sql.change(tx.db, "finding_delete", run, row.id, ns, row.by, row.reason, tx.now)
            return True

        return run is not None and await self.parts.writer.run(put)

    async def deleted_findings(self, ns: str, run_id: str) -> list[DeletedFinding]:
        """Return what was deleted of a run and of the runs it is a replay of, by run and id."""

        def read(db: sqlite3.Connection) -> list[DeletedFinding]:
            line: set[bytes] = set()
            found: list[DeletedFinding] = []
            run = stored_id(run_id)
            with sql.one_moment(db):
                while run is not None and run not in line and (row := sql.first(db, "run_replays", run, ns)) is not None:
                    line.add(run)
                    found += [
                        DeletedFinding(run_id=id_text(run), id=id_, by=by, reason=reason, at=at)
                        for id_, by, reason, at in sql.rows(db, "findings_deleted", run)
                    ]
                    run = stored_id(row[0] or "")
            return sorted(found, key=lambda row: (row.run_id, row.id))

        return await self.parts.readers.run(read)
