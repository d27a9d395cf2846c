"""One reader a file format: bytes to lines, each with its heading level."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

import docx
import nh3
import pypdf
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml.etree import LxmlError  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from pypdf.errors import PyPdfError

MOST_PAGES = 5000
MOST_MEMBERS = 5000
LARGEST_UNPACKED = 200 * 1024 * 1024
# Deflate cannot do better than about 1:1000; real documents stay far below this.
HIGHEST_RATIO = 200
DEEPEST_HEADING = 6
_BLOCKS = frozenset(
    {"p", "li", "td", "th", "tr", "dd", "dt", "pre", "blockquote", "div", "section", "article", "br", "table"}
)
_HEADINGS = {f"h{level}": level for level in range(1, DEEPEST_HEADING + 1)}
_KEPT = (
    _BLOCKS
    | _HEADINGS.keys()
    | {
        "ul",
        "ol",
        "dl",
        "tbody",
        "thead",
        "main",
        "body",
        "span",
        "b",
        "i",
        "em",
        "strong",
        "a",
        "code",
        "sub",
        "sup",
    }
)
# Text and PDF have no marked headings: numbered titles, clause titles and lines in capitals are taken for them.
_TITLE_LINE = re.compile(
    r"(?P<hashes>#{1,6})\s+\S"
    r"|(?P<part>(?:Part|Section|Chapter|Schedule|Appendix|Specification)\s+[A-Z0-9][\w.]{0,8}\b.{0,100}$)"
    r"|(?P<clause>[A-J]\d{1,2}[A-Z]\d{1,2}\s+[A-Z].{2,90}$)"
    r"|(?P<number>\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+[A-Z][^.]{2,90}$"
    r"|(?P<capitals>[A-Z][A-Z0-9 ,&/()-]{5,80}$)"
)
# What pypdf raises on damaged files besides its own errors.
_PDF_ERRORS = (
    PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError,
    ZeroDivisionError, AssertionError, NotImplementedError, EOFError, OSError, struct.error, zlib.error,
)  # fmt: skip


class ExtractionError(Exception):
    """Why a file cannot be ingested, in words fit to show."""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    level: int = 0
    """0 for text, 1 to 6 for a heading."""


def decoded(content: bytes) -> str:
    for encoding in ["utf-16"] if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8-sig", "cp1252"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.count("\x00") + sum(text.count(chr(code)) for code in range(1, 9)) > len(text) // 1000:
            break
        return text
    raise ExtractionError("is not text in UTF-8, UTF-16 or Windows-1252")


def text_lines(content: bytes) -> Iterator[Line]:
    yield from _plain(decoded(content))


def _plain(text: str) -> Iterator[Line]:
    """Paragraphs are parted by empty lines; a title line stands alone."""
    paragraph: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        level = _title_level(stripped) if stripped else 0
        if not stripped or level:
            if paragraph:
                yield Line(" ".join(paragraph))
                paragraph = []
            if level:
                yield Line(stripped.lstrip("# "), level)
        else:
            paragraph.append(stripped)
    if paragraph:
        yield Line(" ".join(paragraph))


def _title_level(line: str) -> int:
    match = _TITLE_LINE.match(line) if len(line) <= 120 else None
    if match is None:
        return 0
    if match["hashes"]:
        return len(match["hashes"])
    if match["part"] or match["capitals"]:
        return 1
    if match["clause"]:
        return 2
    return min(DEEPEST_HEADING, 2 + match["number"].count("."))


def markdown_lines(content: bytes) -> Iterator[Line]:
    level = 0
    cells: list[str] = []
    in_row = False
    # html is off and nesting is bounded by the parser itself (maxNesting).
    for token in MarkdownIt("commonmark", {"html": False}).enable("table").parse(decoded(content)):
        if token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "heading_close":
            level = 0
        elif token.type == "tr_open":
            in_row, cells = True, []
        elif token.type == "tr_close":
            in_row = False
            yield Line(" | ".join(cells))
        elif token.type == "inline":
            text = "".join(child.content if child.type != "softbreak" else " " for child in token.children or ())
            if in_row:
                cells.append(text)
            else:
                yield Line(text, level)
        elif token.type in {"fence", "code_block"}:
            yield Line(token.content)


class _Gatherer(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self._parts: list[str] = []
        self._level = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HEADINGS:
            self.close_line()
            self._level = _HEADINGS[tag]
        elif tag in {"td", "th"} and any(part.strip() for part in self._parts):
            self._parts.append(" | ")
        elif tag in _BLOCKS:
            self.close_line()

    def handle_endtag(self, tag: str) -> None:
        if tag in _HEADINGS or (tag in _BLOCKS and tag not in {"td", "th"}):
            self.close_line()

    def handle_data(self, data: str) -> None:
        self._parts.append(data)

    def close_line(self) -> None:
        text = " ".join("".join(self._parts).split())
        if text:
            self.lines.append(Line(text, self._level))
        self._parts, self._level = [], 0


def html_lines(content: bytes) -> Iterator[Line]:
    # Reduced to known tags first, so that scripts, styles and comments are gone before anything is read as text.
    cleaned = nh3.clean(
        decoded(content),
        tags=set(_KEPT),
        attributes={},
        clean_content_tags={"script", "style", "head", "title", "template", "noscript"},
    )
    gatherer = _Gatherer()
    gatherer.feed(cleaned)
    gatherer.close()
    gatherer.close_line()
    yield from gatherer.lines


def pdf_lines(content: bytes) -> Iterator[Line]:
    try:
        document = pypdf.PdfReader(io.BytesIO(content))
        if document.is_encrypted and not document.decrypt(""):
            raise ExtractionError("is encrypted; save it without a password first")
        if len(document.pages) > MOST_PAGES:
            raise ExtractionError(f"has {len(document.pages)} pages, over the limit of {MOST_PAGES}")
        for page in document.pages:
            yield from _plain(page.extract_text())
    except _PDF_ERRORS as error:
        raise ExtractionError(f"is not a PDF that can be read ({error.__class__.__name__})") from error


def docx_lines(content: bytes) -> Iterator[Line]:
    _check_archive(content)
    try:
        document = docx.Document(io.BytesIO(content))
        for block in document.iter_inner_content():
            yield from _docx_table(block) if isinstance(block, Table) else _docx_paragraph(block)
    except (
        OpcError,
        LxmlError,
        KeyError,
        ValueError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
        RecursionError,
    ) as error:
        raise ExtractionError(f"is not a DOCX that can be read ({error.__class__.__name__})") from error


def _check_archive(content: bytes) -> None:
    """What the archive claims to unpack to. Python's zipfile stops reading a member at the claimed size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ExtractionError("is not a DOCX: not a ZIP archive") from error
    if any(member.flag_bits & 1 for member in members):
        raise ExtractionError("is encrypted; save it without a password first")
    unpacked = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or unpacked > LARGEST_UNPACKED or unpacked > HIGHEST_RATIO * len(content):
        raise ExtractionError("unpacks to far more than a document would")
    if "word/document.xml" not in {member.filename for member in members}:
        raise ExtractionError("is not a DOCX: there is no document in the archive")


def _docx_paragraph(paragraph: Paragraph) -> Iterator[Line]:
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    match = re.match(r"Heading (\d)", style)
    level = min(DEEPEST_HEADING, int(match.group(1))) if match else int(style == "Title")
    yield Line(paragraph.text, level)


def _docx_table(table: Table) -> Iterator[Line]:
    for row in table.rows:
        yield Line(" | ".join(cell.text.strip() for cell in row.cells))
