"""The schema of a base's file and every statement made on it."""

from __future__ import annotations

FORMAT = "1"

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, updated_at INTEGER NOT NULL);
CREATE TABLE document (
  id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES source ON DELETE CASCADE, path TEXT NOT NULL,
  digest TEXT NOT NULL, chars INTEGER NOT NULL, chunks INTEGER NOT NULL, updated_at INTEGER NOT NULL,
  UNIQUE (source_id, path)
);
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY AUTOINCREMENT, document_id INTEGER NOT NULL REFERENCES document ON DELETE CASCADE,
  n INTEGER NOT NULL, start INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX chunk_document ON chunk (document_id);
CREATE VIRTUAL TABLE words USING fts5(
  text, content='chunk', content_rowid='id', tokenize="unicode61 remove_diacritics 2"
);
CREATE TRIGGER chunk_in AFTER INSERT ON chunk BEGIN
  INSERT INTO words (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER chunk_out AFTER DELETE ON chunk BEGIN
  INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
END;
"""

META = "SELECT key, value FROM meta"
SET_META = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
NEXT_GENERATION = "UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'generation'"

COUNTS = "SELECT (SELECT count(*) FROM source), count(*), coalesce(sum(chunks), 0), coalesce(max(updated_at), 0) FROM document"
SOURCES = """
SELECT s.name, count(d.id), coalesce(sum(d.chunks), 0), s.updated_at
FROM source s LEFT JOIN document d ON d.source_id = s.id GROUP BY s.id ORDER BY s.name
"""
SOURCE = "SELECT id FROM source WHERE name = ?"
TOUCH_SOURCE = """
INSERT INTO source (name, updated_at) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at RETURNING id
"""
DELETE_SOURCE = "DELETE FROM source WHERE name = ?"
DOCUMENTS = """
SELECT s.name, d.path, d.digest, d.chars, d.chunks, d.updated_at FROM document d JOIN source s ON s.id = d.source_id
WHERE (? = '' OR s.name = ?) AND (s.name, d.path) > (?, ?) ORDER BY s.name, d.path LIMIT ?
"""
DIGESTS = "SELECT d.path, d.digest FROM document d JOIN source s ON s.id = d.source_id WHERE s.name = ?"
DELETE_DOCUMENT = "DELETE FROM document WHERE source_id = ? AND path = ?"
ADD_DOCUMENT = """
INSERT INTO document (source_id, path, digest, chars, chunks, updated_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING id
"""
ADD_CHUNK = "INSERT INTO chunk (document_id, n, start, text, vector) VALUES (?, ?, ?, ?, ?)"

VECTORS = "SELECT id, vector FROM chunk WHERE id > ? ORDER BY id"
IDS = "SELECT id FROM chunk ORDER BY id"
CHUNKS = """
SELECT c.id, s.name, d.path, c.n, c.start, c.text
FROM chunk c JOIN document d ON d.id = c.document_id JOIN source s ON s.id = d.source_id
WHERE c.id IN (SELECT value FROM json_each(?))
"""
LOOKUP = """
SELECT w.rowid, -bm25(words) AS rank FROM words w WHERE words MATCH ? ORDER BY rank DESC, w.rowid LIMIT ?
"""
LOOKUP_EXACT = """
SELECT w.rowid, -bm25(words) AS rank FROM words w JOIN chunk c ON c.id = w.rowid
WHERE words MATCH ? AND instr(c.text, ?) > 0 ORDER BY rank DESC, w.rowid LIMIT ?
"""
SCAN_EXACT = "SELECT id, 0.0 FROM chunk WHERE instr(text, ?) > 0 ORDER BY id LIMIT ?"
