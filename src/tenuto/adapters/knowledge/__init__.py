"""Knowledge bases as files of a directory, one SQLite file each, searched by looking at every vector."""

from __future__ import annotations

import asyncio
import re
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tenuto.adapters.knowledge.chunks import cut
from tenuto.adapters.knowledge.embeddings import Embedding, numpy_or_refuse, open_embedding, resolve
from tenuto.adapters.knowledge.file import BaseFile, Piece
from tenuto.domain.base.nearest import nearest
from tenuto.errors import Problem
from tenuto.ports.knowledge import (
    Base,
    Document,
    Hit,
    Indexed,
    KnowledgeMissing,
    KnowledgeName,
    Source,
    Text,
)

__all__ = ["KnowledgeFiles", "open_embedding", "resolve"]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
GROUP = 256
_SUFFIX = ".db"
_SEPARATOR = "\x1f"


class KnowledgeFiles:
    """Keeps the promises of `ports.knowledge.Knowledge` on one disk.

    Writers of one base wait for each other; readers wait for nobody.
    """

    def __init__(self, root: Path, embedding: Embedding, *, chunk_chars: int = 1000, overlap_chars: int = 150) -> None:
        """Keep bases below a directory; nothing is opened."""
        self._root = root
        self._embedding = embedding
        self._chunk_chars = chunk_chars
        self._overlap_chars = overlap_chars
        self._files: dict[tuple[str, str], BaseFile] = {}
        self._lock = threading.Lock()

    async def index(
        self, ns: str, base: str, source: str, texts: Sequence[Text], *, prune: bool = False
    ) -> Indexed:
        """See `Knowledge.index`."""
        return await asyncio.to_thread(self._index, ns, base, source, texts, prune)

    async def bases(self, ns: str) -> list[Base]:
        """See `Knowledge.bases`."""
        return await asyncio.to_thread(lambda: [file.describe() for file in self._all(ns)])

    async def sources(self, ns: str, base: str) -> list[Source]:
        """See `Knowledge.sources`."""
        return await asyncio.to_thread(lambda: self._known(ns, base).sources())

    async def documents(
        self, ns: str, base: str, source: str = "", *, after: str = "", limit: int = 100
    ) -> tuple[list[Document], str]:
        """See `Knowledge.documents`."""
        place = _place(after)
        found = await asyncio.to_thread(lambda: self._known(ns, base).documents(source, place, limit + 1))
        shown = found[:limit]
        more = _cursor(shown[-1]) if len(found) > limit else ""
        return shown, more

    async def search(self, ns: str, query: str, base: str = "", *, limit: int = 5) -> list[Hit]:
        """See `Knowledge.search`."""
        return await asyncio.to_thread(self._search, ns, query, base, limit)

    async def lookup(
        self, ns: str, query: str, base: str = "", *, exact: bool = False, limit: int = 5
    ) -> list[Hit]:
        """See `Knowledge.lookup`."""
        return await asyncio.to_thread(self._lookup, ns, query, base, exact, limit)

    async def delete(self, ns: str, base: str, source: str = "") -> int:
        """See `Knowledge.delete`."""
        file = self._known(ns, base)
        return await asyncio.to_thread(lambda: file.remove_source(source) if source else file.delete())

    # --- on a thread ----------------------------------------------------------------------------------------------

    def _index(self, ns: str, base: str, source: str, texts: Sequence[Text], prune: bool) -> Indexed:
        numpy_or_refuse()
        texts = _checked(source, texts)
        file = self._file(ns, base)
        if file.exists():
            file.agree(self._embedding.name, self._embedding.dimensions)
        else:
            file.make(self._embedding.name)
        known = file.digests(source)
        added = changed = unchanged = chunks = 0
        missing: list[str] = []
        due: list[tuple[Text, list[tuple[int, str]]]] = []
        waiting = 0
        for item in texts:
            if known.get(item.path) == item.digest:
                unchanged += 1
                continue
            if item.text is None:
                missing.append(item.path)
                continue
            changed += item.path in known
            added += item.path not in known
            pieces = list(cut(item.text, self._chunk_chars, self._overlap_chars))
            chunks += len(pieces)
            due.append((item, pieces))
            waiting += len(pieces)
            if waiting >= GROUP:
                self._put(file, source, due)
                due, waiting = [], 0
        self._put(file, source, due)
        gone = sorted(set(known) - {item.path for item in texts}) if prune else []
        if gone:
            file.remove(source, gone)
        return Indexed(
            base=base, source=source, added=added, changed=changed, unchanged=unchanged, removed=len(gone), chunks=chunks,
            missing=tuple(missing),
        )

    def _put(self, file: BaseFile, source: str, due: Sequence[tuple[Text, list[tuple[int, str]]]]) -> None:
        np = numpy_or_refuse()
        said = [text for _, pieces in due for _, text in pieces]
        vectors = self._embedding.embed(said).astype(np.float16) if said else None
        blobs = (vector.tobytes() for vector in ([] if vectors is None else list(vectors)))
        documents = [
            (
                item.path, item.digest, len(item.text or ""),
                [Piece(start, text, next(blobs)) for start, text in pieces],
            )
            for item, pieces in due
        ]
        file.put(source, self._embedding.name, self._embedding.dimensions if said else 0, documents)

    def _search(self, ns: str, query: str, base: str, limit: int) -> list[Hit]:
        files = [self._known(ns, base)] if base else self._all(ns)
        for file in files:
            file.agree(self._embedding.name, self._embedding.dimensions)
        if not files:
            return []
        vector = self._embedding.embed([query])[0]
        hits = [hit for file in files for hit in file.nearest(vector, limit)]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def _lookup(self, ns: str, query: str, base: str, exact: bool, limit: int) -> list[Hit]:
        files = [self._known(ns, base)] if base else self._all(ns)
        hits = [hit for file in files for hit in file.matching(query, exact, limit)]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def _directory(self, ns: str) -> Path:
        return self._root / (ns if NAME.fullmatch(ns) else "x-" + sha256(ns.encode()).hexdigest()[:32])

    def _names(self, ns: str) -> list[str]:
        found = self._directory(ns).glob(f"*{_SUFFIX}")
        return sorted(path.stem for path in found if NAME.fullmatch(path.stem))

    def _all(self, ns: str) -> list[BaseFile]:
        return [self._file(ns, name) for name in self._names(ns)]

    def _file(self, ns: str, base: str) -> BaseFile:
        if not NAME.fullmatch(base):
            raise KnowledgeName(
                f"{base[:80]!r} is no name of a knowledge base; use small letters, digits, '-' and '_', at most 64"
            )
        with self._lock:
            key = (ns, base)
            if key not in self._files:
                self._files[key] = BaseFile(base, self._directory(ns) / f"{base}{_SUFFIX}")
            return self._files[key]

    def _known(self, ns: str, base: str) -> BaseFile:
        file = self._file(ns, base)
        if not file.exists():
            hint = nearest(base, self._names(ns))
            guess = f"; did you mean {hint!r}?" if hint else ""
            raise KnowledgeMissing(f"there is no knowledge base {base!r}{guess}")
        return file


