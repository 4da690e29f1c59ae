"""Changes of workflows that wait for somebody to decide, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from tenuto.ports.lineage import TagMove
from tenuto.ports.lists import WorkflowRow

ProposalState = Literal["proposed", "applied", "rejected", "stale", "superseded", "refused"]


class ProposalRow(msgspec.Struct, kw_only=True):
    """A change of a workflow for the runs to come.

    Attributes:
        tag: The tag that is to be moved; it pointed at `base` when the change was proposed.
        digest: Of the version the change leads to.
        author: `agent`, `person` or `optimizer`; `optimizer` names which one, and `rule` which of its passes.
        body: What people are shown: operations, reason, evidence, expected gain; JSON.
        answer: Who decided and why, or why it cannot be applied; JSON, empty while nobody has.
        at: When it was proposed, in ms by the store's clock; set by the store, like `decided_at`.
        cursor: Opaque position for paging, filled by `list_proposals`.
    """

    id: str
    ns: str
    workflow: str
    tag: str
    base: str
    digest: str
    author: str = "person"
    optimizer: str = ""
    rule: str = ""
    state: ProposalState = "proposed"
    body: bytes = b"{}"
    answer: bytes = b""
    at: int = 0
    decided_at: int = 0
    cursor: str = ""


class ProposalFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which proposals a list shows; unset fields do not filter."""

    ns: str = "default"
    workflow: str | None = None
    tag: str | None = None
    author: str | None = None
    states: tuple[ProposalState, ...] = ()


class Settled(msgspec.Struct, kw_only=True, frozen=True):
    """What became of a proposal."""

    ns: str
    id: str
    state: ProposalState
    answer: bytes = b"{}"


class Proposals(Protocol):
    """The part of a store that keeps proposals."""

    async def put_proposal(
        self, row: ProposalRow, *, known: Sequence[ProposalState] = ("proposed",), most: int = 1000
    ) -> ProposalRow | None:
        """Keep a proposal, unless the same change of the same version is there in one of the states `known`.

        The same is what has workflow, tag, base and digest in common; of those `proposed` there is never more than one.

        Returns:
            What is there now; another one than was given, by its id, when it was known. `None` when `most` proposals
            of the workflow wait already.
        """
        ...

    async def get_proposal(self, ns: str, proposal: str) -> ProposalRow | None:
        """Return one proposal."""
        ...

    async def list_proposals(self, where: ProposalFilter, *, after: str = "", limit: int = 100) -> list[ProposalRow]:
        """Return proposals, newest first; `after` is the `cursor` of the last one seen."""
        ...

    async def settle_proposal(self, settled: Settled) -> bool:
        """Say what became of a proposal that waits; `False` when it does not wait any more, and nothing has changed."""
        ...

    async def apply_proposal(self, move: TagMove, version: WorkflowRow, settled: Settled) -> bool:
        """Move a tag as `move_tag` does, and settle the proposal that is the reason, both or neither.

        Returns:
            Whether the tag still pointed at `move.former` and the proposal still waited.
        """
        ...


def place_of(row: ProposalRow) -> tuple[int, str]:
    """Return where a row stands in lists."""
    return row.at, row.id


def cursor_of(row: ProposalRow) -> str:
    """Return a row's cursor."""
    return f"{row.at}.{row.id}"


def place_from(cursor: str) -> tuple[int, str] | None:
    """Return the place a cursor means; an empty or foreign one means the beginning."""
    at, _, name = cursor.partition(".")
    return (int(at), name) if at.isdecimal() and len(at) < 19 and name else None
