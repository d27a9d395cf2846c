"""What the matcher has learned from the notes, kept on disk: each worker that starts would learn it again, for seconds.

The file is named by all that it depends on, and authenticated with a key derived from SECRET_KEY before it is
unpickled: only what this installation wrote is ever loaded.
"""

import hashlib
import hmac
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.utils.crypto import salted_hmac

from onesource.collector import collector_off

log = structlog.get_logger(__name__)
T = TypeVar("T")
PREFIX = "learned-"
KEPT_FILES = 2
MAC_BYTES = 32


def learned(learn: Callable[[], T], *, depends_on: object) -> T:
    """The result of `learn`, from disk when it was learned before from the same. A disk that fails costs only time."""
    path = _path(depends_on)
    found: T | None = _load(path)
    if found is None:
        found = learn()
        _store(path, found)
    return found


def _path(depends_on: object) -> Path:
    digest = hashlib.sha256(repr((sys.version_info[:3], depends_on)).encode("utf-8", "surrogatepass"))
    package = Path(__file__).parent
    # Code and data alike: what either learns is another's.
    for source in sorted([*package.glob("*.py"), *(package / "data").rglob("*")]):
        if source.is_file():
            digest.update(source.read_bytes())
    return Path(settings.KNOWLEDGE_INDEX_DIR) / f"{PREFIX}{digest.hexdigest()[:32]}"


def _mac(data: bytes) -> bytes:
    key = salted_hmac("onesource.knowledge.learned", b"", algorithm="sha256").digest()
    return hmac.digest(key, data, "sha256")


def _load(path: Path) -> Any:
    with suppress(OSError):
        kept = path.read_bytes()
        if not hmac.compare_digest(kept[:MAC_BYTES], _mac(kept[MAC_BYTES:])):
            log.warning("knowledge.learned_not_ours", file=path.name)
            return None
        with collector_off():
            return pickle.loads(kept[MAC_BYTES:])  # noqa: S301  (authenticated above)
    return None


def _store(path: Path, found: object) -> None:
    try:
        data = pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{PREFIX}")
        with os.fdopen(descriptor, "wb") as file:
            file.write(_mac(data) + data)
        Path(temporary).replace(path)
    except OSError as error:
        log.warning("knowledge.learned_not_kept", cause=type(error).__name__)
        return
    older = sorted(path.parent.glob(f"{PREFIX}*"), key=lambda kept: kept.stat().st_mtime)[:-KEPT_FILES]
    for old in older:
        with suppress(OSError):
            old.unlink()
