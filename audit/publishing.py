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
# Of the directory: a clock that was wrong once may have made a day that sorts last.
DAYS_READ, FILES_READ = 3, 3


class LogForked(Exception):
    """A published checkpoint does not fit the log in the database."""


def checkpoints_publish() -> None:
    """Hands the newest checkpoint to each configured place that does not have it. A failure is counted and logged, and
    made good at the next call. Raises LogForked: an older state must not replace a newer one."""
    newest = checkpoint_latest()
    if newest is None:
        return
    if settings.AUDIT_CHECKPOINT_DIR and not _holds(Path(settings.AUDIT_CHECKPOINT_DIR) / LATEST, newest.note):
        published_check()
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
            f"{problem} Nothing is sealed. Put the right database back; or, if what it lost is lost for good, put the "
            "present key (manage.py audit checkpoint --keys) into AUDIT_VERIFY_KEYS and start a new log by another "
            "AUDIT_LOG_ORIGIN."
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
    """The largest that can be read, under our origin and a trusted key, of latest.txt and the newest dated files.

    latest.txt alone would not do: without it, or with an older one put in its place, a second history could begin.
    """
    if not settings.AUDIT_CHECKPOINT_DIR:
        return None
    directory = Path(settings.AUDIT_CHECKPOINT_DIR)
    found = [_published(directory / LATEST)]
    for day in sorted(directory.glob("[0-9]*"), reverse=True)[:DAYS_READ]:
        newest = sorted(day.glob("*.txt"), reverse=True)[:FILES_READ]
        found += next(([read] for path in newest if (read := _published(path))), [])
    return max(filter(None, found), key=lambda checkpoint: checkpoint.size, default=None)


def _published(path: Path) -> notes.Checkpoint | None:
    try:
        found = checkpoint_read(path)
    except FileNotFoundError:
        return None
    except (OSError, NoteError) as error:
        # Whoever can spoil a file must not be able to stop the sealing by it; verify names it.
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
    """Raises OSError, also when there is no directory: a share that is not mounted must not become a local folder."""
    path = directory / f"{checkpoint.at:%Y-%m-%d}" / f"{checkpoint.size:012}.txt"
    path.parent.mkdir(exist_ok=True)
    if not _holds(path, checkpoint.note):
        try:
            _write(path, checkpoint.note, replace=False)
        except FileExistsError as error:
            # Spoilt: one of another history would have been found before. It stays for whoever looks into it.
            _failed("directory", error)
    _write(directory / LATEST, checkpoint.note, replace=True)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Whole or not at all, also at a loss of power. Raises FileExistsError instead of replacing a dated file."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    made = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        made.chmod(0o644)
        if replace:
            made.replace(path)
        else:
            _name(made, path)
    finally:
        made.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _name(made: Path, path: Path) -> None:
    try:
        path.hardlink_to(made)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links.
        if path.exists():
            raise FileExistsError(path) from None
        made.replace(path)


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
