"""How versions of a workflow come of each other: patches for the runs to come, undo and redo, and where tags have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.overlays.overlay import overlay_of
from tenuto.domain.runs.views import instant
from tenuto.errors import Conflict
from tenuto.ports.lineage import MoveKind, TagMove
from tenuto.ports.store import WorkflowRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.documents import version_row
from tenuto.runtime.services.gains import Gains
from tenuto.runtime.services.results import MoveView, WorkflowVersion
from tenuto.runtime.services.verdicts import judged, refusal
from tenuto.runtime.services.workflows import Workflows

LATEST = "latest"


class Versions:
    """Every use case of how versions come of each other, for one namespace."""

    def __init__(self, context: Context, workflows: Workflows, gains: Gains) -> None:
        """Use the collaborators of an engine."""
        self._c = context
        self._workflows = workflows
        self._gains = gains

    async def patch(
        self, name: str, operations: Any, *, base: str = LATEST, tag: str = LATEST, reason: str = "", by: str = "",
        author: str = "person", evidence: dict[str, Any] | None = None,
    ) -> WorkflowVersion:
        """Make a version of another by a patch and let a tag point at it: runs started from then on go by it.

        Args:
            operations: JSON Patch operations on `/nodes` and `/edges`.
            base: Version they are made for, by tag or digest; the tag has to point at it.

        Raises:
            WorkflowMissing: There is no such version.
            InvalidPatch: With every problem; nothing is stored.
            Conflict: The tag points elsewhere by now, or a person has to approve such a patch: it is to be proposed.
        """
        digest = await self._workflows.digest_of(name, base)
        plan = await self._c.definitions.plan(self._c.ns, digest)
        verdict = await judged(self._c, plan, operations, author)
        if verdict.plan is None:
            raise refusal(name, verdict)
        if verdict.asks:
            raise Conflict(
                f"workflow {name!r} is not patched at once: {verdict.asks}; propose it, and let somebody else approve it "
                "(tenuto workflow propose)", code="patch.approval", workflow=name,
            )
        made = verdict.plan.definition
        row = version_row(self._c.ns, made, self._c.clock())
        move = TagMove(
            ns=self._c.ns, name=name, tag=tag, digest=row.digest, former=digest, kind="patch", by=by, author=author,
            reason=reason, ops=msgspec.json.encode(overlay_of(plan.definition, made)), evidence=canonical_json(evidence or {}),
        )
        await self._moved(move, row)
        self._c.definitions.keep(row.digest, made)
        return await self._workflows.version(name, row.digest)

    async def undo(self, name: str, *, tag: str = LATEST, by: str = "", reason: str = "") -> WorkflowVersion:
        """Let a tag point where it did before its last move that was not taken back.

        Raises:
            WorkflowMissing: There is no such workflow or tag.
            Conflict: There is nothing to take back, or the tag was moved meanwhile.
        """
        return await self._back(name, tag, "undo", by, reason)

    async def redo(self, name: str, *, tag: str = LATEST, by: str = "", reason: str = "") -> WorkflowVersion:
        """Let a tag point where it did before its last undo, unless it was moved since.

        Raises:
            WorkflowMissing: There is no such workflow or tag.
            Conflict: There is nothing to bring back, or the tag was moved meanwhile.
        """
        return await self._back(name, tag, "redo", by, reason)

    async def moves(self, name: str, tag: str | None = None) -> list[MoveView]:
        """Return where the tags of a workflow have been, oldest first, with the overlays that made versions.

        Patches by optimizers come with what they were expected to save, and what they do.

        Raises:
            WorkflowMissing: There is no such workflow.
        """
        await self._workflows.require(name)
        views = [_view(move) for move in await self._c.store.tag_moves(self._c.ns, name, tag)]
        if any(view.author == "optimizer" for view in views):
            gains = {gain.proposal: gain for gain in await self._gains.all(name, tag)}
            for view in views:
                view.gain = gains.get(str(view.evidence.get("proposal"))) if view.kind == "patch" else None
        return views

    async def _back(self, name: str, tag: str, kind: MoveKind, by: str, reason: str) -> WorkflowVersion:
        now = await self._workflows.digest_of(name, tag)
        done, undone = _stacks(await self._c.store.tag_moves(self._c.ns, name, tag))
        stack = [move for move in done if move.former] if kind == "undo" else undone
        if not stack:
            what = "to undo" if kind == "undo" else "to redo"
            raise Conflict(f"tag {tag!r} of workflow {name!r}: there is nothing {what}", code=f"workflow.{kind}")
        to = stack[-1].former if kind == "undo" else stack[-1].digest
        await self._moved(
            TagMove(ns=self._c.ns, name=name, tag=tag, digest=to, former=now, kind=kind, by=by, reason=reason), None
        )
        return await self._workflows.version(name, to)

    async def _moved(self, move: TagMove, version: WorkflowRow | None) -> None:
        if not await self._c.store.move_tag(move, version):
            raise Conflict(
                f"tag {move.tag!r} of workflow {move.name!r} does not point at {move.former} any more; look again and repeat it",
                code="workflow.moved",
            )
        self._workflows.forget()


def _stacks(moves: Sequence[TagMove]) -> tuple[list[TagMove], list[TagMove]]:
    """Return the moves in force and those taken back, each with the last one last."""
    done: list[TagMove] = []
    undone: list[TagMove] = []
    for move in moves:
        if move.kind == "undo" and done:
            undone.append(done.pop())
        elif move.kind == "redo" and undone:
            done.append(undone.pop())
        else:
            done.append(move)
            undone.clear()
    return done, undone


def _view(move: TagMove) -> MoveView:
    return MoveView(
        tag=move.tag, n=move.n, kind=move.kind, version=move.digest, former=move.former, by=move.by, author=move.author,
        reason=move.reason, at=instant(move.at), operations=msgspec.json.decode(move.ops) if move.ops else [],
        evidence=msgspec.json.decode(move.evidence) if move.evidence else {},
    )
