"""Workflows: validate, publish, tag, find and retire versions."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec

from tenuto.domain.base.nearest import did_you_mean, nearest
from tenuto.domain.graph.compile import compile_definition
from tenuto.domain.graph.digests import definition_to_json
from tenuto.domain.graph.model import Definition
from tenuto.domain.runs.present import graph_view
from tenuto.domain.runs.views import instant
from tenuto.errors import Invalid, InvalidGraph, Problem, WorkflowMissing
from tenuto.ports.lineage import MoveKind, TagMove
from tenuto.ports.store import WorkflowRow
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.documents import Document, read, study, version_row
from tenuto.runtime.services.numbers import comes_of, numbers_of
from tenuto.runtime.services.results import (
    Foreseen,
    Page,
    ProblemView,
    Validation,
    WorkflowVersion,
    WorkflowView,
)

__all__ = ["Document", "Workflows"]

_decode = msgspec.json.Decoder(Definition).decode
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESOLVED_MS = 500


class Workflows:
    """Every use case of workflows, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context
        self._resolved: dict[tuple[str, str], tuple[str, int]] = {}
        self._asked: dict[tuple[str, str], asyncio.Task[str]] = {}
        self._stored: set[str] = set()

    async def validate(self, document: Document) -> Validation:
        """Return every problem of a definition, or else what will go wrong when it runs; stores nothing."""
        try:
            definition, found = study(document, self._c.catalog)
        except InvalidGraph as exc:
            problems = exc.problems or (Problem(place="", message=exc.message, code=exc.reason),)
            return Validation(valid=False, problems=[_problem(item) for item in problems])
        findings = [
            Foreseen(id=one.id, severity=one.severity, place=one.place, message=one.message, fix=one.fix)
            for one in found
        ]
        return Validation(valid=True, version=compile_definition(definition).digest, findings=findings)

    async def publish(self, document: Document, *, by: str = "") -> WorkflowVersion:
        """Store a version, and let `latest` point at it, unless it points at what patches made of this very version.

        Repeats change nothing: a program that starts again with its workflows does not undo patches of them.

        Raises:
            InvalidGraph: With every problem.
        """
        definition = read(document, self._c.catalog)
        row = version_row(self._c.ns, definition, self._c.clock())
        now = await self._c.store.resolve_tag(self._c.ns, row.name, "latest")
        moves = await self._c.store.tag_moves(self._c.ns, row.name) if now not in (None, row.digest) else []
        if now is None or not comes_of(now, row.digest, moves):
            await self._move(row.name, "latest", row.digest, "publish", by, version=row)
        self._c.definitions.keep(row.digest, definition)
        self._resolved.clear()
        return next(item for item in await self._versions(row.name) if item.version == row.digest)

    async def store_inline(self, definition: Definition) -> str:
        """Store the version of a definition that came with a run; the tags of a published workflow stay. Idempotent."""
        row = version_row(self._c.ns, definition, self._c.clock())
        if row.digest in self._stored:
            return row.digest
        await self._c.store.put_workflow(row)
        if await self._c.store.resolve_tag(self._c.ns, row.name, "latest") is None:
            await self._c.store.move_tag(
                TagMove(ns=self._c.ns, name=row.name, tag="latest", digest=row.digest, former="", kind="publish")
            )
        self._c.definitions.keep(row.digest, definition)
        self._stored.add(row.digest)
        return row.digest

    async def list(self, name: str | None = None, *, after: str = "", limit: int = 100) -> Page[WorkflowVersion]:
        """Return versions, newest first: the latest of each workflow, or all versions of one by name."""
        versions = await self._versions(name)
        if name is None:
            versions = _latest_of_each(versions)
        ids = [f"{item.name}@{item.version}" for item in versions]
        if after and after not in ids:
            raise Invalid(f"{after!r} is not a cursor of this list", code="request.cursor")
        start = ids.index(after) + 1 if after else 0
        part = versions[start : start + limit]
        more = len(versions) > start + limit and bool(part)
        return Page(items=part, next=ids[start + limit - 1] if more else None)

    async def get(self, name: str, version: str = "latest") -> WorkflowView:
        """Return a version by tag or digest, with its shape; by digest also the graph of a patched run.

        Raises:
            WorkflowMissing: There is none; names the nearest.
        """
        if (patched := await self._patched(name, version)) is not None:
            return patched
        digest = await self._lookup(name, version)
        body = await self._c.store.get_definition(self._c.ns, digest)
        row = next((item for item in await self._versions(name) if item.version == digest), None)
        if body is None or row is None:
            raise await self._missing(name, version)
        plan = await self._c.definitions.plan(self._c.ns, digest)
        return WorkflowView(
            name=name, version=digest, tags=row.tags, retired=row.retired, created_at=row.created_at,
            definition=definition_to_json(_decode(body)), graph=graph_view(plan),
        )

    async def _patched(self, name: str, version: str) -> WorkflowView | None:
        """Return a graph that is no version of the workflow: a patch made it of one, for a run."""
        if not version.startswith("sha256:") or await self._c.store.resolve_tag(self._c.ns, name, version) is not None:
            return None
        try:
            plan = await self._c.definitions.plan(self._c.ns, version)
        except WorkflowMissing:
            return None
        if plan.definition.name != name:
            return None
        return WorkflowView(
            name=name, version=version, tags=[], retired=False, created_at=None, graph=graph_view(plan),
            definition=definition_to_json(plan.definition),
        )

    async def _move(
        self, name: str, tag: str, digest: str, kind: MoveKind, by: str, *, version: WorkflowRow | None = None
    ) -> None:
        """Let a tag point at a version, wherever it points by now."""
        move = TagMove(ns=self._c.ns, name=name, tag=tag, digest=digest, former="", kind=kind, by=by)
        while True:
            move.former = await self._c.store.resolve_tag(self._c.ns, name, tag) or ""
            if move.former == digest or await self._c.store.move_tag(move, version):
                return

    async def digest_of(self, name: str, version: str) -> str:
        """Return the digest of a version given by tag or digest.

        Raises:
            WorkflowMissing: There is none; names the nearest.
        """
        return await self._lookup(name, version)

    async def version(self, name: str, digest: str) -> WorkflowVersion:
        """Return a version that is known to exist."""
        return next(item for item in await self._versions(name) if item.version == digest)

    async def require(self, name: str) -> None:
        """Look whether there is a workflow.

        Raises:
            WorkflowMissing: There is none; names the nearest.
        """
        if not await self._c.store.list_workflows(self._c.ns, name):
            raise await self._missing(name, "latest")

    def forget(self) -> None:
        """Look tags up anew from here on."""
        self._resolved.clear()

    async def tag(self, name: str, tag: str, version: str, *, by: str = "") -> WorkflowVersion:
        """Let a tag point at a version, given by digest or another tag.

        Raises:
            WorkflowMissing: There is no such version; names the nearest.
            Invalid: The tag has characters a tag cannot have.
        """
        if not _TAG.fullmatch(tag):
            raise Invalid(f"{tag!r} is not a tag: 1 to 64 letters, digits, '.', '_' or '-'", code="workflow.tag")
        digest = await self._lookup(name, version)
        await self._move(name, tag, digest, "tag", by)
        self._resolved.clear()
        return next(item for item in await self._versions(name) if item.version == digest)

    async def retire(self, name: str, version: str | None = None) -> int:
        """Mark a version, or all, as not startable; runs that exist go on. Returns how many.

        Raises:
            WorkflowMissing: There is no such version; names the nearest.
        """
        digest = await self._lookup(name, version) if version is not None else None
        if digest is None and not await self._versions(name):
            raise await self._missing(name, "latest")
        self._resolved.clear()
        return await self._c.store.retire_workflow(self._c.ns, name, digest)

    async def resolve(self, name: str, tag: str = "latest") -> str:
        """Return the digest of the version to start; a moved tag is noticed within half a second everywhere.

        Raises:
            WorkflowMissing: No such workflow or tag, or the version is retired; names the nearest.
        """
        known = self._resolved.get((name, tag))
        if known is not None and known[1] > self._c.clock():
            return known[0]
        return await self._together(name, tag)

    async def _together(self, name: str, tag: str) -> str:
        """Look a version up once for everybody who asks while that goes on."""
        asked = (name, tag)
        if asked not in self._asked:
            task = self._asked[asked] = asyncio.get_running_loop().create_task(self._startable(name, tag))
            task.add_done_callback(lambda _: self._asked.pop(asked, None))
        return await asyncio.shield(self._asked[asked])

    async def _startable(self, name: str, tag: str) -> str:
        now = self._c.clock()
        digest = await self._lookup(name, tag)
        row = next((item for item in await self._versions(name) if item.version == digest), None)
        if row is not None and row.retired:
            raise WorkflowMissing(
                f"version {digest} of workflow {name!r} is retired and cannot be started", workflow=name, version=digest
            )
        self._resolved[name, tag] = (digest, now + RESOLVED_MS)
        return digest

    async def _lookup(self, name: str, version: str) -> str:
        digest = await self._c.store.resolve_tag(self._c.ns, name, version)
        if digest is None:
            raise await self._missing(name, version)
        return digest

    async def _versions(self, name: str | None) -> list[WorkflowVersion]:
        rows = await self._c.store.list_workflows(self._c.ns, name)
        if name is None:
            return [_version(row) for row in rows]
        numbers = numbers_of(rows, await self._c.store.tag_moves(self._c.ns, name))
        return [_version(row, numbers[row.digest]) for row in rows]

    async def _missing(self, name: str, version: str) -> WorkflowMissing:
        rows = await self._c.store.list_workflows(self._c.ns)
        names = {row.name for row in rows}
        if name not in names:
            hint = did_you_mean(name, names)
            return WorkflowMissing(
                f"there is no workflow {name!r}{hint}", workflow=name, nearest=nearest(name, names)
            )
        tags = {tag for row in rows if row.name == name for tag in row.tags}
        known = ", ".join(sorted(tags)) or "none"
        return WorkflowMissing(
            f"workflow {name!r} has no tag or version {version!r}{did_you_mean(version, tags)}; its tags: {known}",
            workflow=name, tag=version, nearest=nearest(version, tags),
        )


def _version(row: WorkflowRow, number: str = "") -> WorkflowVersion:
    return WorkflowVersion(
        number=number,
        name=row.name, version=row.digest, tags=sorted(row.tags), retired=row.retired,
        created_at=instant(row.created_at),
    )


def _latest_of_each(versions: list[WorkflowVersion]) -> list[WorkflowVersion]:
    """Return the version `latest` points at, or else the newest, for every name, in the order given."""
    chosen: dict[str, Any] = {}
    for item in versions:
        if item.name not in chosen or "latest" in item.tags:
            chosen[item.name] = item
    return [item for item in versions if chosen[item.name] is item]


def _problem(item: Problem) -> ProblemView:
    return ProblemView(place=item.place, message=item.message, hint=item.hint, code=item.code)
