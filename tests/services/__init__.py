"""Real services for the tests: each is started in a directory of its own, on a free port, and stopped by its pid."""

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

INSTALL = {"redis": "redis-server", "postgres": "postgresql"}
# Built from source: no distribution has it.
BUILT = {"mongo": "Go 1.24 and a Go module proxy, or MONGO_TEST_URL with a MongoDB server's URL"}
SERVICES = (*INSTALL, *BUILT)
REASON = "needs {service}, which is not installed"
BUILD_SCRIPT = Path(__file__).parent / "ferretdb" / "build.sh"
MONGO_VARIABLE = "MONGO_TEST_URL"


def find_binary(*names: str) -> str | None:
    """Debian keeps PostgreSQL's servers off the PATH, one directory a version; Homebrew does so as well."""
    for name in names:
        if found := shutil.which(name):
            return found
    return None


def postgres_bin() -> Path | None:
    """The directory with initdb and postgres of the newest version at hand."""
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    homebrew = (
        path for prefix in ("/opt/homebrew/opt", "/usr/local/opt") for path in Path(prefix).glob("postgresql*/bin")
    )
    numbered = sorted(debian, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, reverse=True)
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    for directory in (*numbered, *on_path, *sorted(homebrew, reverse=True)):
        if os.access(directory / "initdb", os.X_OK) and os.access(directory / "postgres", os.X_OK):
            return directory
    return None


@lru_cache(maxsize=1)
def ferretdb_binary() -> Path:
    """Where tests/services/ferretdb/build.sh puts it."""
    told = subprocess.run(
        ["bash", str(BUILD_SCRIPT), "--where"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return Path(told.stdout.strip())


def go_at_hand() -> bool:
    return find_binary("go", "/usr/local/go/bin/go") is not None


def available(service: str) -> bool:
    """Of what is built: that it has been."""
    if service == "mongo":
        return bool(os.environ.get(MONGO_VARIABLE)) or os.access(ferretdb_binary(), os.X_OK)
    if service == "redis":
        return find_binary("redis-server", "valkey-server") is not None
    return postgres_bin() is not None


def required() -> bool:
    return os.environ.get("REQUIRE_SERVICES", "").lower() in ("1", "true", "yes", "on")


def need(service: str) -> None:
    """Skips the test when the service is not installed; fails it when REQUIRE_SERVICES says that it must be."""
    if available(service):
        return
    reason = REASON.format(service=service)
    if required():
        pytest.fail(f"{reason}, and REQUIRE_SERVICES is set", pytrace=False)
    pytest.skip(reason)
