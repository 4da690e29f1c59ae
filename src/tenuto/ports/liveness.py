"""Knowing at once that a worker on this machine is dead, instead of waiting for its lease to end."""

from __future__ import annotations

from typing import Protocol


class Liveness(Protocol):
    """Signs of life that end with a process, however it ends. A hint: a missing sign says nothing."""

    def show(self, worker: str) -> None:
        """Show a sign of life under a name until this process ends or `hide` is called."""
        ...

    def hide(self, worker: str) -> None:
        """Take a sign of life back."""
        ...

    def dead(self) -> list[str]:
        """Return workers of this machine whose process is certainly gone."""
        ...

    def bury(self, worker: str) -> None:
        """Forget a dead worker's sign."""
        ...
