"""The harm: workers killed and stopped, the database restarted, at times a seed decides."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from tenuto.bundled.chaos.driver import Driver
from tenuto.bundled.chaos.fleet import Fleet, WorkerProcess
from tenuto.bundled.chaos.outside import ask

Restart = Callable[[], None]
_LOOK_S = 0.05
_LOCKED_S = 0.4


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much harm a run of this size has to meet to count."""

    kills: int
    stops: int
    restarts: int
    live: int
    zombies: int

    @classmethod
    def of(cls, runs: int, *, postgres: bool) -> Wanted:
        """Return the full measure from 500 runs on, and a share of it below."""
        if runs >= 500:
            return cls(20, 10, 3 if postgres else 0, 50, 5)
        share = runs / 500
        restarts = max(1, round(3 * share)) if postgres else 0
        return cls(max(2, round(20 * share)), max(1, round(10 * share)), restarts, max(3, runs // 3), 0)


@dataclass(slots=True)
class Harm:
    """What was done.

    Attributes:
        killed: Time of each kill by process id, ms.
        stopped: Spans in which a process stood still, ms.
        live: Live runs when each fault struck.
        down: Spans in which the database was restarted, ms.
        held: Stops that caught a process with SQLite's write lock in its hands; all but the first were cut short for it.
        blocked: The span of that first one, in which the store was as good as down, ms.
        died: Workers that died of a step.
    """

    killed: dict[int, int] = field(default_factory=dict[int, int])
    stopped: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    down: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    live: list[int] = field(default_factory=list[int])
    held: int = 0
    blocked: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    died: dict[int, int] = field(default_factory=dict[int, int])

    def timeline(self) -> list[str]:
        """Return what was done, in order, in seconds from the first of it."""
        told = [(at, f"process {pid} was killed") for pid, at in self.killed.items()]
        told += [(at, f"process {pid} died of a step") for pid, at in self.died.items()]
        told += [(at, f"process {pid} stood still for {end - at} ms") for pid, at, end in self.stopped]
        told += [(at, f"the database was down for {end - at} ms") for at, end in self.down]
        told.sort()
        return [f"{datetime.fromtimestamp(at / 1000, UTC):%H:%M:%S.%f} {what}" for at, what in told]


class Chaos:
    """Does harm until there was enough of it."""

    def __init__(self, fleet: Fleet, driver: Driver, wanted: Wanted, lease_s: float, seed: int,
                 restart: Restart | None, database: Path | None) -> None:
        """Prepare to harm a fleet.

        Args:
            restart: Restarts the database as a crash would.
            database: The SQLite file, whose lock a stopped process must not hold for long.
        """
        self.harm = Harm()
        self._fleet = fleet
        self._driver = driver
        self.wanted = wanted
        self._lease_s = lease_s
        self._random = Random(seed + 2)
        self._restart = restart
        self._database = database

    async def strike(self, until: float) -> None:
        """Do all the harm that is wanted, or as much as fits before a time."""
        kinds = ["kill"] * self.wanted.kills + ["restart"] * self.wanted.restarts
        self._random.shuffle(kinds)
        stops = asyncio.create_task(self._stops(until))
        try:
            for kind in kinds:
                if time.monotonic() > until:
                    break
                await asyncio.sleep(self._random.uniform(0.5, 2.0))
                await (self._kill(until) if kind == "kill" else self._crash(until))
            await stops
        finally:
            stops.cancel()

    async def tend(self) -> None:
        """Start a worker for each that is gone, until cancelled."""
        while True:
            for pid in self._fleet.replace_dead():
                self.harm.died[pid] = now_ms()
            await asyncio.sleep(_LOOK_S)

    async def _crowd(self, until: float) -> None:
        """Wait until enough runs are alive."""
        while len(self._driver.live) < self.wanted.live and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)

    async def _victim(self, until: float, busy: bool) -> WorkerProcess | None:
        """Return a worker that is up while another is, too, and enough runs live; with an effect under way if asked."""
        while time.monotonic() < until:
            ready = [process for process in self._fleet.slots if process.ready()]
            if len(ready) > 1:
                waiting: dict[str, Any] = (await ask(op="waiting"))["pids"] if busy else {}
                found = [process for process in ready if not busy or str(process.pid) in waiting]
                if found and len(self._driver.live) >= self.wanted.live:
                    return self._random.choice(found)
            await asyncio.sleep(_LOOK_S / 5)
        return None

    async def _kill(self, until: float) -> None:
        victim = await self._victim(until, self._random.random() < 0.7)
        while victim is not None and not victim.ready():
            victim = await self._victim(until, False)
        if victim is None:
            return
        self.harm.live.append(len(self._driver.live))
        self._fleet.deaths[victim.pid] = now_ms()
        self.harm.killed[victim.pid] = now_ms()
        victim.kill()

    async def _crash(self, until: float) -> None:
        assert self._restart is not None
        await self._crowd(until)
        self.harm.live.append(len(self._driver.live))
        began = now_ms()
        await asyncio.to_thread(self._restart)
        self.harm.down.append((began, now_ms()))

    async def _stops(self, until: float) -> None:
        while len(self.harm.stopped) < self.wanted.stops and time.monotonic() < until:
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
            victim = await self._victim(until, True)
            if victim is not None and victim.alive():
                await self._stop(victim)

    async def _stop(self, victim: WorkerProcess) -> None:
        """Let a process stand still for longer than its lease, with an effect under way."""
        victim.stopped = True
        victim.signal(signal.SIGSTOP)
        live = len(self._driver.live)
        try:
            began = now_ms()
            if str(victim.pid) not in (await ask(op="waiting"))["pids"]:
                return
            holds = self._database is not None and await asyncio.to_thread(_is_locked, self._database)
            if holds:
                self.harm.held += 1
                if self.harm.held != 1:  # once it may stay: the store is down for as long
                    return
            await asyncio.sleep(self._lease_s * self._random.uniform(1.6, 2.2) + 0.5)
            self.harm.live.append(live)
            self.harm.stopped.append((victim.pid, began, now_ms()))
            if holds:
                self.harm.blocked.append((began, now_ms()))
        finally:
            victim.signal(signal.SIGCONT)
            victim.stopped = False


def _is_locked(path: Path) -> bool:
    """Return whether somebody holds SQLite's write lock for longer than a transaction takes."""
    db = sqlite3.connect(path, timeout=_LOCKED_S, isolation_level=None)
    try:
        db.execute("begin immediate")
        db.execute("rollback")
    except sqlite3.OperationalError:
        return True
    finally:
        db.close()
    return False


def now_ms() -> int:
    """Return the machine's time, which the store's clock follows."""
    return time.time_ns() // 1_000_000
