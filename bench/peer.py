"""What a peer must be able to do to take part. The harness owns the clocks; a peer owns only its engine.

Every step returns a tiny dict, and its result is durable before the next step of the same run starts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import measure
from bench.measure import StepClock
from bench.postgres import Server

Store = Literal["pg", "sqlite", "own"]


class Unsupported(Exception):
    """The peer has no such feature; the row says so instead of a figure."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where one measured run happens: a store of its own, made empty by the orchestrator.

    `place` is the path of the SQLite file, or the directory of a peer that keeps its own log.
    """

    peer: str
    work: str
    n: int
    store: Store
    place: Path
    server: Server | None
    database: str = "bench"

    @property
    def url(self) -> str:
        """The Postgres URL of the stage.

        Raises:
            Unsupported: The stage has no Postgres.
        """
        if self.server is None:
            raise Unsupported(f"{self.peer} asked for a Postgres URL on store {self.store!r}")
        return self.server.url(self.database)

    def stored_bytes(self) -> int:
        """Bytes at rest, indexes included."""
        if self.store == "pg":
            assert self.server is not None
            return self.server.database_bytes(self.database)
        if self.store == "sqlite":
            return measure.sqlite_bytes(self.place)
        return measure.directory_bytes(self.place)

    def vacuum(self) -> bool:
        """Free the space of dead rows for new ones, as autovacuum does each minute; return whether the store has any."""
        if self.store != "pg" or self.server is None:
            return False
        self.server.query("VACUUM", self.database)
        return True

    def commits(self) -> int | None:
        """Transactions so far, where the store counts them."""
        return self.server.commits(self.database) if self.store == "pg" and self.server else None


class Peer:
    """Base of every peer: each work it does not override is reported as unsupported."""

    uses_uvloop = False
    warm_up_chains = 5

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.settings: dict[str, Any] = {}

    async def open(self) -> None:
        """Make the engine ready; it may run work at once, except for W6, where nothing may claim yet."""

    async def close(self) -> None:
        """Stop what the peer started. The process is ended afterwards in any case."""

    def clock(self, every: int = 0) -> StepClock:
        return StepClock(every, self.server_pids())

    def server_pids(self) -> Sequence[int]:
        """Roots of the process trees whose CPU is the server's."""
        return (self.stage.server.pid,) if self.stage.store == "pg" and self.stage.server else ()

    def worker_pids(self) -> Sequence[int]:
        """Processes whose CPU and memory count as the client's, beside this one."""
        return ()

    def memory_mb(self) -> float:
        return sum(map(measure.rss_mb, self.worker_pids() or (os.getpid(),)))

    def server_memory_mb(self) -> float:
        """Memory of the peer's own server; 0 where the server is the database."""
        return 0.0

    async def chains(self, n: int) -> None:
        """Complete n runs of 3 sequential steps, as many at a time as suits the peer."""
        raise Unsupported("no runs of sequential steps")

    async def chain(self, steps: int) -> StepClock:
        """Complete one run of sequential steps, alone, and return when each was entered."""
        raise Unsupported("no single run")

    async def fan(self, width: int) -> None:
        """Complete one run of `width` parallel steps and a join that sees every result."""
        raise Unsupported("no fan-out with a join")

    async def grow(self, steps: int, sample_every: int) -> StepClock:
        """Complete one run of sequential steps that carry a small dict along."""
        raise Unsupported("no long run")

    async def park(self, n: int) -> None:
        """Start n runs that wait for an event that does not come; return when all of them wait."""
        raise Unsupported("no parked runs")

    async def enqueue(self, n: int) -> None:
        """Leave n runs of 3 steps in the store while nothing claims."""
        raise Unsupported("no backlog")

    async def drain(self, n: int) -> None:
        """Start claiming, and return when the n runs left by `enqueue` are complete."""
        raise Unsupported("no backlog")

    async def over_http(self, n: int) -> dict[str, float]:
        """Complete n runs of 3 steps that are started over HTTP; return figures beside the wall time."""
        raise Unsupported("no HTTP API")


async def drive(n: int, at_a_time: int, start: Callable[[int], Awaitable[Any]]) -> None:
    """Run start(i) for every i below n, at most `at_a_time` of them at once."""
    numbers = iter(range(n))

    async def lane() -> None:
        for i in numbers:
            await start(i)

    await asyncio.gather(*(lane() for _ in range(min(at_a_time, n))))


STATE: dict[str, Any] = {"n": 0, "who": "agent", "tags": ["a", "b"], "note": "x" * 40}
