"""Checkpoints outside the database: in a directory and at a webhook. Only they can show that all of it was replaced.

The directory holds `latest.txt` and one file for each published checkpoint under its day. It belongs on another machine
or on storage that cannot be overwritten.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import structlog
from django.conf import settings
from django.utils import timezone

from audit import metrics, notes
from audit.merkle import ProofError, root_at
from audit.models import Checkpoint, Publication
from audit.notes import NoteError
from audit.signing import verifiers
from audit.tiles import TileError
from audit.tree import checkpoint_latest, reader

log = structlog.get_logger(__name__)
LATEST = "latest.txt"
WEBHOOK_SECONDS = 5.0
NOTE_BYTES = 10_000


class LogForked(Exception):
    """A published checkpoint does not fit the log in the database."""


def checkpoints_publish() -> None:
    """Hands the newest checkpoint to each configured place that does not have it. A failure is counted and logged, and
    made good at the next call. Raises LogForked: an older state must not replace a newer one."""
    newest = checkpoint_latest()
    if newest is None:
        return
    published_check()
    if settings.AUDIT_CHECKPOINT_DIR:
        try:
            _directory_publish(newest, Path(settings.AUDIT_CHECKPOINT_DIR))
        except OSError as error:
            _failed("directory", error)
    if settings.AUDIT_CHECKPOINT_WEBHOOK:
        try:
            _webhook_publish(newest, settings.AUDIT_CHECKPOINT_WEBHOOK)
        except httpx.HTTPError as error:
            _failed("webhook", error)


def published_check() -> None:
    """Raises LogForked when the last checkpoint in the directory says something else than the log."""
    published = published_latest()
    if published is None:
        return
    problem = checkpoint_conflict(published)
    metrics.FORKED.set(bool(problem))
    if problem:
        log.error("audit.log_forked", size=published.size)
        raise LogForked(
            f"{problem} Nothing is sealed. Put the right database back; or, if what it lost is lost for good, start a "
            "new log by another AUDIT_LOG_ORIGIN."
        )


def checkpoint_conflict(published: notes.Checkpoint) -> str:
    """Why a checkpoint under a good signature does not fit the log; "" when it does."""
    newest = checkpoint_latest()
    size = newest.size if newest else 0
    if published.size > size:
        return f"A checkpoint of {published.size} events was published, and the log has only {size}."
    row = Checkpoint.objects.filter(size=published.size).first()
    try:
        root = bytes(row.root) if row else root_at(published.size, reader(published.size).subtree)
    except (TileError, ProofError) as error:
        return f"The log at {published.size} events cannot be computed: {error}."
    return "" if root == published.root else f"The published checkpoint of {published.size} events has another root."


def published_latest() -> notes.Checkpoint | None:
    """The last one in the directory under our origin and a trusted key; None without one."""
    if not settings.AUDIT_CHECKPOINT_DIR:
        return None
    path = Path(settings.AUDIT_CHECKPOINT_DIR) / LATEST
    try:
        found = checkpoint_read(path)
    except FileNotFoundError:
        return None
    except (OSError, NoteError) as error:
        # Whoever can spoil the file must not be able to stop the sealing by it; verify names it.
        _failed("directory", error)
        return None
    return found if found.origin == settings.AUDIT_LOG_ORIGIN else None


def checkpoint_read(path: Path) -> notes.Checkpoint:
    """Raises OSError, and NoteError for what is no checkpoint under a trusted key."""
    with path.open("rb") as file:
        note = file.read(NOTE_BYTES)
    try:
        text, _ = notes.note_open(note.decode("utf-8"), verifiers())
    except UnicodeDecodeError:
        raise NoteError("the file is not UTF-8") from None
    return notes.Checkpoint.parse(text)


def published_files() -> Iterator[Path]:
    """All files of published checkpoints, the newest state of each first by day."""
    if settings.AUDIT_CHECKPOINT_DIR:
        directory = Path(settings.AUDIT_CHECKPOINT_DIR)
        yield from sorted([*directory.glob("[0-9]*/*.txt"), *directory.glob(LATEST)])


def _directory_publish(checkpoint: Checkpoint, directory: Path) -> None:
    path = directory / f"{checkpoint.at:%Y-%m-%d}" / f"{checkpoint.size:012}.txt"
    if path.exists() and _holds(directory / LATEST, checkpoint.note):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, checkpoint.note)
    _write(directory / LATEST, checkpoint.note)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _write(path: Path, text: str) -> None:
    """Whole or not at all, also at a loss of power."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _webhook_publish(checkpoint: Checkpoint, url: str) -> None:
    if Publication.objects.filter(target="webhook", size__gte=checkpoint.size).exists():
        return
    response = httpx.post(
        url,
        content=checkpoint.note.encode(),
        headers={"Content-Type": "text/plain; charset=utf-8"},
        timeout=WEBHOOK_SECONDS,
    )
    response.raise_for_status()
    Publication.objects.update_or_create(target="webhook", defaults={"size": checkpoint.size, "at": timezone.now()})


def _failed(target: str, error: Exception) -> None:
    metrics.PUBLISH_FAILURES.labels(target).inc()
    log.warning("audit.not_published", target=target, cause=type(error).__name__)