def _cursor(last: Document) -> str:
    return urlsafe_b64encode(f"{last.source}{_SEPARATOR}{last.path}".encode()).decode()


def _place(cursor: str) -> tuple[str, str]:
    try:
        source, mark, path = urlsafe_b64decode(cursor.encode()).decode().partition(_SEPARATOR)
    except ValueError:
        source, mark, path = "", "", ""
    if cursor and not mark:
        raise KnowledgeName(f"{cursor[:80]!r} is no cursor of this list; give back the one a list ended with")
    return source, path


def _checked(source: str, texts: Sequence[Text]) -> list[Text]:
    """Return documents with their digests, each once.

    Raises:
        KnowledgeName: With every path that is not allowed or stands twice.
    """
    problems: list[Problem] = []
    if not source or len(source) > 200 or not source.isprintable():
        problems.append(Problem("/source", f"{source[:80]!r} is no name of a source", hint="1 to 200 printable characters"))
    seen: dict[str, Text] = {}
    for at, item in enumerate(texts):
        place = f"/documents/{at}"
        if not item.path or len(item.path) > 1000 or not item.path.isprintable():
            problems.append(Problem(f"{place}/path", f"{item.path[:80]!r} is no path", hint="1 to 1,000 printable characters"))
        elif item.path in seen:
            problems.append(Problem(f"{place}/path", f"{item.path!r} stands there twice"))
        elif item.text is None and not re.fullmatch(r"[0-9a-f]{64}", item.digest):
            problems.append(Problem(f"{place}/digest", "is no SHA-256 in hex", hint="give a text or its digest"))
        text = item.text
        digest = sha256(text.encode("utf-8", "replace")).hexdigest() if text is not None else item.digest
        seen[item.path] = Text(path=item.path, digest=digest, text=text)
    if problems:
        raise KnowledgeName("the documents cannot be indexed", problems=tuple(problems))
    return list(seen.values())
