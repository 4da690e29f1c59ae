"""One base as one SQLite file: texts, words and vectors, replaced document by document. Everything here blocks."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenuto.adapters.knowledge import queries as q
from tenuto.adapters.knowledge.embeddings import numpy_or_refuse
from tenuto.errors import Corrupt
from tenuto.ports.knowledge import Base, Document, EmbeddingMismatch, Hit, KnowledgeMissing, Source

BUSY_S = 30.0
_TOKENS = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a document on its way into the file."""

    start: int
    text: str
    vector: bytes


@dataclass(slots=True)
class Matrix:
    """All vectors of a base in memory, by the ids of their chunks in order."""

    made: str
    generation: str
    ids: Any
    vectors: Any


class BaseFile:
    """A base on disk."""

    def __init__(self, name: str, path: Path) -> None:
        """Name the file; nothing is opened."""
        self.name = name
        self.path = path
        self._matrix: Matrix | None = None

    # --- the file -------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Return whether the base has been made."""
        return self.path.is_file()

    @contextmanager
    def _open(self, *, write: bool = False) -> Generator[sqlite3.Connection]:
        """Yield a connection in one transaction; what was written is kept unless the block fails."""
        if not write and not self.exists():
            raise KnowledgeMissing(f"there is no knowledge base {self.name!r}")
        mode = "rwc" if write else "rw"  # a reader of a file in WAL mode writes beside it
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            if write:
                db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield db
            db.execute("COMMIT")
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):
                raise
            raise Corrupt(f"the knowledge base {self.name!r} cannot be read: {exc}; delete and index it again") from exc
        finally:
            db.close()

    def make(self, embedding: str) -> None:
        """Make the file when there is none; two makers at once make one.

        Raises:
            EmbeddingMismatch: There is one, of another model.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._open(write=True) as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
                for statement in _statements(q.SCHEMA):
                    db.execute(statement)
                made = str(time.time_ns())  # tells a base from one of the same name that was deleted before
                values = {
                    "format": q.FORMAT, "made": made, "embedding": embedding, "dimensions": "0", "generation": "0",
                }
                db.executemany(q.SET_META, values.items())
            self._agree(_meta(db), embedding, 0)

    def agree(self, embedding: str, dimensions: int) -> None:
        """Check that the base belongs to a model.

        Raises:
            KnowledgeMissing: There is no such base.
            EmbeddingMismatch: It belongs to another one.
        """
        with self._open() as db:
            self._agree(_meta(db), embedding, dimensions)

    def _agree(self, meta: dict[str, str], embedding: str, dimensions: int) -> None:
        own, length = meta.get("embedding", ""), int(meta.get("dimensions", "0"))
        if own == embedding and (not length or not dimensions or length == dimensions):
            return
        asked = f"{embedding!r}" + (f" with {dimensions} dimensions" if dimensions else "")
        raise EmbeddingMismatch(
            f"the knowledge base {self.name!r} was indexed with {own!r} ({length} dimensions), the settings name "
            f"{asked}; delete it and index it again, or set knowledge.embedding back"
        )

    # --- writing --------------------------------------------------------------------------------------------------

    def digests(self, source: str) -> dict[str, str]:
        """Return the digest of every document of a source, by path."""
        with self._open() as db:
            return dict(db.execute(q.DIGESTS, (source,)).fetchall())

    def put(
        self, source: str, embedding: str, dimensions: int, documents: Iterable[tuple[str, str, int, Sequence[Piece]]]
    ) -> None:
        """Replace documents, given as path, digest, number of characters and pieces, all or none.

        Raises:
            EmbeddingMismatch: The base has become another model's meanwhile.
        """
        now = time.time_ns() // 1_000_000
        with self._open(write=True) as db:
            self._agree(_meta(db), embedding, dimensions)
            if dimensions:
                db.execute(q.SET_META, ("dimensions", str(dimensions)))
            found = db.execute(q.TOUCH_SOURCE, (source, now)).fetchone()[0]
            for path, digest, chars, pieces in documents:
                db.execute(q.DELETE_DOCUMENT, (found, path))
                made = db.execute(q.ADD_DOCUMENT, (found, path, digest, chars, len(pieces), now)).fetchone()[0]
                db.executemany(
                    q.ADD_CHUNK, [(made, n, piece.start, piece.text, piece.vector) for n, piece in enumerate(pieces)]
                )
            db.execute(q.NEXT_GENERATION)

    def remove(self, source: str, paths: Sequence[str]) -> None:
        """Remove documents of a source."""
        with self._open(write=True) as db:
            found = db.execute(q.SOURCE, (source,)).fetchone()
            if found is not None:
                db.executemany(q.DELETE_DOCUMENT, [(found[0], path) for path in paths])
                db.execute(q.NEXT_GENERATION)

    def remove_source(self, source: str) -> int:
        """Remove a source and return how many documents it had.

        Raises:
            KnowledgeMissing: There is no such source.
        """
        with self._open(write=True) as db:
            count = len(db.execute(q.DIGESTS, (source,)).fetchall())
            if db.execute(q.DELETE_SOURCE, (source,)).rowcount == 0:
                raise KnowledgeMissing(f"the knowledge base {self.name!r} has no source {source!r}")
            db.execute(q.NEXT_GENERATION)
        return count

    def delete(self) -> int:
        """Remove the base with everything in it and return how many documents that were."""
        documents = self.describe().documents
        self._matrix = None
        for path in (self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm")):
            path.unlink(missing_ok=True)
        return documents

    # --- reading --------------------------------------------------------------------------------------------------

    def describe(self) -> Base:
        """Return what the base holds."""
        with self._open() as db:
            meta = _meta(db)
            sources, documents, chunks, updated = db.execute(q.COUNTS).fetchone()
        return Base(
            name=self.name, embedding=meta.get("embedding", ""), dimensions=int(meta.get("dimensions", "0")),
            sources=sources, documents=documents, chunks=chunks, bytes=self.path.stat().st_size, updated_at=updated,
        )

    def sources(self) -> list[Source]:
        """Return the sources by name."""
        with self._open() as db:
            rows = db.execute(q.SOURCES).fetchall()
        return [Source(name=row[0], documents=row[1], chunks=row[2], updated_at=row[3]) for row in rows]

    def documents(self, source: str, after: tuple[str, str], limit: int) -> list[Document]:
        """Return documents by source and path, after a place.

        Raises:
            KnowledgeMissing: There is no such source.
        """
        with self._open() as db:
            if source and db.execute(q.SOURCE, (source,)).fetchone() is None:
                raise KnowledgeMissing(f"the knowledge base {self.name!r} has no source {source!r}")
            rows = db.execute(q.DOCUMENTS, (source, source, *after, limit)).fetchall()
        return [
            Document(source=row[0], path=row[1], digest=row[2], chars=row[3], chunks=row[4], updated_at=row[5])
            for row in rows
        ]

    def nearest(self, vector: Any, limit: int) -> list[Hit]:
        """Return the pieces whose vectors are nearest, by looking at all of them."""
        np = numpy_or_refuse()
        with self._open() as db:
            matrix = self._vectors(db)
            if not len(matrix.ids):
                return []
            if matrix.vectors.shape[1] != len(vector):
                self._agree(_meta(db), "the model at hand", len(vector))
            scores = matrix.vectors @ vector
            best = np.argpartition(-scores, min(limit, len(scores)) - 1)[:limit]
            ranked = sorted(((float(scores[at]), int(matrix.ids[at])) for at in best), key=lambda item: (-item[0], item[1]))
            return self._hits(db, [(found, score) for score, found in ranked])

    def matching(self, query: str, exact: bool, limit: int) -> list[Hit]:
        """Return the pieces that hold every word of a text, or the text as it is written."""
        tokens = _TOKENS.findall(query)
        phrase = " ".join(tokens)
        with self._open() as db:
            if exact and tokens:
                # Whole words narrow the search; the first and last may be parts of words and are left to the scan.
                inner = " ".join(tokens[1:-1])
                if inner:
                    rows = db.execute(q.LOOKUP_EXACT, (f'"{inner}"', query, limit)).fetchall()
                else:
                    rows = db.execute(q.SCAN_EXACT, (query, limit)).fetchall()
            elif exact and query:
                rows = db.execute(q.SCAN_EXACT, (query, limit)).fetchall()
            elif phrase:
                match = " AND ".join(f'"{token}"' for token in tokens)
                rows = db.execute(q.LOOKUP, (match, limit)).fetchall()
            else:
                rows = []
            return self._hits(db, rows)

    def _hits(self, db: sqlite3.Connection, ranked: Sequence[tuple[int, float]]) -> list[Hit]:
        found = {row[0]: row for row in db.execute(q.CHUNKS, (json.dumps([item[0] for item in ranked]),))}
        return [
            Hit(
                base=self.name, source=row[1], path=row[2], chunk=row[3], start=row[4], text=row[5], score=round(score, 6)
            )
            for found_id, score in ranked
            if (row := found.get(found_id)) is not None
        ]

    def _vectors(self, db: sqlite3.Connection) -> Matrix:
        """Return the vectors as of this transaction; what was read before is read again only where it changed."""
        np = numpy_or_refuse()
        meta = _meta(db)
        made, generation = meta["made"], meta["generation"]
        known = self._matrix if self._matrix is not None and self._matrix.made == made else None
        if known is not None and known.generation == generation:
            return known
        after, kept_ids, kept = 0, np.empty(0, np.int64), None
        if known is not None and len(known.ids):
            present = np.fromiter((row[0] for row in db.execute(q.IDS)), np.int64)
            stays = np.isin(known.ids, present, assume_unique=True)
            after, kept_ids, kept = int(known.ids[-1]), known.ids[stays], known.vectors[stays]
        rows = db.execute(q.VECTORS, (after,)).fetchall()
        ids = np.concatenate([kept_ids, np.array([row[0] for row in rows], np.int64)])
        fresh = np.frombuffer(b"".join(row[1] for row in rows), np.float16).astype(np.float32)
        width = len(rows[0][1]) // 2 if rows else (kept.shape[1] if kept is not None else 0)
        fresh = fresh.reshape(len(rows), width)
        vectors = fresh if kept is None else np.concatenate([kept, fresh])
        found = self._matrix = Matrix(made, generation, ids, vectors)
        return found


def _meta(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute(q.META).fetchall())


def _statements(script: str) -> list[str]:
    """Return the statements of a script one by one; `executescript` would end the transaction."""
    found: list[str] = []
    part = ""
    for line in script.strip().splitlines():
        part += line + "\n"
        if sqlite3.complete_statement(part):
            found.append(part)
            part = ""
    return found
