"""/healthz, /readyz and /version."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from chat.stores.conversation import hot_stores
from flags import snapshot
from ops.health import draining
from tests.services import need
from tests.services.mongo import MongoServer, mongo_start
from tests.services.process import free_port
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db


def readyz(client: Client) -> tuple[int, str, dict[str, Any]]:
    response = client.get("/readyz")
    body = response.json()
    assert body.keys() == {"status", "health_checks"}
    return response.status_code, body["status"], body["health_checks"]


# Alive


def test_a_healthy_process_says_so(client: Client, settings: Any) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    body = response.json()
    assert body.keys() == {"status", "response_time_ms", "version"}
    assert (body["status"], body["version"]) == ("healthy", settings.VERSION)
    assert body["response_time_ms"] >= 0


def test_healthz_touches_nothing_outside_the_process(
    client: Client, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    snapshot.reset()
    # none
    with django_assert_num_queries(0):
        assert client.get("/healthz").status_code == 200
    assert snapshot.last().epoch == -1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version"])
def test_a_probe_is_open_answers_head_and_is_never_cached(client: Client, path: str) -> None:
    assert client.head(path).status_code == 200
    assert "no-store" in client.get(path)["Cache-Control"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version"])
def test_a_probe_tells_no_secret(client: Client, settings: Any, path: str) -> None:
    text = client.get(path).content.decode()
    secrets = (settings.SECRET_KEY, settings.CONTENT_KEYS, settings.AUDIT_SIGNING_KEY, settings.DATABASES["default"])
    assert not any(str(secret) in text for secret in secrets)
    assert str(settings.DATABASES["default"]["NAME"]) not in text


# Ready


def test_with_everything_there_it_is_ready(client: Client, settings: Any) -> None:
    status, told, checks = readyz(client)
    assert (status, told) == (200, "ready")
    assert checks == {
        "database": {"status": "healthy"},
        "conversation_store": {"status": "healthy", "name": "database"},
        "schema_guard": {"status": "healthy"},
        "configuration": {"status": "healthy", "environment": settings.ENVIRONMENT},
    }


def test_with_redis_there_it_is_ready_and_says_which_store_is_primary(
    client: Client, redis_configured: RedisServer
) -> None:
    status, told, checks = readyz(client)
    assert (status, told) == (200, "ready")
    assert checks["redis"] == {"status": "healthy", "primary": True}
    assert checks["conversation_store"] == {"status": "healthy", "name": "redis"}


@pytest.fixture
def redis_away(settings: Any, flag: Callable[..., None]) -> None:
    """Configured, and nothing listens there."""
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    options = {"SOCKET_TIMEOUT": 0.2, "SOCKET_CONNECT_TIMEOUT": 0.1}
    conversations = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": settings.REDIS_URL, "OPTIONS": options}
    settings.CACHES = {**settings.CACHES, "conversations": conversations}
    hot_stores.cache_clear()


@pytest.mark.parametrize(("primary", "store"), [("redis", "unhealthy"), ("database", "healthy")])
def test_with_redis_away_it_is_degraded_and_still_takes_requests(
    client: Client, redis_away: None, flag: Callable[..., None], primary: str, store: str
) -> None:
    flag("CONV_STORE_PRIMARY", primary)
    status, told, checks = readyz(client)
    assert (status, told) == (200, "degraded")
    assert checks["redis"] == {"status": "unhealthy", "primary": primary == "redis"}
    assert checks["conversation_store"] == {"status": store, "name": primary}


def test_both_hot_stores_are_told_apart(
    client: Client, redis_configured: RedisServer, mongo_configured: MongoServer, flag: Callable[..., None]
) -> None:
    flag("CONV_STORE_PRIMARY", "mongo")
    status, told, checks = readyz(client)
    assert (status, told) == (200, "ready")
    assert checks["mongo"] == {"status": "healthy", "primary": True}
    assert checks["redis"] == {"status": "healthy", "primary": False}
    assert checks["conversation_store"] == {"status": "healthy", "name": "mongo"}


@pytest.mark.parametrize(("primary", "store"), [("mongo", "unhealthy"), ("redis", "healthy")])
def test_with_mongo_stopped_it_is_degraded_and_the_probe_does_not_wait_for_it(
    client: Client,
    settings: Any,
    redis_configured: RedisServer,
    flag: Callable[..., None],
    primary: str,
    store: str,
) -> None:
    need("mongo")
    server = mongo_start(mine=True)
    settings.MONGO_URL, settings.MONGO_TIMEOUT_MS = server.url, 200
    hot_stores.cache_clear()
    flag("CONV_STORE_PRIMARY", primary)
    assert readyz(client)[:2] == (200, "ready")
    server.pause()
    started = time.monotonic()
    status, told, checks = readyz(client)
    # 0.2 s for MongoDB; without a bound the drivers wait for half a minute.
    assert time.monotonic() - started < 5
    server.stop()
    assert (status, told) == (200, "degraded")
    assert checks["mongo"] == {"status": "unhealthy", "primary": primary == "mongo"}
    assert checks["redis"] == {"status": "healthy", "primary": primary == "redis"}
    assert checks["conversation_store"] == {"status": store, "name": primary}


def test_a_primary_without_a_url_is_told_and_the_record_is_read(client: Client, flag: Callable[..., None]) -> None:
    flag("CONV_STORE_PRIMARY", "mongo")
    status, told, checks = readyz(client)
    assert (status, told) == (200, "degraded")
    assert checks["conversation_store"] == {
        "status": "unhealthy",
        "name": "database",
        "problem": "CONV_STORE_PRIMARY names mongo, for which there is no URL here",
    }


def test_from_the_stop_signal_on_it_is_not_ready(client: Client) -> None:
    draining.set()
    status, told, checks = readyz(client)
    assert (status, told) == (503, "not_ready")
    assert checks["draining"] == {"status": "unhealthy"}
    assert checks["database"] == {"status": "healthy"}
    assert client.get("/healthz").status_code == 200


@pytest.fixture
def read_only(transactional_db: None) -> Iterator[None]:
    """This connection's database takes no writes, as a replica or a full disk does not."""
    postgres = connection.vendor == "postgresql"
    on = "SET default_transaction_read_only = on" if postgres else "PRAGMA query_only = 1"
    off = "SET default_transaction_read_only = off" if postgres else "PRAGMA query_only = 0"
    with connection.cursor() as cursor:
        cursor.execute(on)
    yield
    with connection.cursor() as cursor:
        cursor.execute(off)


