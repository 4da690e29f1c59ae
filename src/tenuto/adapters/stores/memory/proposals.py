"""Changes of workflows that wait for somebody to decide."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.memory.lineage import moved
from tenuto.adapters.stores.memory.tables import Tables, copied
from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow
from tenuto.ports.proposals import (
    ProposalFilter,
    ProposalRow,
    ProposalState,
    Settled,
    cursor_of,
    place_from,
    place_of,
)


def _same(row: ProposalRow) -> tuple[str, ...]:
    return row.ns, row.workflow, row.tag, row.base, row.digest


class Proposals:
    """The side of the store that keeps proposals."""

    tables: Tables

    async def put_proposal(
        self, row: ProposalRow, *, known: Sequence[ProposalState] = ("proposed",), most: int = 1000
    ) -> ProposalRow | None:
        """Keep a proposal, unless the same change of the same version is there in one of the states `known`."""
        rows = sorted(self.tables.proposals.values(), key=place_of, reverse=True)
        for one in rows:
            if _same(one) == _same(row) and one.state in ("proposed", *known):
                return copied(one)
        if sum((one.ns, one.workflow, one.state) == (row.ns, row.workflow, "proposed") for one in rows) >= most:
            return None
        made = msgspec.structs.replace(row, state="proposed", answer=b"", at=self.tables.clock(), decided_at=0)
        made.cursor = cursor_of(made)
        self.tables.proposals[row.ns, row.id] = made
        return copied(made)

    async def get_proposal(self, ns: str, proposal: str) -> ProposalRow | None:
        """Return one proposal."""
        found = self.tables.proposals.get((ns, proposal))
        return None if found is None else copied(found)

    async def list_proposals(self, where: ProposalFilter, *, after: str = "", limit: int = 100) -> list[ProposalRow]:
        """Return proposals, newest first."""
        last = place_from(after)
        found = [
            row for row in self.tables.proposals.values()
            if row.ns == where.ns and where.workflow in (None, row.workflow) and where.tag in (None, row.tag)
            and where.author in (None, row.author) and (not where.states or row.state in where.states)
            and (last is None or place_of(row) < last)
        ]  # fmt: skip
        return [copied(row) for row in sorted(found, key=place_of, reverse=True)[:limit]]

    async def settle_proposal(self, settled: Settled) -> bool:
        """Say what became of a proposal that waits; `False` when it does not wait any more."""
        row = self.tables.proposals.get((settled.ns, settled.id))
        if row is None or row.state != "proposed":
            return False
        row.state, row.answer, row.decided_at = settled.state, settled.answer, self.tables.clock()
        return True

    async def apply_proposal(self, move: TagMove, version: WorkflowRow, settled: Settled) -> bool:
        """Move a tag and settle the proposal that is the reason, both or neither."""
        row = self.tables.proposals.get((settled.ns, settled.id))
        if row is None or row.state != "proposed" or not moved(self.tables, move, version):
            return False
        return await self.settle_proposal(settled)
