"""Appending to journals and reading them back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tenuto.adapters.stores.sqlite import batch as batches
from tenuto.adapters.stores.sqlite import sql
from tenuto.adapters.stores.sqlite.parts import Part
from tenuto.adapters.stores.sqlite.rows import id_text, stored_id
from tenuto.adapters.stores.sqlite.transaction import Tx
from tenuto.domain.runs.wire import Record
from tenuto.errors import Conflict, Invalid, KeyReused
from tenuto.ports.store import Commit, Committed, History

_ALL = -1


class Journal(Part):
    """The journal's side of the store."""

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Make a group durable in one transaction; one answer per commit, in order."""
        if not batch:
            return []
        return await self.parts.writer.run(lambda tx: batches.store(tx, batch))

    async def create_once(self, commit: Commit, key: str, body_digest: str) -> tuple[str, bool]:
        """Create a run under an idempotency key; return its id and whether it was created now.

        Raises:
            KeyReused: The key was used with another body.
            Invalid: The store refuses the run itself.
            Conflict: The id of the new run is taken.
        """

        def create(tx: Tx) -> Committed | tuple[bytes, str, str]:
            before = sql.first(tx.db, "key_find", commit.ns, key)
            if before is not None:
                return before
            (done,) = batches.store(tx, [commit])
            if done.outcome == "ok":
                run = batches.ids[commit.run_id]
                sql.change(tx.db, "key_add", commit.ns, key, body_digest, run, tx.now, "")
            return done

        done = await self.parts.writer.run(create)
        if isinstance(done, Committed):
            return _created(commit, done)
        run, digest, _ = done
        if digest != body_digest:
            raise KeyReused(f"the idempotency key {key!r} was used before with another request body")
        return id_text(run), False

    async def create_business(self, commit: Commit) -> tuple[str, bool]:
        """Create a run unless an unfinished run has its business key; return the id and whether new.

        Raises:
            Invalid: The store refuses the run itself, or it has no business key.
            Conflict: The id of the new run is taken.
        """
        key = commit.new.business_key if commit.new is not None else None
        if key is None:
            raise Invalid("a run started by business key needs one")

        def create(tx: Tx) -> Committed | bytes:
            before = sql.first(tx.db, "business_run", commit.ns, key)
            return before[0] if before is not None else batches.store(tx, [commit])[0]

        done = await self.parts.writer.run(create)
        return _created(commit, done) if isinstance(done, Committed) else (id_text(done), False)

    async def load(self, run_ids: Sequence[str]) -> list[History]:
        """Return newest snapshot and the records after it, for each run that exists, in the order asked for."""

        def read(db: sqlite3.Connection) -> list[History]:
            with sql.one_moment(db):
                found = [_history(db, run_id) for run_id in dict.fromkeys(run_ids)]
            return [history for history in found if history.records or history.snapshot is not None]

        return await self.parts.readers.run(read)

    async def records(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Record]:
        """Return records with `seq > after`, in order."""
        run = stored_id(run_id)
        return await self.parts.readers.run(lambda db: _records(db, run, after, limit)) if run else []

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return the stored bytes of those digests that exist."""
        asked = msgspec.json.encode(list(digests)).decode()
        return dict(await self.parts.readers.rows("blobs", asked))

    async def put_blobs(self, blobs: Sequence[tuple[str, bytes]], *, ns: str = "default") -> None:
        """Store bytes under their digests; repeats are harmless."""
        stored = list(blobs)
        await self.parts.writer.run(lambda tx: sql.changes(tx.db, "blob_add", stored))


def _created(commit: Commit, done: Committed) -> tuple[str, bool]:
    if done.outcome == "poison":
        raise Invalid(f"the run cannot be stored: {done.error}")
    if done.outcome == "fenced":
        raise Conflict(f"a run with the id {commit.run_id} exists already")
    return commit.run_id, True


def _history(db: sqlite3.Connection, run_id: str) -> History:
    run = stored_id(run_id)
    if run is None:
        return History(run_id, 0, None, [])
    seq, body = sql.first(db, "snapshot_get", run) or (0, None)
    return History(run_id, seq, body, _records(db, run, seq, _ALL))


def _records(db: sqlite3.Connection, run: bytes, after: int, limit: int) -> list[Record]:
    return [Record(*row) for row in sql.rows(db, "records", run, after, limit)]
