import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.environment import base_directory

POLL_SECONDS = 0.02
TAIL_CHARS = 6000
# Below the range that the kernel takes the ports of outgoing connections from: a port found free here stays free.
PORTS = range(15_000, 30_000)
# What runs now: their output is shown with a test that fails (conftest).
RUNNING: "list[Process]" = []


class ServiceFailed(Exception):
    """A service ended or did not answer in time; the text ends with what it printed."""


def free_port() -> int:
    for port in random.sample(PORTS, 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServiceFailed("no free port among 50 tried")


def service_directory(name: str) -> Path:
    parent = base_directory() / "services"
    parent.mkdir(exist_ok=True, mode=0o711)
    parent.chmod(0o711)
    for number in range(10_000):
        with suppress(FileExistsError):
            made = parent / f"{name}-{os.getpid()}-{number}"
            made.mkdir(mode=0o700)
            return made
    raise ServiceFailed(f"{parent} is full")


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def unprivileged() -> str | None:
    """Whom root starts a server as that refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def command_for(arguments: Sequence[str], *, user: str | None = None, death_signal: str = "TERM") -> list[str]:
    """`arguments` run as `user`, and told to stop by the kernel when the tests are killed (where setpriv is)."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return [*(["runuser", "-u", user, "--"] if user else []), *arguments]
    as_user = []
    if user:
        group = str(pwd.getpwnam(user).pw_gid)
        as_user = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    return [setpriv, *as_user, "--pdeathsig", death_signal, "--", *arguments]


@dataclass
class Process:
    """A running service. `stop` is by its pid and leaves neither process nor directory."""

    name: str
    popen: "subprocess.Popen[bytes]"
    directory: Path
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    seen: int = field(default=0, compare=False)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        with suppress(FileNotFoundError):
            return self.log.read_text(encoding="utf-8", errors="replace")
        return ""

    def output_mark(self) -> None:
        """From here on `output_new` tells."""
        self.seen = len(self.output())

    def output_new(self) -> str:
        return self.output()[self.seen :][-TAIL_CHARS:]

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not ready():
            if not self.running:
                self._give_up(f"ended with {self.popen.returncode} before it was ready")
            if time.monotonic() > until:
                self._give_up(f"was not ready after {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def _give_up(self, problem: str) -> None:
        printed = self.output()[-TAIL_CHARS:]
        self.stop()
        raise ServiceFailed(f"{self.name} {problem}. It printed:\n{printed}")

    def forget(self) -> None:
        """It has ended, and another runs in its directory."""
        if self in RUNNING:
            RUNNING.remove(self)

    def stop(self, *, seconds: float = 15) -> None:
        if self.running:
            # A stopped one (SIGSTOP) would not see the signal.
            self.popen.send_signal(signal.SIGCONT)
            self.popen.send_signal(self.stop_signal)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()
        if self in RUNNING:
            RUNNING.remove(self)
        shutil.rmtree(self.directory, ignore_errors=True)


def process_start(
    name: str,
    arguments: Sequence[str],
    *,
    directory: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    user: str | None = None,
) -> Process:
    """In a session of its own: a Ctrl-C in the terminal is for the tests, which then stop it in order."""
    log = directory / "output.log"
    command = command_for(arguments, user=user, death_signal=stop_signal.name.removeprefix("SIG"))
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command,
            cwd=cwd or directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Else a limit on the size of files ends the service, by SIGXFSZ, where a full disk is an error to it.
            restore_signals=False,
        )
    process = Process(name, popen, directory, log, stop_signal)
    RUNNING.append(process)
    return process
