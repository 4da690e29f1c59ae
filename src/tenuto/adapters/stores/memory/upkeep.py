"""Forgetting what nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.adapters.stores.memory.tables import Tables

_MARK = b"sha256:"
_BLOBS = "sha256:"


class Upkeep:
    """The upkeep side of the store."""

    tables: Tables

    async def prune_tail(self, keep_ms: int, limit: int = 10_000) -> int:
        """Forget groups that every projection is past and that were the newest `keep_ms` ago; return how many."""
        tables, left = self.tables, limit
        for writer, groups in tables.groups.items():
            mark, at = tables.marks.get(writer, (0, 0))
            if at > tables.clock() - keep_ms:
                continue
            seen = min((cursors.get(writer, 0) for cursors in tables.cursors.values()), default=0)
            before = tables.pruned.get(writer, 0)
            old = min(mark, seen, tables.newest(writer) - 1) - before
            gone = max(0, min(old, left))
            del groups[:gone]
            tables.pruned[writer] = before + gone
            left -= gone
            if gone >= old:
                tables.marks[writer] = (tables.newest(writer), tables.clock())
        return limit - left

    async def prune_keys(self, before: int, limit: int = 10_000) -> int:
        """Forget idempotency keys used before a time; return how many."""
        old = [key for key, (*_, at) in self.tables.keys.items() if at < before][:limit]
        for key in old:
            del self.tables.keys[key]
        return len(old)

    async def references(self, after: str = "", limit: int = 200) -> tuple[list[bytes], str]:
        """Return texts that may name blobs and where to go on: what is under way, then journals, then values."""
        tables = self.tables
        if not after:
            moving = [held.row.body for held in tables.outbox.values()]
            moving += [task.body for task in tables.tasks.values()]
            moving += [row.body for box in tables.inbox.values() for row in box.values()]
            moving += [",".join(entry.names).encode() for entry, _ in tables.cache.values()]
            return [body for body in moving if _MARK in body], "-"
        if after.startswith(_BLOBS):
            naming = sorted(digest for digest, body in tables.blobs.items() if digest > after and _MARK in body)[:limit]
            return [tables.blobs[digest] for digest in naming], naming[-1] if len(naming) == limit else ""
        runs = sorted(run_id for run_id in tables.runs if run_id > after)[:limit]
        bodies = [record.body for run_id in runs for record in tables.records.get(run_id, ())]
        return [body for body in bodies if _MARK in body], runs[-1] if len(runs) == limit else _BLOBS

    async def list_blobs(self, after: str = "", limit: int = 10_000) -> list[str]:
        """Return digests greater than `after`, in order."""
        names = {*self.tables.blobs, *(name for _, name in self.tables.artifacts)}
        return sorted(name for name in names if name > after)[:limit]

    async def sweep_blobs(self, used: Sequence[str], unused: Sequence[str], before: int) -> int:
        """Note which blobs are used and which are not; delete those unused since before a time, return how many."""
        tables = self.tables
        for digest in used:
            tables.orphans.pop(digest, None)
        old = [digest for digest in unused if tables.orphans.get(digest, before) < before]
        for digest in old:
            del tables.blobs[digest], tables.orphans[digest]
        for digest in unused:
            if digest in tables.blobs:
                tables.orphans.setdefault(digest, tables.clock())
        return len(old) + self._sweep_artifacts(set(used), set(unused), before)

    def _sweep_artifacts(self, used: set[str], unused: set[str], before: int) -> int:
        tables, gone = self.tables, 0
        for key, row in list(tables.artifacts.items()):
            if key[1] in used:
                tables.unused_artifacts.pop(key, None)
            elif key[1] in unused and tables.unused_artifacts.get(key, before) < before:
                tables.places[row.place] = 0
                del tables.artifacts[key], tables.unused_artifacts[key]
                gone += 1
            elif key[1] in unused:
                tables.unused_artifacts.setdefault(key, tables.clock())
        return gone
