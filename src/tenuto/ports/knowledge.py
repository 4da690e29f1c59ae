"""What is known locally: bases of documents, found again by meaning or by words. No network is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from tenuto.errors import Conflict, Invalid, Missing, Unavailable


class Text(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One document of a source, as it is now.

    Attributes:
        path: Names it within its source.
        digest: SHA-256 of the text, in hex; reckoned when the text is there.
        text: `None` only says that the document exists with this digest.
    """

    path: str
    digest: str = ""
    text: str | None = None


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A knowledge base.

    Attributes:
        embedding: Model its vectors were made with, as the setting names it.
        bytes: Of its file.
    """

    name: str
    embedding: str
    dimensions: int
    sources: int
    documents: int
    chunks: int
    bytes: int
    updated_at: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where documents of a base come from."""

    name: str
    documents: int
    chunks: int
    updated_at: int


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document of a base."""

    source: str
    path: str
    digest: str
    chars: int
    chunks: int
    updated_at: int


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document that was found.

    Attributes:
        chunk: Its number within the document, from 0.
        start: Character of the document it begins at.
        score: Of a search by meaning the cosine, 1 the same; of a look-up the rank by words. Higher is better.
    """

    base: str
    source: str
    path: str
    chunk: int
    start: int
    text: str
    score: float


class Indexed(msgspec.Struct, frozen=True, kw_only=True):
    """What an indexing did.

    Attributes:
        missing: Documents whose text is needed, because it is new or has changed, and was not given.
        skipped: What could not be read, with the reason; filled by whoever collects files.
    """

    base: str
    source: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    missing: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


class KnowledgeName(Invalid):
    """The name or path is not one that a base, source or document may have."""

    code = "knowledge.name"


class KnowledgeMissing(Missing):
    """There is no such base or source."""

    code = "knowledge.unknown"


class EmbeddingMismatch(Conflict):
    """The base was indexed with another embedding model or other dimensions than the settings name."""

    code = "knowledge.embedding_mismatch"


class EmbeddingNotInstalled(Invalid):
    """The embedding model, or what searching needs, is not installed; the message names the extra."""

    code = "knowledge.not_installed"


class EmbeddingFailed(Unavailable):
    """The server of the embedding model did not answer as it should."""

    code = "knowledge.embedding_failed"


class Knowledge(Protocol):
    """Knowledge bases of one installation, apart by namespace.

    Every method may be called from several processes at once; a reader sees the base before an indexing or after it.
    """

    async def index(
        self, ns: str, base: str, source: str, texts: Sequence[Text], *, prune: bool = False
    ) -> Indexed:
        """Bring documents of a source up to date; the base is made when it is new.

        Each document is replaced whole or not at all, and one whose digest is known is left as it is, so that an
        indexing that was cut goes on where it stopped.

        Args:
            prune: Whether documents of the source that are not among `texts` are removed.

        Raises:
            KnowledgeName: A name or path is not allowed.
            EmbeddingMismatch: The base belongs to another embedding model.
        """
        ...

    async def bases(self, ns: str) -> list[Base]:
        """Return all bases, by name."""
        ...

    async def sources(self, ns: str, base: str) -> list[Source]:
        """Return the sources of a base, by name.

        Raises:
            KnowledgeMissing: There is no such base.
        """
        ...

    async def documents(
        self, ns: str, base: str, source: str = "", *, after: str = "", limit: int = 100
    ) -> tuple[list[Document], str]:
        """Return documents by source and path, and a cursor that is empty at the end.

        Raises:
            KnowledgeMissing: There is no such base or source.
            KnowledgeName: The cursor is none.
        """
        ...

    async def search(self, ns: str, query: str, base: str = "", *, limit: int = 5) -> list[Hit]:
        """Return the pieces nearest in meaning, exactly, best first; with no base named, of all of them.

        Raises:
            KnowledgeMissing: There is no such base.
            EmbeddingMismatch: The base belongs to another embedding model.
        """
        ...

    async def lookup(
        self, ns: str, query: str, base: str = "", *, exact: bool = False, limit: int = 5
    ) -> list[Hit]:
        """Return the pieces that hold all words of a text, best first.

        Args:
            exact: Whether the text has to occur as it is written, upper and lower case included.

        Raises:
            KnowledgeMissing: There is no such base.
        """
        ...

    async def delete(self, ns: str, base: str, source: str = "") -> int:
        """Remove a source, or the base with all of them, and return how many documents that were.

        Raises:
            KnowledgeMissing: There is no such base or source.
        """
        ...
