"""A store seen through a bad network: slow, out of reach, answering late or never, killing whoever asks.

Each simulated process has its own `FaultyStore` on the shared data. A request travels, is carried out at once at the
far end, and its answer travels back; the far end belongs to no process, so what a dead worker sent may still arrive.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from random import Random
from typing import Any, cast

import msgspec

from tenuto.ports.store import Claim, Commit, Committed, Once, OutboxRow, Store

NEVER = float("inf")
POINTS = (
    "commit.crash_before", "commit.crash_after", "commit.late", "commit.late_answer", "commit.twice", "commit.freeze",
    "heartbeat.lost", "steal.crash", "steal.partial", "claim.crash", "send.twice", "send.late", "outbox.crash", "delivered.crash",
    "effect.crash_before", "effect.crash_after", "effect.freeze",
)
"""Faults that happen when somebody passes a point."""

MOMENTS = ("crash", "freeze", "outage", "slow", "clock", "revoke", "shutdown")
"""Faults that happen at a time."""


class Fault(msgspec.Struct, frozen=True):
    """One planned fault.

    Attributes:
        name: One of `POINTS` (the first passage after `at`) or `MOMENTS` (at `at`).
        size: Seconds it lasts, where it lasts.
    """

    name: str
    at: float
    size: float


class Faults:
    """Which faults are still to come, which happened, and what the network is like just now.

    Attributes:
        kill: Ends a process at once. freeze: Stops one for some seconds. Set by the simulation.
        happened: Times each fault fired.
        seen: Times something worth knowing was observed, such as a refused commit.
    """

    def __init__(self, random: Random, plan: Sequence[Fault] = (), *, lease_s: float = 10.0) -> None:
        """Follow a plan; times are the running loop's."""
        self.random = random
        self.lease_s = lease_s
        self._armed: dict[str, list[Fault]] = {}
        for fault in sorted(plan, key=lambda fault: fault.at):
            if fault.name in POINTS:
                self._armed.setdefault(fault.name, []).append(fault)
        self.kill: Callable[[str], None] = lambda _: None
        self.freeze: Callable[[str, float], None] = lambda _node, _seconds: None
        self.out_until = 0.0
        self.slow_until = 0.0
        self.happened: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def meets(self, point: str, now: float) -> Fault | None:
        """Return the fault that fires here and now, if one does."""
        armed = self._armed.get(point)
        if not armed or armed[0].at > now:
            return None
        self.happened[point] += 1
        return armed.pop(0)

    def travel(self, now: float) -> float:
        """Return how long a message takes: short, long while the network is slow, past the end of an outage."""
        random = self.random
        delay = 0.0005 + random.random() * 0.004
        if now < self.slow_until:
            delay += random.random() * 0.6
        if now < self.out_until:
            delay += self.out_until - now
        return delay


