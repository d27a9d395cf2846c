"""`make test`: the whole suite on SQLite, then on a PostgreSQL of its own, and what both together covered.

Installs Redis and PostgreSQL where it may (root and apt-get). Without them their tests are skipped, which the end of
the output says; with REQUIRE_SERVICES=1 that is a failure. ARGS and the command line are handed on to pytest.
"""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from tests.environment import BASE_VARIABLE, DATABASE_VARIABLE, clean_environment, directory_make  # noqa: E402
from tests.services import BUILD_SCRIPT, BUILT, INSTALL, REASON, SERVICES, available, go_at_hand, required  # noqa: E402
from tests.services.postgres import PostgresServer, postgres_start  # noqa: E402
from tests.services.process import RUNNING  # noqa: E402

PACKAGES = ("chat", "flags", "audit", "knowledge", "review", "ops")
COVERED_PERCENT = 90
# The same on every database: once is enough.
WITHOUT_DATABASE = (
    "tests/guard",
    "tests/onesource",
    "tests/chat/test_outages.py",
    "tests/chat/test_store_faults.py",
    "tests/test_model_server.py",
    "tests/test_services.py",
)
APT_SECONDS = 240
BUILD_SECONDS = 480
INTERRUPT_SECONDS = 30
# A test that hangs is ended with a traceback of all its threads, and so is the worker it hangs in.
HANG_SECONDS = 300
DPKG_LOCK = Path("/var/lib/dpkg/lock-frontend")
WIDTH = 100


@dataclass
class Outcome:
    """One round of the suite; `skips` are (test, reason)."""

    database: str
    code: int
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    skips: list[tuple[str, str]] = field(default_factory=list)

    def summary(self) -> str:
        counts = [(self.failed, "failed"), (self.passed, "passed"), (self.skipped, "skipped")]
        told = ", ".join(f"{count} {word}" for count, word in counts if count) or "no tests ran"
        return f" {self.database}: {told} in {self.seconds:.2f}s "


def main() -> int:
    # A CI system that ends the job sends SIGTERM: it is taken for Ctrl-C, so that everything is stopped and removed.
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = [*shlex.split(os.environ.get("ARGS", "")), *sys.argv[1:]]
    services_install()
    base = directory_make("onesource-test-")
    os.environ[BASE_VARIABLE] = str(base)
    try:
        outcomes = [suite_run("SQLite", base, arguments)]
        if available("postgres"):
            with postgres_running() as server:
                extra = {DATABASE_VARIABLE: server.url()}
                ignored = [f"--ignore={path}" for path in WITHOUT_DATABASE]
                outcomes.append(suite_run("PostgreSQL", base, [*ignored, *arguments], extra))
        uncovered = coverage_report(base, judged=not arguments)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    finally:
        for process in [*RUNNING]:
            process.stop()
        shutil.rmtree(base, ignore_errors=True)
    return conclude(outcomes, uncovered)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# Services


def services_install() -> None:
    building = build_start()
    packages_install()
    if building:
        build_wait(building)


