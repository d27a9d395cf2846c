"""A change reaches every worker within a second, by whichever way it was made."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.flag_changes import WAYS, changing
from tests.services import need
from tests.services.gunicorn import Gunicorn
from tests.services.postgres import PostgresServer


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def server(request: pytest.FixtureRequest, gunicorn_server: Callable[..., Gunicorn]) -> Gunicorn:
    url = None
    if request.param == "PostgreSQL":
        need("postgres")
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = postgres.database_create()
    return gunicorn_server({}, workers=4, database_url=url, fresh=True)


def test_every_worker_obeys_within_a_second(server: Any) -> None:
    with changing(server) as changes:
        taken = {}
        for way, value in WAYS:
            changes.change(way)
            taken[way] = changes.seconds_until(value)
    assert max(taken.values()) < 1, taken
