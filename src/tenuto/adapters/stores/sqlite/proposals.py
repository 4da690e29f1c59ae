"""Changes of workflows that wait for somebody to decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.lineage import moved
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow
from tenuto.ports.proposals import ProposalFilter, ProposalRow, ProposalState, Settled, cursor_of, place_from

_COLUMNS = (
    "ns", "id", "workflow", "tag", "base", "digest", "author", "optimizer", "rule", "state", "body", "answer", "at",
    "decided_at",
)  # fmt: skip


def _row(found: Any) -> ProposalRow:
    row = ProposalRow(**dict(zip(_COLUMNS, found, strict=True)))
    row.cursor = cursor_of(row)
    return row


def _list(values: Sequence[str]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _settle(tx: Tx, settled: Settled) -> bool:
    return bool(sql.change(tx.db, "proposal_settle", settled.state, settled.answer, tx.now, settled.ns, settled.id))


class Proposals(Part):
    """The side of the store that keeps proposals."""

    async def put_proposal(
        self, row: ProposalRow, *, known: Sequence[ProposalState] = ("proposed",), most: int = 1000
    ) -> ProposalRow | None:
        """Keep a proposal, unless the same change of the same version is there in one of the states `known`."""
        same = (row.ns, row.workflow, row.tag, row.base, row.digest)

        def put(tx: Tx) -> ProposalRow | None:
            there = sql.first(tx.db, "proposal_known", *same, _list(("proposed", *known)))
            if there is not None:
                return _row(there)
            if sql.first(tx.db, "proposals_waiting", row.ns, row.workflow)[0] >= most:
                return None
            sql.change(
                tx.db, "proposal_put", row.ns, row.id, row.workflow, row.tag, row.base, row.digest, row.author,
                row.optimizer, row.rule, row.body, tx.now,
            )
            return _row(sql.first(tx.db, "proposal_get", row.ns, row.id))

        return await self.parts.writer.run(put)

    async def get_proposal(self, ns: str, proposal: str) -> ProposalRow | None:
        """Return one proposal."""
        found = await self.parts.readers.first("proposal_get", ns, proposal)
        return None if found is None else _row(found)

    async def list_proposals(self, where: ProposalFilter, *, after: str = "", limit: int = 100) -> list[ProposalRow]:
        """Return proposals, newest first."""
        place = place_from(after) or (None, None)
        found = await self.parts.readers.rows(
            "proposal_list", where.ns, where.workflow, where.tag, where.author, _list(where.states) if where.states else None,
            *place, limit,
        )
        return [_row(item) for item in found]

    async def settle_proposal(self, settled: Settled) -> bool:
        """Say what became of a proposal that waits; `False` when it does not wait any more."""
        return await self.parts.writer.run(lambda tx: _settle(tx, settled))

    async def apply_proposal(self, move: TagMove, version: WorkflowRow, settled: Settled) -> bool:
        """Move a tag and settle the proposal that is the reason, both or neither."""

        def put(tx: Tx) -> bool:
            waits = sql.first(tx.db, "proposal_get", settled.ns, settled.id)
            if waits is None or _row(waits).state != "proposed" or not moved(tx, move, version):
                return False
            return _settle(tx, settled)

        return await self.parts.writer.run(put)
