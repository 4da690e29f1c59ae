"""Knowledge bases for people and programs: index texts and files, list, search, delete. Tools only search."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from os import PathLike

import msgspec

from tenuto.errors import Invalid
from tenuto.ports.knowledge import Base, Document, Hit, Indexed, Knowledge, Source, Text
from tenuto.runtime.services.collecting import collect
from tenuto.runtime.services.results import Page

MAX_LIMIT = 1000


class KnowledgeOff(Invalid):
    """This engine was started without knowledge bases."""

    code = "knowledge.off"


class KnowledgeBases:
    """The bases of one namespace."""

    def __init__(self, port: Knowledge | None, ns: str) -> None:
        """Serve a namespace.

        Args:
            port: `None` refuses every request.
        """
        self.port = port
        self._ns = ns

    @property
    def _bases(self) -> Knowledge:
        if self.port is None:
            raise KnowledgeOff("this engine was started without knowledge bases; give its kit some")
        return self.port

    async def index(self, base: str, source: str, texts: Sequence[Text], *, prune: bool = False) -> Indexed:
        """Bring documents of a source up to date; unchanged ones are left as they are.

        Args:
            prune: Whether documents of the source that are not among `texts` are removed.

        Raises:
            KnowledgeName: A name or path is not allowed.
            EmbeddingMismatch: The base was indexed with another embedding model.
        """
        return await self._bases.index(self._ns, base, source, texts, prune=prune)

    async def index_files(self, base: str, path: str | PathLike[str], *, source: str = "") -> Indexed:
        """Bring a source up to date with a file, or with all text files below a directory; what is gone is removed.

        Args:
            source: Name of the source; empty is the path's last part.

        Raises:
            KnowledgeName: A name is not allowed.
            Invalid: There is no such file or directory.
        """
        try:
            found = await asyncio.to_thread(collect, path)
        except OSError as exc:
            raise Invalid(f"{str(path)!r} cannot be read: {exc.strerror}", code="knowledge.files") from exc
        texts = [Text(path=name, text=text) for name, text in found.texts.items()]
        done = await self.index(base, source or found.name, texts, prune=True)
        return msgspec.structs.replace(done, skipped=tuple(found.skipped.items()))

    async def list(self) -> list[Base]:
        """Return all bases, by name."""
        return await self._bases.bases(self._ns)

    async def sources(self, base: str) -> list[Source]:
        """Return where the documents of a base come from."""
        return await self._bases.sources(self._ns, base)

    async def documents(self, base: str, source: str = "", *, after: str = "", limit: int = 100) -> Page[Document]:
        """Return documents by source and path."""
        found, cursor = await self._bases.documents(self._ns, base, source, after=after, limit=min(limit, MAX_LIMIT))
        return Page(items=found, next=cursor or None)

    async def search(self, query: str, base: str = "", *, limit: int = 5) -> list[Hit]:
        """Return the pieces nearest in meaning, best first; with no base named, of all of them."""
        return await self._bases.search(self._ns, query, base, limit=limit)

    async def lookup(self, query: str, base: str = "", *, exact: bool = False, limit: int = 5) -> list[Hit]:
        """Return the pieces that hold all words of a text, or with `exact` the text as it is written."""
        return await self._bases.lookup(self._ns, query, base, exact=exact, limit=limit)

    async def delete(self, base: str, source: str = "") -> int:
        """Remove a source, or the base with all of them, and return how many documents that were."""
        return await self._bases.delete(self._ns, base, source)
