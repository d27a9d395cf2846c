"""The database read-only, locked, stopped or gone: 503 with Retry-After, and nothing half-written."""

import os
import signal
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from django.db import connection, transaction

from chat.models import IdempotencyKey
from tests.chat.asking import answer_of, ask, problem_of, recorded
from tests.services import need
from tests.services.gunicorn import children
from tests.services.postgres import postgres_start

BODY = {"question": "How high must a handrail be in a house?"}


@contextmanager
def read_only():
    """This connection reads and cannot write."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = ON")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA query_only = OFF")
        return
    # A subtransaction's mode ends with it.
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        yield
        transaction.set_rollback(True)


def unavailable(response):
    problem = problem_of(response, 503, "database_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert "blocks" not in problem
    return problem


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": "k"}], ids=["", "with key"])
def test_read_only_is_503_and_leaves_nothing(owner, path, headers):
    ask(owner)
    before = recorded()
    with read_only():
        unavailable(owner.post_json(path, BODY, **headers))
    assert recorded() == before
    assert IdempotencyKey.objects.count() == 0


@pytest.mark.django_db
def test_read_only_leaves_a_session_as_it_is_and_it_goes_on_afterwards(owner):
    session_id = ask(owner)["meta"]["session_id"]
    with read_only():
        unavailable(owner.post_json("/chat", {**BODY, "session_id": session_id}))
    assert ask(owner, session_id=session_id)["meta"]["turn"] == 2


@pytest.mark.django_db
def test_read_only_still_shows_conversations(owner):
    session_id = ask(owner)["meta"]["session_id"]
    with read_only():
        assert len(owner.get("/chat/sessions").json()["results"]) == 1
        assert len(owner.get(f"/chat/sessions/{session_id}").json()["conversation"]) == 1


@pytest.mark.django_db
def test_read_only_keeps_a_session_from_being_deleted(owner):
    session_id = ask(owner)["meta"]["session_id"]
    with read_only():
        unavailable(owner.client.delete(f"/chat/sessions/{session_id}"))
    assert len(owner.get(f"/chat/sessions/{session_id}").json()["conversation"]) == 1


def counts(server) -> tuple[int, ...]:
    tables = ("chat_session", "chat_turn", "audit_event", "turn_content", "chat_idempotency_key")
    with sqlite3.connect(server.var / "onesource.sqlite3") as database:
        found = tuple(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)
    database.close()
    return found


def test_a_locked_sqlite_file_is_503_within_its_timeout_and_works_again(gunicorn_server):
    server = gunicorn_server()
    answer_of(server.post_json("/chat", BODY))
    before = counts(server)
    lock = sqlite3.connect(server.var / "onesource.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    unavailable(server.post_json("/chat", BODY, headers={"Idempotency-Key": "locked"}))
    assert time.monotonic() - started < 12
    lock.execute("ROLLBACK")
    lock.close()
    assert counts(server) == before
    answer_of(server.post_json("/chat", BODY, headers={"Idempotency-Key": "locked"}))


def test_a_sqlite_file_that_is_no_database_any_more_is_503(gunicorn_server):
    server = gunicorn_server(fresh=True, workers=1)
    for path in server.var.glob("onesource.sqlite3*"):
        path.write_bytes(b"not a database" * 1000)
    unavailable(server.post_json("/chat", BODY))
    assert server.get("/healthz").status == 200


@pytest.fixture(scope="module")
def postgres():
    """A cluster that these tests may harm."""
    need("postgres")
    server = postgres_start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def on_postgres(gunicorn_server, postgres):
    return gunicorn_server({"RATE_LIMIT_PER_USER": "1000"}, database_url=postgres.database_create())


def rows(postgres, server) -> tuple[int, ...]:
    tables = ("chat_session", "chat_turn", "audit_event", "turn_content", "chat_idempotency_key")
    with postgres.connect(server.env["DATABASE_URL"].rpartition("/")[2]) as database:
        return tuple(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


@contextmanager
def read_only_postgres(postgres, server):
    name = server.env["DATABASE_URL"].rpartition("/")[2]
    with postgres.connect() as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    connections_end(postgres, name)
    yield
    with postgres.connect() as admin:
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    connections_end(postgres, name)


def connections_end(postgres, name: str) -> None:
    """Ends the connections to a database, and waits until the server has done so."""
    with postgres.connect() as admin:
        ended = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        pids = [pid for pid, _ in admin.execute(ended, [name]).fetchall()]
        until = time.monotonic() + 10
        while admin.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [pids]).fetchall():
            assert time.monotonic() < until


def test_a_read_only_postgresql_is_503_and_leaves_nothing(on_postgres, postgres):
    session_id = answer_of(on_postgres.post_json("/chat", BODY))["meta"]["session_id"]
    before = rows(postgres, on_postgres)
    with read_only_postgres(postgres, on_postgres):
        for body in (BODY, {**BODY, "session_id": session_id}):
            unavailable(on_postgres.post_json("/chat", body))
    assert rows(postgres, on_postgres) == before
    assert answer_of(on_postgres.post_json("/chat", {**BODY, "session_id": session_id}))["meta"]["turn"] == 2


def test_ended_connections_cost_no_turn(on_postgres, postgres):
    with ThreadPoolExecutor(16) as pool:
        # So many connections that trying them one a second would not do.
        busy = [pool.submit(on_postgres.post_json, "/chat", BODY) for _ in range(64)]
    assert {future.result().status for future in busy} <= {200, 503}
    connections_end(postgres, on_postgres.env["DATABASE_URL"].rpartition("/")[2])
    statuses = [on_postgres.post_json("/chat", BODY).status for _ in range(6)]
    assert statuses == [200] * 6


@contextmanager
def stopped(postgres):
    """The server and its sessions hold still, with all connections open."""
    pids = [postgres.process.pid, *children(postgres.process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_a_stalled_postgresql_is_503_and_nothing_half_written(on_postgres, postgres):
    answer_of(on_postgres.post_json("/chat", BODY))
    before = rows(postgres, on_postgres)
    session_id = str(uuid.uuid4())
    with stopped(postgres):
        reply = on_postgres.post_json("/chat", {**BODY, "session_id": session_id}, timeout=15)
        assert on_postgres.get("/healthz", timeout=5).status == 200
    unavailable(reply)
    assert rows(postgres, on_postgres) == before


def test_a_postgresql_that_is_gone_is_503_for_everything_but_the_probes(gunicorn_server):
    need("postgres")
    postgres = postgres_start()
    server = gunicorn_server({}, database_url=postgres.database_create(), fresh=True, workers=1)
    session_id = answer_of(server.post_json("/chat", BODY))["meta"]["session_id"]
    postgres.stop()
    unavailable(server.post_json("/chat", BODY))
    unavailable(server.post_json("/chat", {**BODY, "session_id": session_id}))
    unavailable(server.get("/chat/sessions"))
    assert server.get("/healthz").status == 200
    assert server.get("/readyz").status == 503
