"""Where functions run apart from the worker: processes that may die without taking anything with them."""

from __future__ import annotations

from typing import Any, Protocol

from tenuto.domain.runs.events import Failure


class Pool(Protocol):
    """A few processes that execute functions by name."""

    @property
    def free(self) -> int:
        """Return how many more calls may be made at once."""
        ...

    async def call(self, target: str, value: Any, *, key: str, timeout_s: float | None) -> Any:
        """Run the function at `module:qualname` with a JSON input and return its JSON result.

        Raises:
            PoolFailed: It failed; `failure` says how. A process that died, ran out of time, or answered with too
                much is replaced.
        """
        ...

    async def close(self) -> None:
        """End all processes at once."""
        ...


class PoolFailed(Exception):
    """A call in another process did not return a value.

    Attributes:
        failure: As the journal keeps it; its code is `attempt.worker_lost` when the process died.
    """

    def __init__(self, failure: Failure) -> None:
        """Keep the failure."""
        super().__init__(failure.message)
        self.failure = failure
