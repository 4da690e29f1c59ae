"""The audit log: every transition with its proof, verification, and an export that can be checked offline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from tenuto.domain.runs.check import Checker, Violation
from tenuto.domain.runs.history import digest_of_history
from tenuto.domain.runs.public import TABLE, event_id, parse_id, public_event
from tenuto.domain.runs.sensitive import Hidden, marks_of
from tenuto.domain.runs.views import instant
from tenuto.domain.runs.wire import ZERO, Record, decode, link
from tenuto.errors import Corrupt, Gone, Invalid
from tenuto.ports.store import RunFilter
from tenuto.runtime.services.context import READ_AT_ONCE, Context
from tenuto.runtime.services.hiding import hidden_of
from tenuto.runtime.services.results import AuditEntry, AuditTrail, Verification

VIOLATIONS_SHOWN = 1000


class Line(msgspec.Struct, frozen=True):
    """One record of an export: everything its chain is made of, the body exactly as stored."""

    run: str
    seq: int
    epoch: int
    chain: str
    body: str


class Audit:
    """Every use case of the audit log, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def trail(self, run_id: str, *, after: str = "", limit: int = 1000) -> AuditTrail:
        """Return a run's transitions, claims and takeovers included, with the verdict on its chain.

        Raises:
            RunMissing: There is no such run.
        """
        checker, records = await self._check(run_id)
        trail = AuditTrail(
            run=run_id, verified=not checker.found, head=records[-1].chain.hex() if records else "",
            records=len(records), problem=checker.found[0].message if checker.found else "",
        )
        seq, index = parse_id(after)
        worker, hidden = "", await self._hidden(run_id)
        for item in records:
            try:
                entries = _entries(run_id, item, worker, hidden)
            except Corrupt as exc:
                trail.problem = trail.problem or str(exc)
                continue
            worker = entries[-1].worker if entries else worker
            for place, entry in enumerate(entries):
                if (item.seq, place) <= (seq, index):
                    continue
                if len(trail.entries) == limit:
                    trail.next = trail.entries[-1].id
                    return trail
                trail.entries.append(entry)
        return trail

    async def verify(self, run_id: str | None = None, *, heads: dict[str, str] | None = None) -> Verification:
        """Check chain and invariants of one run, or of all.

        Args:
            heads: Run -> chain (hex) kept elsewhere, that the journals must contain.
        """
        found = Verification(runs=0, records=0, ok=True)
        async for name in self._runs(run_id):
            found.runs += 1
            try:
                checker, records = await self._check(name)
            except (Corrupt, Gone) as exc:
                found.violations.append(Violation(name, int(exc.details.get("seq", 0)), exc.reason, exc.message))
                continue
            found.records += len(records)
            found.violations.extend(checker.found)
            kept = (heads or {}).get(name)
            if kept is not None and all(item.chain.hex() != kept for item in records):
                found.violations.append(Violation(name, 0, "head", f"no record has the chain {kept} kept elsewhere"))
            if records:
                found.heads[name] = {"seq": records[-1].seq, "chain": records[-1].chain.hex()}
        for name in (heads or {}).keys() - found.heads.keys():
            if run_id is None or run_id == name:
                found.violations.append(Violation(name, 0, "head", "the run is gone"))
        found.ok = not found.violations
        found.violations = found.violations[:VIOLATIONS_SHOWN]
        return found

    async def export(self, run_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield JSON lines, one per record, that `verify_export` checks without a store."""
        async for name in self._runs(run_id):
            after = 0
            while part := await self._c.store.records(name, after, READ_AT_ONCE):
                for item in part:
                    line = Line(name, item.seq, item.epoch, item.chain.hex(), item.body.decode("utf-8", "replace"))
                    yield msgspec.json.encode(line) + b"\n"
                after = part[-1].seq

    async def _hidden(self, run_id: str) -> Hidden | None:
        plan = await self._c.definitions.plan(self._c.ns, (await self._c.row(run_id)).digest)
        try:
            return await hidden_of(self._c, run_id, plan)
        except Corrupt:  # the trail says so; what is at marked places is hidden all the same
            return Hidden(marks_of(plan))

    async def _runs(self, run_id: str | None) -> AsyncIterator[str]:
        if run_id is not None:
            yield (await self._c.row(run_id)).id
            return
        after = ""
        while rows := await self._c.store.list_runs(RunFilter(ns=self._c.ns), after=after, limit=500):
            for row in rows:
                yield row.id
            after = rows[-1].cursor

    async def _check(self, run_id: str) -> tuple[Checker, list[Record]]:
        row = await self._c.row(run_id)
        begin = await self._c.store.records(run_id, 0, 1)
        first = await self._c.definitions.plan(self._c.ns, digest_of_history(None, begin) if begin else row.digest)
        checker = Checker(run_id, lambda _: first)
        records: list[Record] = []
        stored = await self._c.store.load([run_id])
        snapshots = {item.snapshot_seq: item.snapshot for item in stored if item.snapshot is not None}
        while part := await self._c.store.records(run_id, records[-1].seq if records else 0, READ_AT_ONCE):
            for item in part:
                checker.add(item)
                if item.seq in snapshots:
                    checker.snapshot(item.seq, snapshots.pop(item.seq))
            records.extend(part)
        checker.finish(snapshots, ())
        return checker, records


def _entries(run_id: str, item: Record, worker: str, hidden: Hidden | None) -> list[AuditEntry]:
    """Return the transitions of a record; each names the worker that owned the run when it was written."""
    body = decode(item)
    at = instant(body.t)
    found: list[AuditEntry] = []
    for index, event in enumerate(body.ev):
        shown = public_event(run_id, item.seq, index, event, at, hidden=hidden)
        data: dict[str, Any] = shown.data
        if TABLE[type(event)].name in ("run.claimed", "run.lease_taken"):
            worker = str(data.get("worker", worker))
        found.append(AuditEntry(
            id=event_id(item.seq, index), seq=item.seq, epoch=item.epoch, type=shown.type, at=at, step=shown.step,
            by=str(getattr(event, "by", "") or ""), worker=str(data.get("worker") or worker), data=data, chain=item.chain.hex(),
        ))
    return found


def verify_export(lines: Iterable[bytes | str]) -> Verification:
    """Check the chains of an export without a store; equal heads mean equal histories.

    Raises:
        Invalid: A line is not one of an export.
    """
    found = Verification(runs=0, records=0, ok=True)
    heads: dict[str, tuple[int, bytes]] = {}
    decoder = msgspec.json.Decoder(Line)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
            chain = bytes.fromhex(line.chain)
        except (msgspec.DecodeError, ValueError) as exc:
            raise Invalid(f"line {number} is not a line of an audit export: {exc}", code="audit.line") from exc
        seq, previous = heads.get(line.run, (0, ZERO))
        if line.seq != seq + 1:
            message = f"record {seq + 1} is missing; found {line.seq}"
            found.violations.append(Violation(line.run, line.seq, "I1.dense", message))
        if link(previous, line.run, line.seq, line.epoch, line.body.encode()) != chain:
            found.violations.append(Violation(line.run, line.seq, "I1.chain", "the record was altered, or one before it"))
        heads[line.run] = (line.seq, chain)
        found.records += 1
    found.runs = len(heads)
    found.heads = {run: {"seq": seq, "chain": chain.hex()} for run, (seq, chain) in heads.items()}
    found.ok = not found.violations
    return found
