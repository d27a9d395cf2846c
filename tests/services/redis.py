"""Redis as one server, as a Cluster of three and as a primary with a replica and three sentinels."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.environment import clean_environment
from tests.services import find_binary
from tests.services.process import Process, accepts, free_port, process_start, service_directory

SERVICE = "mymaster"
SLOTS = 16384
# Fast for a test, and not so fast that a busy machine is taken for an outage.
NODE_TIMEOUT_MS = "1500"
DOWN_AFTER_MS = 500


@dataclass
class RedisServer:
    process: Process
    port: int
    arguments: Sequence[str] = ()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "Redis":
        return Redis(port=self.port, socket_timeout=5)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.popen.wait()

    def restart(self) -> None:
        """After `kill`: again at the same port, empty unless it kept a file."""
        directory = self.process.directory
        directory.mkdir(exist_ok=True, mode=0o700)
        old = self.process
        self.process = _start(self.process.name, self.arguments, directory, self.port)
        old.forget()

    def stop(self) -> None:
        self.process.stop()


def redis_start(*options: str, name: str = "redis") -> RedisServer:
    """An empty Redis that writes nothing to disk."""
    binary = find_binary("redis-server", "valkey-server")
    assert binary
    port = free_port()
    directory = service_directory(name)
    plain = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory)]
    arguments = [binary, *plain, *options]
    return RedisServer(_start(name, arguments, directory, port), port, arguments)


def _start(name: str, arguments: Sequence[str], directory: Path, port: int) -> Process:
    process = process_start(name, arguments, directory=directory, env=clean_environment())
    process.wait_ready(lambda: accepts(port), seconds=15)
    return process


class Group:
    """Several servers that are one service."""

    servers: list[RedisServer]

    @property
    def url(self) -> str:
        raise NotImplementedError

    def flush(self) -> None:
        for server in self.servers:
            with server.client() as client:
                if client.info("replication")["role"] == "master":
                    client.flushall()

    def pause(self) -> None:
        for server in self.servers:
            server.pause()

    def resume(self) -> None:
        for server in self.servers:
            server.resume()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


@dataclass
class RedisCluster(Group):
    servers: list[RedisServer]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def restart(self) -> None:
        for server in self.servers:
            server.restart()
        _until(lambda: all(_cluster_ok(server) for server in self.servers), "the cluster did not come back")


def cluster_start() -> RedisCluster:
    """Three primaries without replicas; each keeps its view of the cluster in its directory."""
    servers = []
    for _ in range(3):
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT_MS]
        options += ["--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no"]
        servers.append(redis_start(*options, name="redis-cluster"))
    share = SLOTS // len(servers) + 1
    for number, server in enumerate(servers):
        with server.client() as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            last = min(SLOTS, (number + 1) * share) - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
    with servers[0].client() as client:
        for server in servers[1:]:
            bus = server.arguments[server.arguments.index("--cluster-port") + 1]
            client.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
    _until(lambda: all(_cluster_ok(server) for server in servers), "the cluster did not form")
    return RedisCluster(servers)


def _cluster_ok(server: RedisServer) -> bool:
    with server.client() as client:
        told = client.execute_command("CLUSTER INFO")
    text = told.decode() if isinstance(told, bytes) else "\n".join(f"{key}:{value}" for key, value in told.items())
    return "cluster_state:ok" in text and f"cluster_slots_ok:{SLOTS}" in text and "cluster_known_nodes:3" in text


@dataclass
class RedisSentinel(Group):
    """`servers` are a primary and its replica, as they were at the start."""

    servers: list[RedisServer]
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels) + f"/{SERVICE}"

    def primary(self) -> RedisServer:
        with self.sentinels[-1].client() as client:
            told = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(told[1]))

    def settled(self) -> bool:
        """A primary with its replica, and sentinels that know of each other and of both."""
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                state = client.sentinel_master(SERVICE)
            known = state["num-slaves"] == 1 and state["num-other-sentinels"] == len(self.sentinels) - 1
            if not known or "down" in state["flags"]:
                return False
        with self.primary().client() as client:
            return bool(client.info("replication")["connected_slaves"] == 1)

    def restart(self) -> None:
        for server in self.servers:
            server.restart()
        _until(lambda: self.settled(), "the sentinels did not agree")

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()


def sentinel_start() -> RedisSentinel:
    primary = redis_start(name="redis-primary")
    replica = redis_start("--replicaof", "127.0.0.1", str(primary.port), name="redis-replica")
    sentinels = [_sentinel(primary.port) for _ in range(3)]
    group = RedisSentinel([primary, replica], sentinels)
    _until(group.settled, "the sentinels did not agree")
    return group


def _sentinel(watched: int) -> RedisServer:
    binary = find_binary("redis-server", "valkey-server")
    assert binary
    port = free_port()
    directory = service_directory("redis-sentinel")
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {directory}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {watched} 2",
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {SERVICE} 3000",
    ]
    (directory / "sentinel.conf").write_text("\n".join(lines) + "\n", encoding="ascii")
    arguments = [binary, str(directory / "sentinel.conf"), "--sentinel"]
    return RedisServer(_start("redis-sentinel", arguments, directory, port), port, arguments)


def _until(condition, problem: str, seconds: float = 30) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except RedisError:
            pass
        if time.monotonic() > until:
            raise AssertionError(problem)
        time.sleep(0.1)
