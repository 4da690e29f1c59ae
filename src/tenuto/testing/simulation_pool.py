"""Processes beside a simulated worker: calls take a moment, and now and then one dies."""

from __future__ import annotations

from typing import Any

from tenuto.domain.runs.failure import LOST
from tenuto.ports.pool import PoolFailed
from tenuto.testing.simulation_world import WORLD

SLOTS = 3
DEATHS = 0.1


class SimPool:
    """A `ports.pool.Pool` whose processes are imagined; every call returns what `workloads_steps.plain` does."""

    def __init__(self) -> None:
        self._busy = 0

    @property
    def free(self) -> int:
        """Return how many more calls may be made at once."""
        return SLOTS - self._busy

    async def call(self, target: str, value: Any, *, key: str, timeout_s: float | None) -> Any:
        """Take a moment and return a result.

        Raises:
            PoolFailed: The process died.
        """
        world = WORLD.get()
        self._busy += 1
        try:
            await world.think(1.0)
            if world.random.random() < DEATHS:
                raise PoolFailed(LOST)
            return {"v": "plain"}
        finally:
            self._busy -= 1

    async def close(self) -> None:
        """End all processes."""