def build_start() -> "subprocess.Popen[str] | None":
    """FerretDB, which takes a minute or two and is then kept; None when there is nothing to do or to do it with."""
    if available("mongo") or not go_at_hand():
        return None
    print("Building FerretDB for the tests (once) ...", flush=True)
    return subprocess.Popen(
        ["bash", str(BUILD_SCRIPT)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def build_wait(building: "subprocess.Popen[str]") -> None:
    try:
        _, printed = building.communicate(timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(building.pid, signal.SIGKILL)
        building.communicate()
        print(f"FerretDB was not built in {BUILD_SECONDS} s; going on without.", flush=True)
        return
    if building.returncode:
        print(f"FerretDB could not be built; going on without.\n{printed[-2000:]}", flush=True)


def packages_install() -> None:
    missing = [service for service in INSTALL if not available(service)]
    apt = shutil.which("apt-get")
    if not missing or apt is None or os.geteuid() != 0:
        return
    packages = [INSTALL[service] for service in missing]
    print(f"Installing {', '.join(packages)} for the tests ...", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    until = time.monotonic() + APT_SECONDS
    install = [apt, "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60", *packages]
    # First with the lists at hand: an update, in Debian's images, deletes the archives another apt-get is installing.
    if not _quiet(install, env, until):
        _lists_update(apt, env, until)
        _quiet(install, env, until)
    still = [INSTALL[service] for service in missing if not available(service)]
    if still:
        print(f"Could not install {', '.join(still)}; going on without.", flush=True)


def _lists_update(apt: str, env: Mapping[str, str], until: float) -> None:
    """Holds dpkg's lock meanwhile, so that no other apt-get installs; where there is no such lock, without."""
    with ExitStack() as held:
        with suppress(OSError):
            lock = held.enter_context(DPKG_LOCK.open("r+"))
            while not _locked(lock) and time.monotonic() < until:
                time.sleep(0.5)
        _quiet([apt, "update", "-qq"], env, until)


def _locked(lock: TextIO) -> bool:
    with suppress(BlockingIOError):
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _quiet(command: list[str], env: Mapping[str, str], until: float) -> bool:
    left = until - time.monotonic()
    if left <= 0:
        return False
    with suppress(subprocess.TimeoutExpired, OSError):
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=left, check=False
        )
        return done.returncode == 0
    return False


@contextmanager
def postgres_running() -> Iterator[PostgresServer]:
    server = postgres_start()
    try:
        yield server
    finally:
        server.stop()


# The suite


def suite_run(database: str, base: Path, arguments: list[str], extra: Mapping[str, str] | None = None) -> Outcome:
    round_directory = base / database.lower()
    round_directory.mkdir(mode=0o711)
    outcomes = round_directory / "outcomes.json"
    env = clean_environment() | {
        "COVERAGE_FILE": str(base / f".coverage.{database.lower()}"),
        "TEST_OUTCOMES": str(outcomes),
        BASE_VARIABLE: str(round_directory),
        **(extra or {}),
    }
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-q", "--cov", "--cov-report="]
    command += ["-o", f"faulthandler_timeout={HANG_SECONDS}", "-o", "faulthandler_exit_on_timeout=true", *arguments]
    print(f"\nThe suite on {database}:", flush=True)
    started = time.monotonic()
    code = _run_interruptible(command, env)
    outcome = Outcome(database, code, time.monotonic() - started)
    if outcomes.exists():
        for name, value in json.loads(outcomes.read_text(encoding="utf-8")).items():
            setattr(outcome, name, value)
    if code and not outcome.failed:
        # It broke before, after or beside the tests: that counts as one that failed.
        outcome.failed = 1
    return outcome


def _run_interruptible(command: list[str], env: Mapping[str, str]) -> int:
    """In a session of its own unless somebody sits at the terminal (for --pdb): one interrupt reaches pytest once."""
    terminal = sys.stdin is not None and sys.stdin.isatty()
    with subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=not terminal) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            if not terminal:
                child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(INTERRUPT_SECONDS)
            if child.poll() is None:
                child.terminate()
            raise


# Coverage


def coverage_report(base: Path, *, judged: bool) -> list[str]:
    """Prints the table, and returns the packages below the limit; none when ARGS chose the tests."""
    files = [str(path) for path in base.glob(".coverage.*")]
    env = clean_environment() | {"COVERAGE_FILE": str(base / ".coverage")}
    report = base / "coverage.json"
    for arguments in (["combine", "-q", *files], ["json", "-q", "-o", str(report)]):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"coverage {arguments[0]}: {done.stdout}{done.stderr}", flush=True)
            return ["coverage could not be measured"] if judged else []
    lines = _lines_by_package(json.loads(report.read_text(encoding="utf-8")))
    print(f"\n{'package':<12}{'lines':>8}{'covered':>10}{'percent':>10}")
    uncovered = []
    for package in PACKAGES:
        total, covered = lines.get(package, (0, 0))
        percent = 100 * covered / total if total else 0.0
        print(f"{package:<12}{total:>8}{covered:>10}{percent:>9.1f}%")
        if percent < COVERED_PERCENT:
            uncovered.append(f"{package} is covered to {percent:.1f} %, which is less than {COVERED_PERCENT} %")
    if not judged:
        print("Coverage is not judged: ARGS chose the tests.")
    return uncovered if judged else []


def _lines_by_package(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, tuple[int, int]]:
    lines: dict[str, tuple[int, int]] = {}
    for path, measured in report["files"].items():
        package = Path(path).parts[0]
        total, covered = lines.get(package, (0, 0))
        summary = measured["summary"]
        lines[package] = (total + summary["num_statements"], covered + summary["covered_lines"])
    return lines


# The end


def conclude(outcomes: list[Outcome], uncovered: list[str]) -> int:
    missing = [service for service in SERVICES if not available(service)]
    if missing:
        _not_run(outcomes, missing)
    for problem in uncovered:
        print(f"FAILED: {problem}.")
    for outcome in outcomes:
        print(outcome.summary().center(WIDTH, "="))
    passed, failed, skipped = (sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return int(any(outcome.code for outcome in outcomes) or bool(uncovered) or (bool(missing) and required()))


def _not_run(outcomes: list[Outcome], missing: list[str]) -> None:
    print("\n" + " NOT RUN ".center(WIDTH, "!"))
    for service in missing:
        reason = REASON.format(service=service)
        tests = sorted({test for outcome in outcomes for test, why in outcome.skips if reason in why})
        print(f"{service} is not installed: {len(tests)} tests did not run{':' if tests else '.'}")
        for test in tests:
            print(f"  {test}")
        if service == "postgres":
            print("  and the whole suite did not run on PostgreSQL.")
        if service in BUILT:
            print(f"  To run them: {BUILT[service]}, then make test")
        else:
            print(f"  To run them: apt-get install {INSTALL[service]} (or the package of your system), then make test")
    if required():
        print("REQUIRE_SERVICES is set: this is a failure.")
    print("!" * WIDTH + "\n")


if __name__ == "__main__":
    sys.exit(main())
