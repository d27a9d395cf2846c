"""Files people ingest, read into passages. Every file is untrusted: bounded in size, depth and what it unpacks to."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from knowledge.readers import ExtractionError, Line, docx_lines, html_lines, markdown_lines, pdf_lines, text_lines

LARGEST_FILE = 50 * 1024 * 1024
LARGEST_TEXT = 20_000_000
LONGEST_PASSAGE = 1200
_READERS: dict[str, Callable[[bytes], Iterator[Line]]] = {
    ".md": markdown_lines,
    ".markdown": markdown_lines,
    ".txt": text_lines,
    ".text": text_lines,
    ".html": html_lines,
    ".htm": html_lines,
    ".pdf": pdf_lines,
    ".docx": docx_lines,
}
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_SPACES = re.compile(r"[^\S\n]+")


@dataclass(frozen=True, slots=True)
class Piece:
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class ExtractedDocument:
    title: str
    content_hash: str
    pieces: list[Piece]


def suffixes() -> frozenset[str]:
    return frozenset(_READERS)


def document_extract(path: Path) -> ExtractedDocument:
    """Raises ExtractionError, whose message is a reason fit to show."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ExtractionError(
            f"{path.suffix or 'a file without an ending'} is not a kind that can be read; "
            f"{', '.join(sorted(_READERS))} are"
        )
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise ExtractionError(f"{size / 1e6:.0f} MB is over the limit of {LARGEST_FILE // 1024 // 1024} MB")
        content = path.read_bytes()
    except OSError as error:
        raise ExtractionError(f"cannot be opened: {error.strerror or error.__class__.__name__}") from error
    if not content.strip():
        raise ExtractionError("is empty")
    pieces = list(_pieces(_bounded(reader(content))))
    if not pieces:
        raise ExtractionError("holds no text; a scan needs text recognition first")
    first = pieces[0].heading.split(" > ")[0]
    return ExtractedDocument(first or path.stem, hashlib.sha256(content).hexdigest(), pieces)


def _bounded(lines: Iterable[Line]) -> Iterator[Line]:
    total = 0
    for line in lines:
        text = _SPACES.sub(" ", _UNPRINTABLE.sub("", line.text)).strip()
        total += len(text)
        if total > LARGEST_TEXT:
            raise ExtractionError(f"holds over {LARGEST_TEXT // 1_000_000} million characters of text")
        if text:
            yield Line(text, line.level)


def _pieces(lines: Iterable[Line]) -> Iterator[Piece]:
    """Lines gathered under their heading path, cut at paragraphs where they can be."""
    path: list[tuple[int, str]] = []
    gathered: list[str] = []
    for line in lines:
        if line.level:
            yield from _cut(path, gathered)
            gathered = []
            path = [(level, title) for level, title in path if level < line.level] + [(line.level, line.text[:200])]
        else:
            gathered.append(line.text)
    yield from _cut(path, gathered)


def _cut(path: list[tuple[int, str]], paragraphs: list[str]) -> Iterator[Piece]:
    heading = " > ".join(title for _, title in path)
    current = ""
    for paragraph in (part for whole in paragraphs for part in _short_enough(whole)):
        if current and len(current) + len(paragraph) + 1 > LONGEST_PASSAGE:
            yield Piece(heading, current)
            current = ""
        current = f"{current}\n{paragraph}" if current else paragraph
    if current:
        yield Piece(heading, current)


def _short_enough(paragraph: str) -> Iterator[str]:
    """At sentence ends, and a sentence without end at spaces or anywhere."""
    if len(paragraph) <= LONGEST_PASSAGE:
        yield paragraph
        return
    current = ""
    for sentence in _SENTENCE_END.split(paragraph):
        while len(sentence) > LONGEST_PASSAGE:
            cut = sentence.rfind(" ", 0, LONGEST_PASSAGE)
            cut = cut if cut > LONGEST_PASSAGE // 2 else LONGEST_PASSAGE
            if current:
                yield current
                current = ""
            yield sentence[:cut]
            sentence = sentence[cut:].lstrip()
        if current and len(current) + len(sentence) + 1 > LONGEST_PASSAGE:
            yield current
            current = ""
        current = f"{current} {sentence}" if current else sentence
    if current:
        yield current
