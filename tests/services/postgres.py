import os
import pwd
import secrets
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.environment import clean_environment
from tests.services import postgres_bin
from tests.services.process import (
    Process,
    ServiceFailed,
    command_for,
    free_port,
    process_start,
    service_directory,
    unprivileged,
)

SUPERUSER = "tests"
# Nothing here has to survive a power cut; two workers with a pool of 16 each, twice over, need room.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    # JIT compiles plans that then run once.
    "jit": "off",
    "logging_collector": "off",
}


@dataclass
class PostgresServer:
    process: Process
    port: int
    password: str

    def url(self, database: str = "postgres") -> str:
        return f"postgres://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=2)

    def database_create(self) -> str:
        """The URL of a new, empty database."""
        name = f"made_{secrets.token_hex(4)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def stop(self) -> None:
        self.process.stop()


def postgres_start() -> PostgresServer:
    """A cluster of its own, whatever else runs here: a preinstalled one is never touched."""
    directory = service_directory("postgres")
    user = unprivileged()
    if user:
        entry = pwd.getpwnam(user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    password = secrets.token_hex(16)
    _initdb(directory, user, password)
    port = free_port()
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    process = process_start(
        "postgres",
        [str(_binary("postgres")), "-D", str(directory / "data"), "-p", str(port), *options],
        directory=directory,
        env=_environment(),
        user=user,
        # Fast shutdown: ends the sessions that are still open.
        stop_signal=signal.SIGINT,
    )
    server = PostgresServer(process, port, password)
    process.wait_ready(lambda: _answers(server), seconds=30)
    return server


def _binary(name: str) -> Path:
    directory = postgres_bin()
    assert directory
    return directory / name


def _environment() -> dict[str, str]:
    # The caller's locale may not exist for the server, and its messages are read by tests.
    return clean_environment() | {"LC_ALL": "C", "TZ": "UTC"}


def _initdb(directory: Path, user: str | None, password: str) -> None:
    # initdb reads the password from a file that only the server's user can read; /dev/stdin would need a terminal's.
    secret = directory / "password"
    secret.write_text(password, encoding="ascii")
    secret.chmod(0o600)
    if user:
        os.chown(secret, pwd.getpwnam(user).pw_uid, -1)
    arguments = [str(_binary("initdb")), "-D", str(directory / "data"), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
    arguments += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--no-instructions"]
    made = subprocess.run(
        command_for(arguments, user=user),
        cwd=directory,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    secret.unlink()
    if made.returncode:
        raise ServiceFailed(f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}")


def _answers(server: PostgresServer) -> bool:
    with suppress(psycopg.OperationalError), server.connect() as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)
    return False
