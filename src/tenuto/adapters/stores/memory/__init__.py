"""A store in the process's memory: the reference for all others, and the ground of simulations."""

from tenuto.adapters.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
