"""Changes of workflows that wait for somebody to decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenuto.adapters.stores.postgres.parts import Part
from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow
from tenuto.ports.proposals import ProposalFilter, ProposalRow, ProposalState, Settled, cursor_of, place_from


def _row(found: Any) -> ProposalRow:
    row = ProposalRow(**dict(found))
    row.cursor = cursor_of(row)
    return row


class Proposals(Part):
    """The side of the store that keeps proposals."""

    async def put_proposal(
        self, row: ProposalRow, *, known: Sequence[ProposalState] = ("proposed",), most: int = 1000
    ) -> ProposalRow | None:
        """Keep a proposal, unless the same change of the same version is there in one of the states `known`."""
        same = (row.ns, row.workflow, row.tag, row.base, row.digest, ["proposed", *known])
        while True:
            there = await self.parts.pool.first("proposal_known", *same)
            if there is not None:
                return _row(there)
            found = await self.parts.pool.first(
                "proposal_put", row.ns, row.id, row.workflow, row.tag, row.base, row.digest, row.author, row.optimizer,
                row.rule, row.body, most,
            )
            if found["id"] is not None:
                return await self.get_proposal(row.ns, row.id)
            if found["full"]:
                return None

    async def get_proposal(self, ns: str, proposal: str) -> ProposalRow | None:
        """Return one proposal."""
        found = await self.parts.pool.first("proposal_get", ns, proposal)
        return None if found is None else _row(found)

    async def list_proposals(self, where: ProposalFilter, *, after: str = "", limit: int = 100) -> list[ProposalRow]:
        """Return proposals, newest first."""
        place = place_from(after) or (None, None)
        found = await self.parts.pool.fetch(
            "proposal_list", where.ns, where.workflow, where.tag, where.author, list(where.states) or None, *place, limit
        )
        return [_row(item) for item in found]

    async def settle_proposal(self, settled: Settled) -> bool:
        """Say what became of a proposal that waits; `False` when it does not wait any more."""
        return bool(
            await self.parts.pool.value("proposal_settle", settled.state, settled.answer, settled.ns, settled.id)
        )

    async def apply_proposal(self, move: TagMove, version: WorkflowRow, settled: Settled) -> bool:
        """Move a tag and settle the proposal that is the reason, both or neither."""
        return bool(
            await self.parts.pool.value(
                "proposal_apply", move.ns, move.name, move.tag, move.digest, move.former, move.kind, move.by, move.author,
                move.reason, move.ops, move.evidence, version.body, version.created_at, settled.id, settled.state,
                settled.answer,
            )
        )
