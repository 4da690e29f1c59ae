"""What a simulated engine acts upon: effects outside it, promises made to clients, and the dice."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from random import Random

from tenuto.testing.faulty import Faults
from tenuto.testing.loop import NODE


class World:
    """Everything outside the engine in one simulated history.

    Attributes:
        effects: When each idempotency key was applied, by whom: `(seconds, node)`.
        executed: How often the code of a step began, by `(run, step)`.
        fixed: Runs whose broken parts were repaired by a person.
        created: Runs whose creation was acknowledged to a client.
        promised: Keys of messages whose acceptance was acknowledged, by run.
        told: Final status a client was told, by run.
        billed: What purchases have cost by now.
    """

    def __init__(self, random: Random, faults: Faults) -> None:
        """Begin with nothing done and nothing promised."""
        self.random, self.faults = random, faults
        self.effects: dict[str, list[tuple[float, str]]] = {}
        self.executed: Counter[tuple[str, str]] = Counter()
        self.fixed: set[str] = set()
        self.created: set[str] = set()
        self.promised: dict[str, list[str]] = {}
        self.told: dict[str, str] = {}
        self.billed = 0

    async def think(self, most: float = 0.4) -> None:
        """Take some time, as code does."""
        await asyncio.sleep(self.random.random() * most)

    async def apply(self, key: str) -> int:
        """Have an effect under a key; the process may die or stand still right before or after it.

        Returns:
            How often the key was applied.
        """
        node, faults = NODE.get(), self.faults
        if node and faults.meets("effect.crash_before", self._now()):
            await self._die(node)
        await self.think(0.2)
        done = self.effects.setdefault(key, [])
        done.append((self._now(), node))
        if node and faults.meets("effect.crash_after", self._now()):
            await self._die(node)
        if node and (fault := faults.meets("effect.freeze", self._now())) is not None:
            faults.freeze(node, fault.size)
        await self.think(0.2)
        return len(done)

    async def buy(self, key: str, most: int) -> int:
        """Buy something under a key, at a price that is paid the moment it is bought; return the price."""
        price = self.random.randrange(most + 1)
        self.billed += price
        await self.apply(key)
        return price

    async def _die(self, node: str) -> None:
        self.faults.kill(node)
        await asyncio.get_running_loop().create_future()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


WORLD: ContextVar[World] = ContextVar("tenuto_simulated_world")
