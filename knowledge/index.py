"""The full-text index on local disk and the notes in memory, both of one version of the database.

Several worker processes start together and each may find the index behind. Whoever gets the lock file builds in a
directory of its own and renames it into place; nobody ever opens a directory that is still being written. A directory
that does not open is removed and built again. Readers keep the snapshot they have until the next one is whole.
"""

import fcntl
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import structlog
import tantivy
from django.conf import settings

from knowledge import selectors
from knowledge.learned import learned
from knowledge.lexicon import DATA, lexicon
from knowledge.matching import Matcher, Note
from knowledge.models import Passage
from knowledge.normalise import fold, words
from knowledge.reading import Reader
from knowledge.references import KnownReferences, references_find
from knowledge.spelling import Speller, word_counts
from onesource.collector import collector_spared

log = structlog.get_logger(__name__)
CHECK_SECONDS = 2.0
LOCK_WAIT_SECONDS = 60.0
FORMAT = "2"
"""Part of the directory's name: change it whenever what is written there changes."""
WRITER_BYTES = 30_000_000
ANALYZER = "onesource"


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: str
    index: tantivy.Index
    matcher: Matcher
    ids: tuple[int, ...]
    """The passages of the matcher's notes, in their order."""
    references: KnownReferences


class Holder:
    """The snapshot of this process. One thread refreshes while the others go on with the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._checked = 0.0

    def current(self) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is not None and time.monotonic() - self._checked < CHECK_SECONDS:
            return snapshot
        if not self._lock.acquire(blocking=snapshot is None):
            assert snapshot is not None
            return snapshot
        try:
            return self._refresh()
        finally:
            self._lock.release()

    def forget(self, *, broken: bool = False) -> None:
        """Look again at the next question; `broken`: and build the directory anew."""
        with self._lock:
            if broken and self._snapshot is not None:
                _remove(_directory(self._snapshot.version))
                self._snapshot = None
            self._checked = 0.0

    def _refresh(self) -> Snapshot:
        version = selectors.index_version()
        if self._snapshot is None or self._snapshot.version != version:
            started = time.monotonic()
            with collector_spared():
                self._snapshot = snapshot_read(version)
            log.info("knowledge_loaded", version=version, seconds=round(time.monotonic() - started, 2))
        self._checked = time.monotonic()
        return self._snapshot


_holder = Holder()
snapshot_current = _holder.current
snapshot_forget = _holder.forget


def snapshot_read(version: str) -> Snapshot:
    passages = list(selectors.passages_with_phrases())
    references = KnownReferences()
    for texts in selectors.reference_texts():
        for text in texts:
            for named in references_find(text):
                references.add(named)
    return Snapshot(
        version=version,
        index=index_open(version),
        matcher=_matcher(tuple(_note(passage) for passage in passages)),
        ids=tuple(passage.pk for passage in passages),
        references=references,
    )


@lru_cache(maxsize=2)
def _matcher(notes: tuple[Note, ...]) -> Matcher:
    """Learning takes seconds, and an ingested document changes nothing in it."""
    return learned(lambda: _learn(notes), depends_on=notes)


def _learn(notes: tuple[Note, ...]) -> Matcher:
    written = word_counts(
        words(fold(text)) for note in notes for text in (note.title, note.text, *note.subjects, *note.aspects)
    )
    asked = word_counts(words(fold(text)) for note in notes for text in note.asked_as)
    declined: list[str] = json.loads((DATA / "declined.json").read_text("utf-8"))
    return Matcher(notes, Reader(lexicon(), Speller(lexicon(), written, asked)), declined)


def _note(passage: Passage) -> Note:
    return Note(
        key=passage.key,
        title=passage.title,
        text=passage.text,
        reference=passage.reference,
        jurisdiction=passage.jurisdiction,
        clauses=tuple(passage.clauses),
        subjects=tuple(passage.subjects),
        aspects=tuple(passage.aspects),
        asked_as=tuple(passage.asked_as),
        not_answered=tuple(passage.not_answered),
    )


def _root() -> Path:
    return Path(settings.KNOWLEDGE_INDEX_DIR)


def _directory(version: str) -> Path:
    return _root() / f"{FORMAT}-{version}"


def index_open(version: str) -> tantivy.Index:
    directory = _directory(version)
    if opened := _open(directory):
        return opened
    _root().mkdir(parents=True, exist_ok=True)
    with _locked(_root() / ".lock"):
        # Another process may have built it while this one waited.
        if opened := _open(directory):
            return opened
        _remove(directory)
        _build(directory)
        _remove_others(directory)
    opened = _open(directory)
    if opened is None:
        raise OSError(f"the knowledge index in {directory} cannot be opened right after it was written")
    return opened


def _open(directory: Path) -> tantivy.Index | None:
    if not directory.is_dir():
        return None
    try:
        index = tantivy.Index.open(str(directory))
        index.register_tokenizer(ANALYZER, analyzer())
        searcher = index.searcher()
        # Reads a term dictionary and a posting list, so that a truncated file shows here and not in a question.
        searcher.search(tantivy.Query.term_query(index.schema, "kind", "pack"), 1)
    except (ValueError, OSError):
        log.warning("knowledge_index_broken", directory=str(directory))
        return None
    return index


def _build(directory: Path) -> None:
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=_root()))
    try:
        index = tantivy.Index(_schema(), path=str(building))
        index.register_tokenizer(ANALYZER, analyzer())
        writer = index.writer(heap_size=WRITER_BYTES, num_threads=1)
        for passage in selectors.passages_for_index():
            writer.add_document(_document(passage))
        writer.commit()
        writer.wait_merging_threads()
        building.rename(directory)
    finally:
        _remove(building)


def _document(passage: Passage) -> tantivy.Document:
    document = tantivy.Document()
    document.add_unsigned("passage", passage.pk)
    document.add_text("kind", passage.document.kind)
    document.add_text("heading", f"{passage.document.title} {passage.heading} {passage.title}")
    document.add_text("body", passage.text)
    document.add_text("asked", " . ".join([*passage.subjects, *passage.asked_as]))
    for clause in [passage.reference, *passage.clauses]:
        for named in references_find(clause):
            document.add_text("reference", named.key)
    return document


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("passage", stored=True)
    for name in ("kind", "reference"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in ("heading", "body", "asked"):
        builder.add_text_field(name, tokenizer_name=ANALYZER, index_option="freq")
    return builder.build()


def analyzer() -> tantivy.TextAnalyzer:
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(40))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An exclusive lock across processes.

    Polled rather than waited for: a blocking flock() would stop every greenlet of a gevent worker, where a sleep lets
    the others run.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} has been locked for {LOCK_WAIT_SECONDS:.0f} s") from None
                time.sleep(0.05)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def _remove_others(keep: Path) -> None:
    """Old versions, but not the one before: a process that has not looked yet may be about to open it."""
    with suppress(OSError):
        old = sorted(
            (path for path in _root().iterdir() if path.is_dir() and path != keep),
            key=lambda path: path.stat().st_mtime,
        )
        for path in old[:-1]:
            if not path.name.startswith(".building-") or time.time() - path.stat().st_mtime > 3600:
                _remove(path)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
