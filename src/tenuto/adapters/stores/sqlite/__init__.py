"""The store in one SQLite file; the default, and it needs nothing but Python."""

from __future__ import annotations

from tenuto.adapters.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
