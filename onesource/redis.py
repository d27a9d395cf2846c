"""How Redis is reached: one server, a Cluster, or Sentinel, by the scheme of REDIS_URL; each within one deadline.

redis-py's timeouts are for one read. An operation may take several (connect, handshake, ask each sentinel, learn a
cluster's slots again), and with a server that is stopped each of them waits. So a connection here also gives up when
the operation it serves has used up its time.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django_redis.pool import ConnectionFactory, SentinelConnectionFactory
from redis.backoff import NoBackoff
from redis.client import Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from onesource.env import EnvError, hosts

SINGLE = ("redis", "rediss", "unix")
CLUSTER = ("redis+cluster", "rediss+cluster")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
SENTINEL_OPTIONS = {"sentinel_username": "username", "sentinel_password": "password"}
MAX_CONNECTIONS = 512

_operation = threading.local()


# One deadline for an operation


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever this thread asks of Redis in the block ends after `seconds`, with redis-py's TimeoutError."""
    _operation.ends = time.monotonic() + seconds
    try:
        yield
    finally:
        _operation.ends = None


def _left(most: float | None) -> float | None:
    ends = getattr(_operation, "ends", None)
    if ends is None:
        return most
    left: float = ends - time.monotonic()
    if left <= 0:
        raise RedisTimeoutError("the operation has used up its time")
    return left if most is None else min(most, left)


class _Deadline:
    """Mixed into redis-py's connections, in front of the class that connects, writes and reads."""

    _sock: Any
    socket_timeout: float | None
    socket_connect_timeout: float | None

    def _connect(self) -> Any:
        most = self.socket_connect_timeout
        self.socket_connect_timeout = _left(most)
        try:
            return super()._connect()  # type: ignore[misc]
        finally:
            self.socket_connect_timeout = most

    def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
        left = _left(self.socket_timeout)
        if self._sock:
            self._sock.settimeout(left)
        return super().send_packed_command(*args, **kwargs)  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        # With no time left the read itself must time out: it then drops the connection, on which an answer is due.
        try:
            left = _left(self.socket_timeout)
        except RedisTimeoutError:
            left = 0.001
        if self._sock:
            self._sock.settimeout(left)
        return super().read_response(*args, **kwargs)  # type: ignore[misc]


class DeadlineConnection(_Deadline, Connection):
    pass


class DeadlineSSLConnection(_Deadline, SSLConnection):
    pass


class DeadlineUnixConnection(_Deadline, UnixDomainSocketConnection):
    pass


class DeadlineSentinelConnection(_Deadline, SentinelManagedConnection):
    pass


class DeadlineSentinelSSLConnection(_Deadline, SentinelManagedSSLConnection):
    pass


# From a URL to Django's cache


@dataclass(frozen=True, slots=True)
class Address:
    """`nodes` are of the cluster, or the sentinels that watch `service`; empty for one server."""

    kind: str
    tls: bool = False
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    database: int = 0
    auth: tuple[tuple[str, Any], ...] = ()
    sentinel_auth: tuple[tuple[str, Any], ...] = ()


