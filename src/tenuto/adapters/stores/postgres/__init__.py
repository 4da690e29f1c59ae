"""The store on PostgreSQL; needs the extra `postgres`."""

from __future__ import annotations

try:
    import asyncpg  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise ImportError(
        "PostgreSQL needs a driver; install the extra: pip install 'tenuto[postgres]'"
    ) from error

from tenuto.adapters.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
