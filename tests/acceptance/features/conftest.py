"""Stores for the features: SQLite, the default, and PostgreSQL where the two could differ."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a fresh SQLite database."""
    return f"sqlite:///{tmp_path}/t.db"


@pytest.fixture(params=["sqlite", "postgres"])
def both_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """Return the URL of a fresh store of each kind that people run."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else sqlite_url