class FaultyStore:
    """A `Store` for one process. `inner` must answer without waiting, as the memory store does."""

    def __init__(
        self, inner: Store, faults: Faults, node: str = "", *, watch: Callable[[str, str, Any, Any], None] | None = None
    ) -> None:
        """Reach `inner` as `node`. `watch` is told `(node, operation, arguments, answer)` of everything carried out."""
        self._inner, self._faults, self._node = inner, faults, node
        self._watch = watch
        self.url = inner.url

    def as_store(self) -> Store:
        """Return this as a `Store`; every method of the port is there."""
        return cast("Store", self)

    def __getattr__(self, name: str) -> Any:
        """Return an operation of the port, reached through the network."""
        target = getattr(self._inner, name)

        async def ask(*args: Any, **kwargs: Any) -> Any:
            return await self._ask(name, target, args, kwargs)

        ask.__name__ = name
        self.__dict__[name] = ask
        return ask

    # --- what is not a plain question -------------------------------------------------------------------------

    def health(self) -> str:
        """Return what is wrong, for a person."""
        return "unreachable" if asyncio.get_running_loop().time() < self._faults.out_until else ""

    async def open(self, *, migrate: bool = True) -> None:
        """Do nothing: the data is there."""

    async def close(self) -> None:
        """Do nothing: the data stays."""

    async def wait_hint(self, timeout_s: float) -> None:
        """Return early now and then, as hints that may get lost do."""
        share = self._faults.random.random()
        await asyncio.sleep(timeout_s if share > 0.5 else timeout_s * share * 0.6 + 0.005)

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Commit a group, with everything that may happen on the way there and back."""
        faults, node = self._faults, self._node
        now = asyncio.get_running_loop().time()
        if node:
            if faults.meets("commit.crash_before", now):
                return await self._die()
            fault = faults.meets("commit.late", now)
            there = (faults.lease_s + fault.size) if fault is not None else 0.0
            back = 0.0
            if fault is None and (late := faults.meets("commit.late_answer", now)) is not None:
                back = late.size
            dies = faults.meets("commit.crash_after", now) is not None
            frozen = faults.meets("commit.freeze", now)
            if frozen is not None:
                faults.freeze(node, frozen.size)
            twice = faults.meets("commit.twice", now) is not None
            answer = await self._ask("commit", self._inner.commit, (batch,), {}, there=there, back=back, dies=dies)
            if twice:
                await self._ask("again", self._inner.commit, (batch,), {})
        else:
            answer = await self._ask("commit", self._inner.commit, (batch,), {})
        fenced = sum(1 for result in answer if result.outcome == "fenced")
        if fenced:
            faults.seen["commit.fenced"] += fenced
            if fenced < len(answer):
                faults.seen["commit.partly_fenced"] += 1
        return answer

    async def heartbeat(self, worker: str, lease_ms: int) -> int | None:
        """Extend the lease, unless the message gets stuck until long after."""
        fault = self._faults.meets("heartbeat.lost", asyncio.get_running_loop().time())
        there = self._faults.lease_s * 0.8 + fault.size if fault is not None else 0.0
        return await self._ask("heartbeat", self._inner.heartbeat, (worker, lease_ms), {}, there=there)

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take over runs, perhaps few of them, perhaps to die right after."""
        now = asyncio.get_running_loop().time()
        if self._faults.meets("steal.partial", now):
            limit = 1
        dies = self._faults.meets("steal.crash", now) is not None
        claims = await self._ask("steal", self._inner.steal, (worker, limit), {}, dies=dies)
        self._faults.seen["steal.runs"] += len(claims)
        return claims

    async def claim(self, worker: str, limit: int, exclude: Sequence[str] = ()) -> list[Claim]:
        """Claim runs, perhaps to die right after."""
        dies = self._faults.meets("claim.crash", asyncio.get_running_loop().time()) is not None
        return await self._ask("claim", self._inner.claim, (worker, min(limit, 6), exclude), {}, dies=dies)

    async def send(
        self, run_id: str, key: str, body: bytes, *, reopens: bool = False, once: Once | None = None
    ) -> Any:
        """Send a message once or twice, soon or late."""
        now = asyncio.get_running_loop().time()
        late = self._faults.meets("send.late", now)
        twice = self._faults.meets("send.twice", now) is not None
        there = late.size if late is not None else 0.0
        more = {"reopens": reopens, "once": once}
        answer = await self._ask("send", self._inner.send, (run_id, key, body), more, there=there)
        if twice:
            again = await self._ask("send", self._inner.send, (run_id, key, body), more)
            return answer if again == "terminal" else again
        return answer

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Take messages to deliver, perhaps to die with them."""
        rows = await self._ask("outbox", self._inner.outbox, (limit,), {})
        if rows and self._node and self._faults.meets("outbox.crash", asyncio.get_running_loop().time()):
            return await self._die()
        return rows

    async def delivered(self, ids: Sequence[int]) -> None:
        """Forget delivered messages, unless the process dies before it can."""
        fault = self._faults.meets("delivered.crash", asyncio.get_running_loop().time()) if self._node else None
        if fault is not None and fault.size < 4:
            return await self._die()
        await self._ask("delivered", self._inner.delivered, (ids,), {}, dies=fault is not None)

    # --- the network ------------------------------------------------------------------------------------------

    async def _die(self) -> Any:
        self._faults.kill(self._node)
        return await asyncio.get_running_loop().create_future()

    async def _ask(
        self, name: str, target: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...],
        kwargs: dict[str, Any], *, there: float = 0.0, back: float = 0.0, dies: bool = False,
    ) -> Any:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        faults = self._faults
        far = Context()

        def arrive() -> None:
            if loop.time() < faults.out_until:
                loop.call_later(faults.out_until - loop.time() + 0.01, arrive, context=far)
                return
            try:
                result = _at_once(target(*args, **kwargs))
            except Exception as exc:
                loop.call_later(faults.travel(loop.time()), _fail, answer, exc, context=far)
                return
            if self._watch is not None:
                self._watch(self._node, name, args, result)
            if dies:
                faults.kill(self._node)
            loop.call_later(faults.travel(loop.time()) + back, _resolve, answer, result, context=far)

        loop.call_later(faults.travel(loop.time()) + there, arrive, context=far)
        return await answer


def _resolve(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], exc: Exception) -> None:
    if not answer.done():
        answer.set_exception(exc)


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Carry out an operation that does not wait for anything."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise RuntimeError("FaultyStore needs a store that answers at once; use MemoryStore")
