"""Random histories: the PostgreSQL store answers as the memory store does."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tenuto.adapters.stores.postgres import PostgresStore
from tenuto.bundled.postgres import LocalPostgres
from tenuto.ports.store import Store
from tenuto.testing.conformance.machine import StoreMachine

EXAMPLES = int(os.environ.get("TENUTO_MACHINE_EXAMPLES", "12"))


@pytest.mark.postgres
def test_random_histories(postgres_server: LocalPostgres):
    """A database of its own for every history; the server's clock is its own too."""

    class PostgresMachine(StoreMachine):
        shares_clock = False

        def make_store(self) -> Store:
            self.url = postgres_server.create_database()
            return PostgresStore(self.url)

        def teardown(self) -> None:
            super().teardown()
            postgres_server.drop_database(self.url)

    limits: Any = settings(
        max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(PostgresMachine, settings=limits)
