"""The URLs of Redis, and the deadline of an operation."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from onesource.env import EnvError
from onesource.redis import (
    DeadlineConnection,
    DeadlineSentinelSSLConnection,
    DeadlineSSLConnection,
    DeadlineUnixConnection,
    address,
    cache_settings,
    within,
)

NAME = "REDIS_URL"


@pytest.mark.parametrize("url", ["redis://h", "redis://:p@h:1/2", "rediss://u:p@h:1/0?ssl_cert_reqs=none", "unix:///s"])
def test_one_server(url):
    assert address(NAME, url).kind == "single"


def test_a_cluster_has_nodes_and_perhaps_a_password():
    found = address(NAME, "redis+cluster://us%40er:p%2Cw@a,b:7001,[::1]:7002")
    assert (found.kind, found.tls, found.nodes) == ("cluster", False, (("a", 6379), ("b", 7001), ("::1", 7002)))
    assert dict(found.auth) == {"username": "us@er", "password": "p,w"}


def test_sentinels_have_a_service_a_database_and_a_password_of_their_own():
    url = "rediss+sentinel://:word@a,b:26380/main/3?sentinel_username=s&sentinel_password=t"
    found = address(NAME, url)
    assert (found.kind, found.tls, found.nodes) == ("sentinel", True, (("a", 26379), ("b", 26380)))
    assert (found.service, found.database) == ("main", 3)
    assert dict(found.auth) == {"password": "word"}
    assert dict(found.sentinel_auth) == {"username": "s", "password": "t"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:6379", "starts with one of redis://, rediss://, unix://, redis+cluster://"),
        ("http://host", "starts with one of"),
        ("redis://:planted@[host", "not a valid URL"),
        ("redis://:planted@host:port", "not a valid URL"),
        ("redis://:planted@host/0?socket_timeout=soon", "not a valid URL"),
        ("redis+cluster://:planted@", "hosts like host:port"),
        ("redis+cluster://:planted@a,,b", "hosts like host:port"),
        ("redis+cluster://:planted@a:99999", "hosts like host:port"),
        ("redis+cluster://:planted@a/1", "no database and no options"),
        ("redis+sentinel://:planted@a", "ends with the name of the service"),
        ("redis+sentinel://:planted@a/main/x", "ends with the name of the service"),
        ("redis+sentinel://a/main?password=planted", "unknown option password; known: sentinel_username"),
    ],
)
def test_a_url_that_is_none_is_refused_without_being_shown(url, told):
    with pytest.raises(EnvError, match="Environment variable REDIS_URL: ") as raised:
        address(NAME, url)
    assert told in str(raised.value)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "connection"),
    [("redis://h", DeadlineConnection), ("rediss://h", DeadlineSSLConnection), ("unix:///s", DeadlineUnixConnection)],
)
def test_connections_to_one_server_have_the_deadline(url, connection):
    options = cache_settings(NAME, url, timeout=0.2, connect_timeout=0.1)["OPTIONS"]
    assert options["CONNECTION_CLASS"] is connection


def test_tls_reaches_the_sentinels_and_what_they_watch():
    options = cache_settings(NAME, "rediss+sentinel://a,b/main", timeout=0.2, connect_timeout=0.1)["OPTIONS"]
    assert options["CONNECTION_POOL_KWARGS"]["connection_class"] is DeadlineSentinelSSLConnection
    assert options["SENTINEL_CLASS"] is DeadlineSSLConnection
    assert options["SENTINEL_KWARGS"]["socket_timeout"] == 0.1


@contextmanager
def silent():
    """The port of a server that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_several_waits_share_one_deadline():
    """Each read alone may take half a second; the operation may not."""
    with silent() as port:
        connection = DeadlineConnection(host="127.0.0.1", port=port, socket_timeout=0.5, socket_connect_timeout=0.5)
        started = time.monotonic()
        with within(0.6):
            for _ in range(5):
                with pytest.raises(RedisTimeoutError):
                    connection.connect()
        assert time.monotonic() - started < 1.5
        connection.disconnect()


def test_a_deadline_is_the_threads_own_and_ends_with_its_block():
    with silent() as port:
        connection = DeadlineConnection(host="127.0.0.1", port=port, socket_timeout=0.3, socket_connect_timeout=0.3)
        waits = []

        def ask():
            started = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                connection.connect()
            waits.append(time.monotonic() - started)

        with within(0.0):
            ask()
            other = threading.Thread(target=ask)
            other.start()
            other.join()
        ask()
        assert waits[0] < 0.2
        assert min(waits[1:]) > 0.25
