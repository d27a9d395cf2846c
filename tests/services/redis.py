from dataclasses import dataclass

from redis import Redis

from tests.environment import clean_environment
from tests.services import find_binary
from tests.services.process import Process, accepts, free_port, process_start, service_directory


@dataclass
class RedisServer:
    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        with Redis(port=self.port) as client:
            client.flushall()

    def stop(self) -> None:
        self.process.stop()


def redis_start() -> RedisServer:
    """An empty Redis that writes nothing to disk."""
    binary = find_binary("redis-server", "valkey-server")
    assert binary
    port = free_port()
    directory = service_directory("redis")
    arguments = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = process_start(
        "redis", [*arguments, "--dir", str(directory)], directory=directory, env=clean_environment()
    )
    process.wait_ready(lambda: accepts(port), seconds=15)
    return RedisServer(process, port)
