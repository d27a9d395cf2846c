"""A MongoDB server: FerretDB 1.24 over SQLite, built once from tests/services/ferretdb, or that of MONGO_TEST_URL.

FerretDB stands in for the protocol, not for the speed: over SQLite it reads a whole collection for every query that is
not by _id.
"""

import os
import secrets
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.environment import clean_environment
from tests.services import BUILD_SCRIPT, MONGO_VARIABLE, ferretdb_binary
from tests.services.process import Process, ServiceFailed, free_port, process_start, service_directory

BUILD_SECONDS = 600


@dataclass
class MongoServer:
    """`process` is None for a server that runs already; then it may not be harmed."""

    process: Process | None
    port: int
    url: str

    def client(self) -> "pymongo.MongoClient[dict[str, Any]]":
        return pymongo.MongoClient(self.url, timeoutMS=10_000)

    def messages(self) -> list[dict[str, Any]]:
        with self.client() as client:
            return list(client.get_default_database()["conversation_messages"].find())

    def flush(self) -> None:
        with self.client() as client:
            client.get_default_database()["conversation_messages"].delete_many({})

    def pause(self) -> None:
        os.kill(self._mine().pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._mine().pid, signal.SIGCONT)

    def kill(self) -> None:
        process = self._mine()
        os.kill(process.pid, signal.SIGKILL)
        process.popen.wait()

    def restart(self) -> None:
        """After `kill`: again at the same port, with the same files."""
        old = self._mine()
        self.process = _start(old.directory, self.port, self.url)
        old.forget()

    def stop(self) -> None:
        if self.process:
            self.process.stop()
            return
        with suppress(PyMongoError), self.client() as client:
            client.drop_database(client.get_default_database().name)

    def _mine(self) -> Process:
        assert self.process
        return self.process


def mongo_build() -> None:
    """Does nothing when it was built before; another that builds meanwhile is waited for."""
    try:
        built = subprocess.run(
            ["bash", str(BUILD_SCRIPT)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServiceFailed(f"FerretDB was not built in {BUILD_SECONDS} s") from None
    if built.returncode:
        raise ServiceFailed(f"FerretDB could not be built:\n{built.stderr[-2000:]}")


def mongo_start(*, mine: bool = False) -> MongoServer:
    """An empty database; with `mine` always on a server of our own, which the caller may harm."""
    name = f"test_{secrets.token_hex(6)}"
    given = os.environ.get(MONGO_VARIABLE, "")
    if given and not mine:
        prefix, _, options = given.partition("?")
        scheme, _, rest = prefix.partition("://")
        hosts = rest.partition("/")[0]
        return MongoServer(None, 0, f"{scheme}://{hosts}/{name}" + (f"?{options}" if options else ""))
    mongo_build()
    port = free_port()
    url = f"mongodb://127.0.0.1:{port}/{name}"
    return MongoServer(_start(service_directory("mongo"), port, url), port, url)


def _start(directory: Any, port: int, url: str) -> Process:
    (directory / "files").mkdir(exist_ok=True)
    process = process_start(
        "mongo",
        [str(ferretdb_binary()), f"127.0.0.1:{port}", str(directory / "files")],
        directory=directory,
        env=clean_environment(),
    )
    process.wait_ready(lambda: _answers(url), seconds=30)
    return process


def _answers(url: str) -> bool:
    with suppress(PyMongoError), pymongo.MongoClient(url, timeoutMS=500) as client:
        return bool(client.admin.command("ping")["ok"])
    return False
