"""Fixtures that tests of any part may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import postgres_server
import pytest
from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server, started when the first test asks for it."""
    missing = postgres_server.missing()
    if missing:
        pytest.skip(missing)
    with postgres_server.serving() as server:
        yield server