def address(name: str, url: str) -> Address:
    """What the URL in the variable `name` stands for. Raises EnvError, without the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise EnvError(name, "is not a valid URL") from None
    if parts.scheme not in SINGLE + CLUSTER + SENTINEL:
        known = ", ".join(f"{scheme}://" for scheme in SINGLE + CLUSTER + SENTINEL)
        raise EnvError(name, f"expected a URL that starts with one of {known}")
    tls = parts.scheme.startswith("rediss")
    if parts.scheme in SINGLE:
        _single_check(name, url)
        return Address("single", tls)
    auth = tuple(
        (key, unquote(value)) for key, value in (("username", parts.username), ("password", parts.password)) if value
    )
    path = parts.path.strip("/")
    if parts.scheme in CLUSTER:
        if path or parts.query:
            raise EnvError(name, "a cluster's URL ends with its nodes: it has no database and no options")
        return Address("cluster", tls, hosts(name, parts.netloc, 6379), auth=auth)
    service, _, database = path.partition("/")
    if not service or not (database or "0").isdigit():
        raise EnvError(name, "Sentinel's URL ends with the name of the service: redis+sentinel://host:26379/mymaster")
    given = dict(parse_qsl(parts.query))
    if unknown := given.keys() - SENTINEL_OPTIONS.keys():
        raise EnvError(name, f"unknown option {', '.join(sorted(unknown))}; known: {', '.join(SENTINEL_OPTIONS)}")
    sentinel_auth = tuple((SENTINEL_OPTIONS[key], value) for key, value in given.items())
    nodes = hosts(name, parts.netloc, 26379)
    return Address("sentinel", tls, nodes, service, int(database or "0"), auth, sentinel_auth)


def _single_check(name: str, url: str) -> None:
    try:
        urlsplit(url).port  # noqa: B018  (reading it is what checks it)
        Redis.from_url(url).close()
    except ValueError:
        raise EnvError(name, "is not a valid URL of a Redis server") from None


def cache_settings(name: str, url: str, *, timeout: float, connect_timeout: float) -> dict[str, Any]:
    """The entry in CACHES for django-redis; timeouts in seconds. Raises EnvError."""
    found = address(name, url)
    # redis-py 8 retries by default, and then hangs for over 30 s on a stopped server.
    pool: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "max_connections": MAX_CONNECTIONS}
    options: dict[str, Any] = {
        "SOCKET_TIMEOUT": timeout,
        "SOCKET_CONNECT_TIMEOUT": connect_timeout,
        "CONNECTION_POOL_KWARGS": pool,
    }
    entry = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}
    tcp = DeadlineSSLConnection if found.tls else DeadlineConnection
    if found.kind == "single":
        unix = urlsplit(url).scheme == "unix"
        options |= {
            "CONNECTION_FACTORY": "onesource.redis.SingleFactory",
            "CONNECTION_CLASS": DeadlineUnixConnection if unix else tcp,
        }
    elif found.kind == "cluster":
        options |= {"CONNECTION_FACTORY": "onesource.redis.ClusterFactory", "ADDRESS": found}
    else:
        managed = DeadlineSentinelSSLConnection if found.tls else DeadlineSentinelConnection
        pool |= {"connection_class": managed, **dict(found.auth)}
        entry["LOCATION"] = f"redis://{found.service}/{found.database}"
        options |= {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_FACTORY": "onesource.redis.SentinelFactory",
            "SENTINELS": list(found.nodes),
            "SENTINEL_CLASS": tcp,
            "SENTINEL_KWARGS": {
                **dict(found.sentinel_auth),
                "retry": Retry(NoBackoff(), 0),
                # All but one of them may be stopped, and the last must still be asked in time.
                "socket_timeout": timeout / len(found.nodes),
                "socket_connect_timeout": connect_timeout / len(found.nodes),
            },
        }
    return entry


class SingleFactory(ConnectionFactory):
    def get_connection_pool(self, params: dict[str, Any]) -> Any:
        pool = super().get_connection_pool(params)
        pool.connection_class = self.options["CONNECTION_CLASS"]
        return pool


class SentinelFactory(SentinelConnectionFactory):
    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        for sentinel in self._sentinel.sentinels:
            sentinel.connection_pool.connection_class = options["SENTINEL_CLASS"]

    def get_or_create_connection_pool(self, params: dict[str, Any]) -> Any:
        # django-redis keeps pools by URL, which for Sentinel is only the name of the service.
        key = f"{params['url']} {self.options['SENTINELS']}"
        if key not in self._pools:
            self._pools[key] = self.get_connection_pool(params)
        return self._pools[key]


class ClusterFactory(ConnectionFactory):
    """django-redis has no client for Redis Cluster: here redis-py's own stands where a pool would, one a process."""

    _clusters: dict[str, RedisCluster] = {}
    _making = threading.Lock()

    def connect(self, url: str) -> Any:
        if url in self._clusters:
            return self._clusters[url]
        # Making one asks the nodes for their slots; whoever fails at it leaves it to the next.
        if not self._making.acquire(timeout=_left(1.0) or 1.0):
            raise RedisTimeoutError("another request is still connecting to the cluster")
        try:
            if url not in self._clusters:
                self._clusters[url] = self._make()
            return self._clusters[url]
        finally:
            self._making.release()

    def disconnect(self, connection: Any) -> None:
        connection.close()

    def _make(self) -> RedisCluster:
        found: Address = self.options["ADDRESS"]
        (host, port), *others = found.nodes
        return RedisCluster(
            # Only with a URL are the nodes' connections of the class that is given.
            url=f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
            startup_nodes=[ClusterNode(*node) for node in others],  # type: ignore[no-untyped-call]
            retry=Retry(NoBackoff(), 0),
            socket_timeout=self.options["SOCKET_TIMEOUT"],
            socket_connect_timeout=self.options["SOCKET_CONNECT_TIMEOUT"],
            max_connections=MAX_CONNECTIONS,
            # A slot without a server costs its own sessions the cache, not those of all the others.
            require_full_coverage=False,
            # The names in the URL outlive the addresses that the nodes had at some time.
            dynamic_startup_nodes=False,
            connection_class=DeadlineSSLConnection if found.tls else DeadlineConnection,
            **dict(found.auth),
        )
