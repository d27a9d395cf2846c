"""A running server whose database goes away and comes back."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import psycopg_pool
import pytest
from psycopg import sql

from onesource.postgresql.connection import DeadlineConnection
from onesource.postgresql.pool import CheckedPool
from tests.services.gunicorn import Gunicorn, Reply
from tests.services.postgres import PostgresServer

QUESTION = {"question": "How high must a handrail be?"}


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> str:
    return postgres_server.database_create()


@pytest.fixture(scope="module")
def server(gunicorn_server: Callable[..., Gunicorn], database: str) -> Gunicorn:
    return gunicorn_server({"RELEASE_TRACK": "canary"}, fresh=True, workers=2, database_url=database)


@pytest.fixture
def away(postgres_server: PostgresServer, database: str, server: Gunicorn) -> Iterator[None]:
    name = database.rpartition("/")[2]
    with closing(postgres_server.connect()) as connection:
        cut(connection, name)
        yield
        connections_allow(connection, name, True)
    until_ready(server)


def connections_allow(connection: "psycopg.Connection[tuple[object, ...]]", name: str, allowed: bool) -> None:
    word = sql.SQL("true" if allowed else "false")
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), word))


def cut(connection: "psycopg.Connection[tuple[object, ...]]", name: str) -> None:
    """Nobody gets a connection to the database, and those there were are ended."""
    connections_allow(connection, name, False)
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def until_ready(server: Gunicorn) -> Reply:
    until = time.monotonic() + 30
    while (reply := server.get("/readyz", token="")).status != 200 and time.monotonic() < until:
        time.sleep(0.05)
    return reply


def test_while_the_database_is_away_the_process_lives_and_is_not_ready(server: Gunicorn, away: None) -> None:
    assert server.get("/healthz", token="").status == 200
    ready = server.get("/readyz", token="")
    assert (ready.status, ready.json()["status"]) == (503, "not_ready")
    assert ready.json()["health_checks"]["database"] == {"status": "unhealthy"}


def test_while_the_database_is_away_the_last_flags_hold(server: Gunicorn, away: None) -> None:
    version = server.get("/version", token="")
    assert version.status == 200
    assert version.json()["feature_flags"]["USE_UNIFIED_PIPELINE"] is True
    assert version.json()["track"] == "canary"


def test_while_the_database_is_away_metrics_are_told_without_what_only_it_knows(server: Gunicorn, away: None) -> None:
    scraped = server.get("/metrics", token="")
    assert scraped.status == 200
    assert b"onesource_flags_snapshot_age_seconds" in scraped.body
    assert b"onesource_content_overdue_rows" not in scraped.body


def test_while_the_database_is_away_nobody_is_answered_unrecorded(server: Gunicorn, away: None) -> None:
    reply = server.post_json("/chat", QUESTION)
    assert (reply.status, reply.json()["code"]) == (503, "database_unavailable")
    assert int(reply.headers["Retry-After"]) > 0


def test_after_the_outage_both_workers_answer_at_once(server: Gunicorn) -> None:
    assert until_ready(server).json()["status"] == "ready"
    assert {server.post_json("/chat", QUESTION).status for _ in range(6)} == {200}


def test_a_pool_is_connected_soon_after_an_outage(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """psycopg_pool by itself asks 1 s after the failure and then, here after the outage, 2 s later."""
    caplog.set_level("INFO")
    url = postgres_server.database_create()
    name = url.rpartition("/")[2]
    with (
        closing(postgres_server.connect()) as admin,
        CheckedPool(
            conninfo=url,
            min_size=1,
            max_size=4,
            open=True,
            timeout=5,
            kwargs={"autocommit": True},
            connection_class=DeadlineConnection,
        ) as pool,
    ):
        pool.putconn(pool.getconn())
        cut(admin, name)
        with pytest.raises(psycopg_pool.PoolTimeout):
            pool.getconn(1.2)
        connections_allow(admin, name, True)
        pool.putconn(pool.getconn(1))
    told = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    assert told == ["database.not_connected", "database.connected_again"]
