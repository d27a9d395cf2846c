"""The environment of a test run. Loaded by `-p tests.environment` (pyproject), before Django reads its settings.

What the caller has set for the product must not reach the tests, and nothing a test does may reach the caller's `var/`.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Set by tests/run.py: where all that the run leaves behind is put, and the database of its second round.
BASE_VARIABLE = "TEST_VAR_DIR"
DATABASE_VARIABLE = "TEST_DATABASE_URL"
# Read by libraries rather than by our own code.
OTHERS = frozenset({"DJANGO_SETTINGS_MODULE", "GUNICORN_CMD_ARGS", "PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY"})
READERS = ("onesource/settings.py", "flags/registry.py", "deploy/gunicorn.conf.py", "deploy/run.py")
READ = re.compile(r"""(?:\benv\.\w+|\bRegistered|environ\.get)\(\s*"([A-Z][A-Z0-9_]+)\"""")


def product_variables() -> frozenset[str]:
    """Every variable the product reads, taken from its source: a list kept by hand would fall behind."""
    found = {name for path in READERS for name in READ.findall((ROOT / path).read_text(encoding="utf-8"))}
    return frozenset(found | {f"{name}_FILE" for name in found} | OTHERS)


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` without what configures the product or libpq (PGHOST, PGSERVICE, ...)."""
    product = product_variables()
    return {name: value for name, value in environ.items() if name not in product and not name.startswith("PG")}


def directory_make(prefix: str) -> Path:
    """A new directory that other users can pass through, not read: PostgreSQL does not run as root."""
    parent = Path(tempfile.gettempdir())
    if os.geteuid() == 0 and not all(part.stat().st_mode & 0o001 for part in (parent, *parent.parents)):
        parent = Path("/tmp")
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    made.chmod(0o711)
    return made


def base_directory() -> Path:
    """The directory of this run, shared by its xdist workers, removed by the process that made it."""
    if BASE_VARIABLE not in os.environ:
        made = directory_make("onesource-test-")
        maker = os.getpid()
        os.environ[BASE_VARIABLE] = str(made)
        atexit.register(lambda: os.getpid() == maker and shutil.rmtree(made, ignore_errors=True))
    return Path(os.environ[BASE_VARIABLE])


def environment_prepare() -> None:
    for name in os.environ.keys() - clean_environment().keys():
        del os.environ[name]
    # One for each xdist worker: its secrets, its index, its SQLite file.
    var = base_directory() / os.environ.get("PYTEST_XDIST_WORKER", "main")
    var.mkdir(exist_ok=True, mode=0o711)
    # WhiteNoise warns of a missing directory, and nothing is collected here.
    (var / "static").mkdir(exist_ok=True)
    os.environ["VAR_DIR"] = str(var)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(var / "hypothesis")
    if url := os.environ.get(DATABASE_VARIABLE):
        os.environ["DATABASE_URL"] = url


if "PYTEST_VERSION" in os.environ:
    environment_prepare()
