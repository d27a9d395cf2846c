import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.environment import ROOT, clean_environment
from tests.services.process import POLL_SECONDS, Process, ServiceFailed, free_port, process_start, service_directory

USER = "owner"
# Prepares the database once, in one interpreter: each start of Django costs a second.
PREPARE = """
import sys, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("knowledge", "load-pack", stdout=sys.stderr)
call_command("token", "create", sys.argv[1], "--make-user")
"""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gunicorn:
    """The real application under its real configuration, with a database, an index and secrets of its own."""

    process: Process
    port: int
    token: str
    env: dict[str, str]
    workers: int
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def var(self) -> Path:
        return Path(self.env["VAR_DIR"])

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Reply:
        """As the user `owner` unless another token is given; an empty one sends none."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if bearer := self.token if token is None else token:
            sent["Authorization"] = f"Bearer {bearer}"
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, raw, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())

    def post_json(self, path: str, body: object, **options: Any) -> Reply:
        return self.request("POST", path, body, **options)

    def get(self, path: str, **options: Any) -> Reply:
        return self.request("GET", path, **options)

    def token_for(self, username: str) -> str:
        """A token of another user, made at first need."""
        if username not in self.tokens:
            self.tokens[username] = _printed(["manage.py", "token", "create", username, "--make-user"], self.env)
        return self.tokens[username]

    def manage(self, *arguments: str) -> str:
        """The output of a management command on this server's database."""
        return _printed(["manage.py", *arguments], self.env)

    def shell(self, script: str, *, given: str = "") -> str:
        """The output of a script with Django set up on this server's database; `given` is its standard input."""
        return shell(script, self.env, given=given)

    def worker_pids(self) -> list[int]:
        return children(self.process.pid)

    def kill(self, worker: int = 0, number: signal.Signals = signal.SIGKILL) -> int:
        """Ends one worker, by its place in `worker_pids`, and returns its pid; the master starts another."""
        pid = self.worker_pids()[worker]
        os.kill(pid, number)
        return pid

    def wait_workers(self, *, without: int | None = None, seconds: float = 20) -> None:
        """Until all workers are there, of which none is `without`, and one answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pids = self.worker_pids()
            if len(pids) == self.workers and without not in pids and self._answers():
                return
            time.sleep(POLL_SECONDS)
        raise ServiceFailed(f"gunicorn has workers {self.worker_pids()}. It printed:\n{self.logs()}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/readyz", token="", timeout=5).status in (200, 503)
        return False

    def logs(self) -> str:
        return self.process.output()

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of the log; gunicorn's own first words are not JSON."""
        return [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        # Open keep-alive connections may hold up a graceful stop for as long as graceful_timeout.
        self.process.stop(seconds=35)


def gunicorns_stop(servers: Sequence[Gunicorn]) -> None:
    """All are told before any is waited for."""
    for server in servers:
        if server.process.running:
            server.process.popen.terminate()
    for server in servers:
        server.stop()


def gunicorn_start(
    env: Mapping[str, str] | None = None, *, workers: int = 2, database_url: str | None = None
) -> Gunicorn:
    """`env` is what an operator would set; nothing of the caller's own environment configures the product."""
    directory = service_directory("gunicorn")
    var = directory / "var"
    settings = _settings(var, database_url) | dict(env or {})
    token = _prepared_copy(var) if database_url is None else _prepare(settings)
    port = free_port()
    settings |= {"HOST": "127.0.0.1", "PORT": str(port), "WEB_WORKERS": str(workers)}
    metrics = directory / "metrics"
    metrics.mkdir()
    # The control socket would by default be one file in the home directory for all instances.
    arguments = [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "--no-control-socket"]
    process = process_start(
        "gunicorn",
        [*arguments, "onesource.wsgi"],
        directory=directory,
        cwd=ROOT,
        env=settings | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)},
    )
    server = Gunicorn(process, port, token, settings, workers, {USER: token})
    process.wait_ready(lambda: server._answers() and len(server.worker_pids()) == workers, seconds=60)
    return server


def _settings(var: Path, database_url: str | None) -> dict[str, str]:
    return clean_environment() | {
        "DJANGO_SETTINGS_MODULE": "onesource.settings",
        "VAR_DIR": str(var),
        **({"DATABASE_URL": database_url} if database_url else {}),
    }


def database_prepared(database_url: str | None = None) -> dict[str, str]:
    """The environment of a prepared database, for processes other than a server."""
    var = service_directory("database") / "var"
    settings = _settings(var, database_url)
    if database_url is None:
        _prepared_copy(var)
    else:
        _prepare(settings)
    return settings


def shell(script: str, env: Mapping[str, str], *, given: str = "") -> str:
    """The output of a script with Django set up; `given` is its standard input."""
    return _printed(["-c", f"import django\ndjango.setup()\n{script}"], env, given=given)


def _prepare(settings: Mapping[str, str]) -> str:
    Path(settings["VAR_DIR"]).mkdir(parents=True, exist_ok=True)
    return _printed(["-c", PREPARE, USER], settings)


@lru_cache(maxsize=1)
def _template() -> tuple[Path, str]:
    var = service_directory("gunicorn-template") / "var"
    return var, _prepare(_settings(var, None))


def _prepared_copy(var: Path) -> str:
    """A copy of the prepared SQLite file, index and secrets: ten times quicker than preparing them again."""
    template, token = _template()
    shutil.copytree(template, var)
    return token


def template_remove() -> None:
    if _template.cache_info().currsize:
        shutil.rmtree(_template()[0].parent, ignore_errors=True)
        _template.cache_clear()


def _printed(arguments: list[str], settings: Mapping[str, str], *, given: str = "") -> str:
    """The standard output of a Python program in the project's root."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(settings),
        input=given,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        raise ServiceFailed(f"{arguments[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def children(pid: int) -> list[int]:
    """The live child processes of `pid`, oldest first."""
    proc = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        return sorted(int(child) for child in proc.read_text().split() if not _zombie(int(child)))
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return sorted(int(child) for child, parent in pairs if int(parent) == pid)


def _zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
