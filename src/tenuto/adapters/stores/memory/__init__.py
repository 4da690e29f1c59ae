"""The store without a disk, for tests and simulations."""

from __future__ import annotations

from tenuto.adapters.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
