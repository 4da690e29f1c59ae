"""Use cases of artifacts: content by digest, whether it is a value of a journal or bytes that somebody put."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import msgspec

from tenuto.domain.base.values import digest_of, unpack
from tenuto.domain.runs import events as ev
from tenuto.domain.runs.views import instant
from tenuto.errors import ArtifactMissing, Invalid
from tenuto.runtime.artifacts import Artifact, is_digest
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import ArtifactView, Page

JSON = "application/json"
_ROLES = (("input", "input"), ("output", "output"), ("out", "output"), ("items", "items"), ("payload", "signal"))
_CURSOR = re.compile(r"\d{1,15}:sha256:[0-9a-f]{64}")
_named = re.compile(rb"sha256:[0-9a-f]{64}").findall


@dataclass(frozen=True, slots=True)
class Stored:
    """Content that is there.

    Attributes:
        pieces: Returns the bytes from one position to before another, in pieces.
    """

    view: ArtifactView
    pieces: Callable[[int, int], Awaitable[AsyncIterator[bytes]]]


class Artifacts:
    """Content by the digest of its bytes."""

    def __init__(self, context: Context) -> None:
        """Use the store and the shelf of an engine."""
        self._c = context

    async def put(self, content: AsyncIterable[bytes], *, media_type: str = "", digest: str = "") -> ArtifactView:
        """Store content in pieces; see `Shelf.put`."""
        return _view(await self._c.shelf.put(self._c.ns, content, media_type=media_type, digest=digest))

    async def look(self, digest: str) -> Stored:
        """Return stored content, its bytes still unread where they may be many.

        Raises:
            ArtifactMissing: Nothing has this digest, or it was pruned.
        """
        found = await self._c.shelf.find(self._c.ns, digest)
        if found is not None:
            return Stored(_view(found), partial(self._pieces, digest))
        body = await self.get(digest)
        return Stored(ArtifactView(digest=digest, size=len(body), media_type=JSON), partial(_cut, body))

    async def _pieces(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        return (await self._c.shelf.open(self._c.ns, digest, start, stop))[1]

    async def get(self, digest: str) -> bytes:
        """Return the bytes of a value of a journal (JSON).

        Raises:
            ArtifactMissing: Nothing has this digest, or it was pruned.
        """
        if not is_digest(digest):
            raise ArtifactMissing(f"{digest!r} is not a digest; digests are 'sha256:' and 64 hex digits", digest=digest)
        found = await self._c.store.get_blobs([digest])
        if digest not in found:
            raise ArtifactMissing(f"nothing stored has the digest {digest}; it may have been pruned", digest=digest)
        return found[digest]

    async def recent(self, *, after: str = "", limit: int = 100) -> Page[ArtifactView]:
        """Return what was put, newest first; values of journals are listed by run only.

        Raises:
            Invalid: The cursor is none of this list.
        """
        if after and not _CURSOR.fullmatch(after):
            raise Invalid(f"{after[:80]!r} is not a cursor of this list", code="request.cursor")
        found = await self._c.shelf.list(self._c.ns, after=after, limit=limit + 1)
        more = len(found) > limit
        return Page(items=[_view(item) for item in found[:limit]], next=found[limit - 1].cursor if more else None)

    async def list(self, run_id: str) -> list[ArtifactView]:
        """Return the content a run's journal refers to, in order."""
        await self._c.row(run_id)
        found: dict[str, ArtifactView] = {}
        for _, body in await self._c.bodies(run_id):
            for event in body.ev:
                for view in _references(event):
                    if view.digest not in found and (known := await self._known(view)) is not None:
                        found[view.digest] = known
        return list(found.values())

    async def _known(self, view: ArtifactView) -> ArtifactView | None:
        """Return a view of something stored, or `None` for what is only a digest somewhere in a text."""
        if view.media_type:
            return view
        known = await self._c.shelf.find(self._c.ns, view.digest)
        if known is None:
            return None
        return msgspec.structs.replace(_view(known), step=view.step, role=view.role)


async def _cut(body: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
    async def one() -> AsyncIterator[bytes]:
        yield body[start:stop]

    return one()


def _view(found: Artifact) -> ArtifactView:
    return ArtifactView(
        digest=found.digest, size=found.size, media_type=found.media_type, created_at=instant(found.created_at)
    )


def _references(event: ev.Event) -> Iterator[ArtifactView]:
    step = getattr(event, "step", "")
    for field, role in _ROLES:
        value = getattr(event, field, None)
        if value is None:
            continue
        digest = digest_of(value)
        if digest is not None:
            yield ArtifactView(digest=digest, size=unpack(value).get("size", 0), media_type=JSON, step=step, role=role)
            continue
        for name in _named(bytes(value)):
            yield ArtifactView(digest=name.decode(), size=0, step=step, role="artifact")
    if isinstance(event, ev.RunCreated) and event.fork is not None and event.fork.reuse:
        yield ArtifactView(digest=event.fork.reuse, size=0, media_type=JSON, role="reuse")
