"""Appending to journals and reading them back."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from tenuto.adapters.stores.postgres import rows
from tenuto.adapters.stores.postgres.parts import Part
from tenuto.domain.runs.wire import Record
from tenuto.errors import Conflict, Invalid, KeyReused
from tenuto.ports.store import Commit, Committed, History


class Journal(Part):
    """The journal's side of the store."""

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Make a group durable in one statement; one answer per commit, in order."""
        return await self.parts.committer.commit(batch)

    async def create_once(self, commit: Commit, key: str, body_digest: str) -> tuple[str, bool]:
        """Create a run under an idempotency key; return its id and whether it was created now.

        Raises:
            KeyReused: The key was used with another body.
            Invalid: The store refuses the run itself.
            Conflict: The id of the new run is taken.
        """
        done = await self.parts.committer.create(commit, (commit.ns, key, body_digest))
        if done.outcome == "ok":
            return commit.run_id, True
        if done.outcome == "poison":
            raise Invalid(f"the run cannot be stored: {done.error}")
        row = await self.parts.pool.first("idempotent_run", commit.ns, key)
        if row is None:
            raise Conflict(f"a run with the id {commit.run_id} exists already")
        if row["digest"] != body_digest:
            raise KeyReused(f"the idempotency key {key!r} was used before with another request body")
        return str(row["run_id"]), False

    async def create_business(self, commit: Commit) -> tuple[str, bool]:
        """Create a run unless an unfinished run has its business key; return the id and whether new.

        Raises:
            Invalid: The store refuses the run itself, or it has no business key.
            Conflict: The id of the new run is taken.
        """
        key = commit.new.business_key if commit.new is not None else None
        if key is None:
            raise Invalid("a run started by business key needs one")
        while True:
            existing = await self.parts.pool.value("business_run", commit.ns, key)
            if existing is not None:
                return str(existing), False
            done = await self.parts.committer.create(commit, None)
            if done.outcome == "ok":
                return commit.run_id, True
            if done.outcome == "fenced":
                raise Conflict(f"a run with the id {commit.run_id} exists already")
            # Another process created a run with this key in between: then it is found in the next round.
            if (
                not done.error.startswith(asyncpg.UniqueViolationError.__name__)
                or "run_business" not in done.error
            ):
                raise Invalid(f"the run cannot be stored: {done.error}")

    async def load(self, run_ids: Sequence[str]) -> list[History]:
        """Return newest snapshot and the records after it, for each run that exists, in the order asked for."""
        ids = [run for run in dict.fromkeys(run_ids) if rows.is_id(run)]
        found = {str(r["run_id"]): r for r in await self.parts.pool.fetch("snapshots", ids)}
        after = [found[run]["seq"] if run in found else 0 for run in ids]
        records: dict[str, list[Record]] = {}
        for row in await self.parts.pool.fetch("histories", ids, after):
            records.setdefault(str(row["run_id"]), []).append(rows.record(row))
        return [
            History(run, seq, found[run]["body"] if run in found else None, records.get(run, []))
            for run, seq in zip(ids, after, strict=True)
            if run in found or run in records
        ]

    async def records(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Record]:
        """Return records with `seq > after`, in order."""
        if not rows.is_id(run_id):
            return []
        return [rows.record(row) for row in await self.parts.pool.fetch("records", run_id, after, limit)]

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return the stored bytes of those digests that exist."""
        found = await self.parts.pool.fetch("get_blobs", list(digests))
        return {row["digest"]: row["body"] for row in found}

    async def put_blobs(self, blobs: Sequence[tuple[str, bytes]], *, ns: str = "default") -> None:
        """Store bytes under their digests; repeats are harmless."""
        stored = sorted(dict(blobs).items())
        await self.parts.pool.fetch(
            "put_blobs", [digest for digest, _ in stored], [body for _, body in stored]
        )
