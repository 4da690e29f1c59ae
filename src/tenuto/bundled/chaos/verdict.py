"""The comparison of what was promised, what was done outside, and what the journals say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tenuto.bundled.chaos.faults import Harm
from tenuto.bundled.chaos.journals import Journals, sequence_of
from tenuto.bundled.chaos.ledger import Entry
from tenuto.bundled.chaos.report import Effects, Takeovers
from tenuto.bundled.chaos.shapes import Planned
from tenuto.domain.runs.state import ENDED
from tenuto.runtime.services.engine import Engine

MARGIN_MS = 1000
LISTED = 10


async def outcomes(engine: Engine, planned: Iterable[Planned], journals: Journals) -> list[str]:
    """Return what is wrong with the ends of the runs: all terminal, all right, none forgotten."""
    problems: list[str] = []
    for one in planned:
        if not one.run:
            continue
        what = f"run {one.run} ({one.name})"
        row = journals.rows.get(one.run)
        if row is None:
            problems.append(f"{what} was acknowledged and is gone")
            continue
        if row.status not in ENDED:
            problems.append(f"{what} has not ended: {(await engine.runs.why(one.run)).summary}")
            continue
        view = await engine.runs.get(one.run)
        wrong = one.verdict(view.status, view.output)
        if wrong:
            said = f": {view.error.message}" if view.error is not None else ""
            problems.append(f"{what} {wrong}{said}")
        if one.seen and one.seen[-1] != view.status:
            problems.append(f"{what} was shown as {one.seen[-1]} and is {view.status}")
    for row in journals.rows.values():
        if row.parent is not None and row.status not in ENDED:
            problems.append(f"sub-flow run {row.id} ({row.workflow}) has not ended: it is {row.status}")
    return problems


def effects(entries: Sequence[Entry], journals: Journals) -> tuple[Effects, list[str]]:
    """Return how effects and calls fared, and every one that was made once too often."""
    found = Effects()
    problems: list[str] = []
    by_key: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        by_key[entry.what, entry.key].append(entry)
    for (what, _key), group in by_key.items():
        found.entries[what] = found.entries.get(what, 0) + len(group)
        if what == "effect":
            problems += _effect(found, group, journals)
        if what in ("effect", "call"):
            problems += _call(found, group, journals)
        elif group[0].attempt:
            problems += _step(group, journals)
    seen = {entry.key for entry in entries}
    for run, step, call in journals.results:
        if call.startswith("pay_") and f"{run}/{step}/{call}" not in seen:
            problems.append(f"run {run}, step {step}: call {call} is finished, and the ledger never saw it")
    return found, problems


def _effect(found: Effects, group: list[Entry], journals: Journals) -> list[str]:
    found.keys += 1
    if len(group) == 1:
        return []
    first = group[0]
    if (first.run, first.step, first.call) in journals.flagged:
        found.repeated_flagged += 1
        return []
    found.repeated += 1
    tries = ", ".join(f"attempt {entry.attempt or '?'} by {entry.pid}" for entry in group)
    return [f"run {first.run}, step {first.step}: effect {first.key} was made {len(group)} times ({tries})"]


def _call(found: Effects, group: list[Entry], journals: Journals) -> list[str]:
    """A recorded call is never made again by an attempt that could know of the record."""
    first = group[0]
    out = journals.results.get((first.run, first.step, first.call))
    kept = sequence_of(out) if out is not None else None
    if kept is None:
        return []
    found.calls += 1
    accepted = next((entry for entry in group if entry.seq == kept), None)
    if accepted is None:
        return [f"run {first.run}, step {first.step}: call {first.call} returned {kept}, not a position of its own"]
    again = [entry for entry in group if entry.seq > kept and entry.attempt >= accepted.attempt]
    found.zombie_calls += sum(entry.seq > kept and entry.attempt < accepted.attempt for entry in group)
    if not again:
        return []
    return [f"run {first.run}, step {first.step}: the finished call {first.call} was repeated {len(again)} times"]


def _step(group: list[Entry], journals: Journals) -> list[str]:
    first = group[0]
    n = journals.completed.get((first.run, first.step))
    last = max(entry.attempt for entry in group)
    if n is None or last <= n:
        return []
    return [f"run {first.run}, step {first.step}: attempt {last} was made after attempt {n} had completed it"]


def takeovers(journals: Journals, harm: Harm, lease_ms: int) -> Takeovers:
    """Return how long runs of killed and stopped workers waited for a new owner."""
    began = {**harm.died, **harm.killed}
    away = [*harm.down, *harm.blocked]  # nobody can take over while the store is down or its write lock stands still
    took: list[int] = []
    late: list[str] = []
    by_cause: Counter[str] = Counter()
    for one in journals.takeovers:
        causes = [(start, "stopped") for pid, start, end in harm.stopped if pid == one.pid and one.t <= end + lease_ms]
        causes += [(began[one.pid], "killed")] if one.pid in began else []
        since, cause = max(((start, cause) for start, cause in causes if start <= one.t), default=(0, "other"))
        by_cause[cause] += 1
        if not since or any(start - lease_ms <= one.t and since <= end + lease_ms for start, end in away):
            continue
        took.append(one.t - since)
        if took[-1] > lease_ms + MARGIN_MS:
            late.append(f"run {one.run}: {took[-1]} ms after process {one.pid} was {cause}")
    took.sort()
    return Takeovers(
        runs=len(journals.takeovers), by_cause=dict(by_cause), measured=len(took), late=len(late),
        bound_ms=lease_ms + MARGIN_MS, p50_ms=_at(took, 0.5), p99_ms=_at(took, 0.99), max_ms=_at(took, 1),
        latest=late[:LISTED],
    )


def _at(values: list[int], share: float) -> int:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0