def test_a_database_that_takes_no_writes_is_not_ready(client: Client, read_only: None) -> None:
    status, told, checks = readyz(client)
    assert (status, told) == (503, "not_ready")
    assert checks["database"] == {"status": "unhealthy"}
    assert checks["schema_guard"] == {"status": "healthy"}


def test_the_probe_leaves_nothing_written(client: Client) -> None:
    before = snapshot.current().epoch
    readyz(client)
    snapshot.reset()
    assert snapshot.current().epoch == before


# Which version


def test_version_says_what_runs_here(client: Client, settings: Any) -> None:
    settings.GIT_COMMIT, settings.BUILD_TIME, settings.RELEASE_TRACK = "abc123", "2026-03-01T00:00:00Z", "canary"
    body = client.get("/version").json()
    flags = body.pop("feature_flags")
    assert body == {
        "version": settings.VERSION,
        "schema_version": "v2",
        "commit": "abc123",
        "build_time": "2026-03-01T00:00:00Z",
        "environment": settings.ENVIRONMENT,
        "track": "canary",
    }
    assert flags["USE_UNIFIED_PIPELINE"] is True
    assert flags["CONV_MAX_TURNS"] == 16


def test_version_tells_the_flags_as_they_are_in_force(
    client: Client, flag: Callable[..., None], override_pins: Callable[..., None]
) -> None:
    override_pins(CONV_MAX_TURNS=3)
    flag("USE_UNIFIED_PIPELINE", False)
    flags = client.get("/version").json()["feature_flags"]
    assert (flags["CONV_MAX_TURNS"], flags["USE_UNIFIED_PIPELINE"]) == (3, False)
