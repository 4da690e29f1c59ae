"""Stores for the features: SQLite, the default, and PostgreSQL where the two could differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.acceptance.features.programs import Place, Program


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a fresh SQLite database."""
    return f"sqlite:///{tmp_path}/t.db"


@pytest.fixture(params=["sqlite", "postgres"])
def both_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """Return the URL of a fresh store of each kind that people run."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else sqlite_url


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, httpx.Client]]:
    """Serve `odd_app` for the tests of one module, with the flags in its `SERVE`; give the server and a client."""
    home = tmp_path_factory.mktemp("served")
    with Place(home, f"sqlite:///{home}/t.db", "odd_app:app") as place:
        server = place.serve(*getattr(request.module, "SERVE", ()))
        yield server, place.client(server)
