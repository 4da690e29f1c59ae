"""The story of the demo: a run starts, loses its worker, is taken over, and is replayed from the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tenuto.bundled import examples_ledger as ledger
from tenuto.bundled.demo_compare import rows_of
from tenuto.bundled.demo_journal import Count, Reading, count
from tenuto.bundled.demo_screen import Screen
from tenuto.bundled.demo_worker import DemoFailed, WorkerProcess
from tenuto.bundled.examples_documents import library
from tenuto.bundled.examples_review import LIMIT_EUR
from tenuto.domain.runs import events as ev
from tenuto.runtime.services.requests import Edits, Replay, StartRun
from tenuto.wiring import Runtime

LEASE_S = 2.0
KILL_AFTER_STEPS = 20
FORK_NODE = "weigh"
FORK_LIMIT_EUR = 1_000_000
_PATIENCE_S = 45.0
_POLL_S = 0.1
_AROUND = 9  # steps of the review beside those of its documents
_PER_DOCUMENT = 4


@dataclass(slots=True)
class Story:
    """One telling; parts are told in order, each on what the part before left.

    Attributes:
        workers: Closes every worker process, whatever happens.
        failed: How many promises did not hold.
    """

    runtime: Runtime
    screen: Screen
    home: Path
    url: str
    workers: ExitStack
    run_id: str = ""
    fork_id: str = ""
    failed: int = 0
    n_workers: int = 0
    worker: WorkerProcess | None = None
    _finished: set[str] = field(default_factory=set[str])
    _flying: set[str] = field(default_factory=set[str])
    _killed_at: float = 0.0
    _lines: int = 0

    async def tell(self) -> None:
        """Tell the whole story.

        Raises:
            DemoFailed: It came to a halt.
        """
        await self._start()
        reading = await self._kill()
        await self._take_over(reading)
        await self._prove(reading)
        await self._fork()
        await self._compare()

    # --- 1 ----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        names = list(library())
        self.screen.chapter(1, "A run starts")
        await self._new_worker()
        request = StartRun(
            workflow="review", input={"documents": names, "limit_eur": LIMIT_EUR}, labels={"demo": "original"},
            goal=f"Review {len(names)} documents", by="demo",
        )
        self.run_id = (await self.runtime.engine.runs.submit(request)).id
        self.screen.say(f"run {self.run_id}")
        self.screen.say(f"three agents read, judge and file {len(names)} documents; a panel of three then decides")

    async def _new_worker(self) -> None:
        self.n_workers += 1
        worker = WorkerProcess(self.n_workers, self.url, self.home, LEASE_S)
        self.worker = self.workers.enter_context(worker)

        async def is_up() -> bool:
            return any(row.pid == worker.pid for row in await self.runtime.store.workers())

        await self._until(is_up, f"worker process {worker.pid} did not announce itself")
        self.screen.say(f"worker process {worker.pid} is up")

    # --- 2 ----------------------------------------------------------------------------------------------------

    async def _kill(self) -> Reading:
        worker = self._its_worker()
        reading = Reading(self.run_id)
        async for _ in self._watch(reading):
            if reading.steps >= KILL_AFTER_STEPS and reading.in_flight():
                break
        self.screen.chapter(2, "Its worker is killed")
        how = worker.kill()
        self._killed_at = time.monotonic()
        await reading.catch_up(self.runtime.store)
        if reading.end is not None:
            raise DemoFailed(f"the run ended before its worker could be killed: {reading.how_ended()}")
        self._finished, self._flying = set(reading.done), reading.in_flight()
        self._lines = len(ledger.read(self._ledger()))
        self.screen.say(f"kill -9 {worker.pid}   →   {how}, no goodbye, in the middle of {len(self._flying)} calls")
        self.screen.say(f"the journal holds {reading.seq} records: {len(self._finished)} calls are finished")
        return reading

    def _its_worker(self) -> WorkerProcess:
        if self.worker is None:
            raise DemoFailed("no worker was started")
        return self.worker

    # --- 3 ----------------------------------------------------------------------------------------------------

    async def _take_over(self, reading: Reading) -> None:
        self.screen.chapter(3, "Another worker takes over")
        await self._new_worker()
        told = False
        async for _ in self._watch(reading):
            if reading.taken and not told:
                told = True
                self._tell_takeover(reading)
        if not isinstance(reading.end, ev.RunCompleted):
            raise DemoFailed(f"the run did not complete: {reading.how_ended()}")
        view = await self.runtime.engine.runs.get(self.run_id)
        self.screen.good(f"completed: {_summary(view.output)}")

    def _tell_takeover(self, reading: Reading) -> None:
        taken = reading.taken[-1]
        waited = time.monotonic() - self._killed_at
        self.screen.say(f"after {waited:.1f} s: LeaseTaken, from {taken.from_} by {taken.by}")
        self.screen.say("the run goes on where the journal ends")

    # --- 4 ----------------------------------------------------------------------------------------------------

    async def _prove(self, reading: Reading) -> None:
        self.screen.chapter(4, "Was anything done twice?")
        entries = ledger.read(self._ledger())
        seen = count(entries, self.run_id)
        later = {str(entry["key"]) for entry in entries[self._lines :]}
        repeated = later & self._finished
        self._hold(not repeated, f"{len(self._finished)} calls were finished before the kill: {len(repeated)} repeated")
        stray = seen.again - self._flying
        asked = f"{len(self._flying)} were in flight: {len(seen.again)} model requests asked again, under the same key"
        self._hold(not stray, asked)
        self._hold(self._complete(seen), f"the world saw {_effects(seen)}, each exactly once")
        trail = await self.runtime.engine.audit.trail(self.run_id)
        checked = f"audit: {trail.records} records, chain and invariants {'hold' if trail.verified else 'are broken'}"
        self._hold(trail.verified and bool(reading.taken), checked)
        if self.failed:
            raise DemoFailed(f"{self.failed} promises did not hold; the files are in {self.home}")

    def _complete(self, seen: Count) -> bool:
        return not seen.doubled and seen.effects == {"finding": len(library()), "summary": 1}

    def _hold(self, holds: bool, text: str) -> None:
        if holds:
            self.screen.good(text)
        else:
            self.failed += 1
            self.screen.bad(text)

    # --- 5, 6 -------------------------------------------------------------------------------------------------

    async def _fork(self) -> None:
        self.screen.chapter(5, "What if? A fork from the middle")
        self.screen.say(f"the limit was EUR {LIMIT_EUR:,}; from the node {FORK_NODE!r} on, let it be {FORK_LIMIT_EUR:,}")
        changed = {"findings": "${nodes.documents.output}", "limit_eur": FORK_LIMIT_EUR}
        request = Replay(
            from_node=FORK_NODE, edits=Edits(nodes={FORK_NODE: {"input": changed}}), labels={"demo": "fork"}, by="demo"
        )
        self.fork_id = (await self.runtime.engine.runs.replay(self.run_id, request)).id
        self.screen.say(f"run {self.fork_id}")
        reading = Reading(self.fork_id)
        async for _ in self._watch(reading, total=_AROUND):
            pass
        if not isinstance(reading.end, ev.RunCompleted):
            raise DemoFailed(f"the fork did not complete: {reading.how_ended()}")
        seen = count(ledger.read(self._ledger()), self.fork_id)
        self._hold(
            reading.reused > 0 and "finding" not in seen.effects,
            f"what came before was taken over, {len(library())} documents read and filed: none of it was done again",
        )
        self.screen.good(f"new were {seen.requests} model requests and {_effects(seen)}, under keys of the fork's own")

    async def _compare(self) -> None:
        self.screen.chapter(6, "The two runs side by side")
        found = await self.runtime.engine.runs.diff(self.run_id, self.fork_id)
        if found.same:
            raise DemoFailed("the fork does not differ from its origin")
        self.screen.facts(rows_of(found))

    # --- waiting ----------------------------------------------------------------------------------------------

    async def _watch(self, reading: Reading, *, total: int = 0) -> AsyncIterator[Reading]:
        """Yield whenever records were committed, until the run ends."""
        wanted = total or _AROUND + _PER_DOCUMENT * len(library())
        deadline = time.monotonic() + _PATIENCE_S
        while reading.end is None:
            self._its_worker().check()
            if await reading.catch_up(self.runtime.store):
                deadline = time.monotonic() + _PATIENCE_S
                self.screen.progress(reading.steps + reading.reused, wanted, "steps")
                yield reading
            elif time.monotonic() > deadline:
                raise DemoFailed(f"run {reading.run_id} has not moved for {_PATIENCE_S:g} s; see {self.home}")
            else:
                await asyncio.sleep(_POLL_S)

    async def _until(self, holds: Callable[[], Any], otherwise: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not await holds():
            self._its_worker().check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{otherwise} within {_PATIENCE_S:g} s")
            await asyncio.sleep(_POLL_S)

    def _ledger(self) -> Path:
        return self.home / ledger.FILE_NAME


def _summary(output: Any) -> str:
    """Return the sentence the review ended with, wherever it stands in the output."""
    if isinstance(output, dict):
        values = cast("dict[str, Any]", output).values()
        return next((found for value in values if (found := _summary(value))), "")
    return output if isinstance(output, str) else ""


def _effects(seen: Count) -> str:
    plural = {"finding": "findings", "summary": "summaries"}
    parts = [f"{n} {kind if n == 1 else plural.get(kind, kind)}" for kind, n in sorted(seen.effects.items())]
    return " and ".join(parts) or "no effect"
