"""What stands around the answer: stream markers, the model's notes to itself, fences, and prose."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from chat.guard.bounds import sound
from chat.guard.events import Journal
from chat.guard.shapes import KNOWN

# Words around the answer up to this length are small talk and go; more of them may say something and are shown.
CHATTER_LIMIT = 400
ROOTS_TRIED = 3
# In a text this long only one more place is tried: each costs a parse of the rest.
LONG_TEXT = 64 * 1024
ENCODINGS_LIMIT = 3

_BOM = re.compile("(?:\ufeff|\u00ef\u00bb\u00bf)+")
_SSE_START = re.compile(r"\s*(?:(?:event|id|retry):[^\n]*\n|:[^\n]*\n)*data:")
_SSE_FIELD = re.compile(r"(?:event|id|retry):|:")
_THINK = re.compile(r"\s*<(think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)>", re.IGNORECASE)
_THINK_END = re.compile(
    r"</(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)>", re.IGNORECASE
)
_NAMES = "|".join(KNOWN)
_QUOTE = "[\"'\u201c\u201e\u201d\u2018\u2019`]"
_GAP = r"(?:[\s\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]++|//[^\n]{0,400}+\n|/\*[^*]{0,400}+\*/)*+"
_ROOT = re.compile(
    rf"\[{_GAP}\{{{_GAP}{_QUOTE}?(?=[A-Za-z_])(?:{_NAMES}){_QUOTE}?\s*+[:=]|\{{{_GAP}{_QUOTE}?(?=[A-Za-z_])(?:{_NAMES}){_QUOTE}?\s*+[:=]",
    re.IGNORECASE,
)
_OPENING = re.compile(rf"{_GAP}(?:```\w*+)?{_GAP}(?=[{{\[][^{{\[])")
_HEADLESS = re.compile(rf"\s*(?:```\w*\s*)?(?={_QUOTE}(?:title|summary|blocks){_QUOTE}\s*:)")
_FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*[\w+-]*[ \t]*|`{3,}")
_MARKER = re.compile(
    r"data:\s*\[DONE\]|\[DONE\]|data:(?=\s|\Z)|event:\s*\w+"
    r"|</?(?:answer|response|json|output|result|s)>|<\|[\w ]{1,30}\|>|<\uff5c[^\uff5c]{1,40}\uff5c>"
)
_WORD = re.compile(r"\w")
# Signs that text beside the answer is a piece of it, broken off, and no small talk.
_STRUCTURE = re.compile(r"[{}\[\]\"\u201c\u201d\\]|'\s*[:,]")


@dataclass(slots=True)
class Envelope:
    """`text` from `start` on is what the model said; the offsets are the raw text's when the journal's are."""

    text: str
    start: int
    dropped: list[str]


def opened(text: str, journal: Journal) -> Envelope:
    """Without byte order mark, stream markers and the model's notes to itself, each with its code."""
    dropped: list[str] = []
    start = 0
    if bom := _BOM.match(text):
        start = bom.end()
        journal.note("BOM", "", 0, start, after="")
        dropped.append(bom[0])
    if _SSE_START.match(text, start):
        joined = _unstreamed(text[start:])
        journal.note("SSE", "", start, len(text), before=text, after=joined)
        journal.attributable = False
        text, start = joined, 0
    end = _notes_end(text, start)
    if end > start:
        journal.note("THINK", "", start, end, before=text[start:end], after="")
        dropped.append(text[start:end])
        start = end
    return Envelope(text, start, dropped)


_HTML = re.compile(r"\s*+(?:<[^<>]{1,40}>\s*+){0,4}(?:`{3}\w*\s*+)?\{\s*+&(?:quot|#0*34|#x0*22);")
_URL = re.compile(r"\s*+%7[bB](?:%0[aAdD]|%20|\+)*+%22")
_ESCAPED_WHOLE = re.compile(r"\s*+\{(?:\s|\\[nrt])*+\\\"")
_STRING_WHOLE = re.compile(r"\"(?:\s|\\[nrt])*+(?:\{|\[|\\+\"|```)")
_TAG = re.compile(r"\s*+</?(?:pre|code|div|p|html|body|span)[^<>]{0,80}>\s*+")


def unwrapped(envelope: Envelope, journal: Journal) -> Envelope:
    """The same when the whole text was escaped more often than agreed: by HTML, as a web address, or as a string."""
    for _ in range(ENCODINGS_LIMIT):
        text = envelope.text[envelope.start :]
        code, plain = _plainer(text)
        if not code:
            break
        journal.note(code, "", envelope.start, len(envelope.text), before=text, after=plain)
        journal.attributable = False
        envelope = Envelope(sound(plain), 0, envelope.dropped)
    return envelope


def _plainer(text: str) -> tuple[str, str]:
    """(code, text with one layer of escapes less), or ("", "")."""
    if _HTML.match(text):
        return "HTML_ESCAPED", html.unescape(_TAG.sub("", text))
    if _URL.match(text):
        return "URL_ENCODED", unquote(text) if "%20" in text else unquote_plus(text)
    stripped = text.strip()
    if _STRING_WHOLE.match(stripped) and stripped.endswith('"'):
        inner = _as_string(stripped)
    elif _ESCAPED_WHOLE.match(text):
        inner = _as_string(f'"{stripped}"')
    else:
        inner = None
    return ("", "") if inner is None else ("DOUBLE_ENCODED", inner)


def _as_string(text: str) -> str | None:
    try:
        inner = json.loads(text, strict=False)
    except ValueError:
        return None
    return inner if isinstance(inner, str) else None


def _notes_end(text: str, start: int) -> int:
    """Where the model's notes to itself end: behind the tag that closes them; `start` when there are none."""
    end = start
    while found := _THINK.match(text, end):
        close = _THINK_END.search(text, found.end())
        if close is None:
            return end
        end = close.end()
    if end == start and text[start : start + 200].lstrip()[:1] not in tuple('{[`"'):
        # Some chat templates open the notes themselves, so that only the closing tag arrives.
        close = _THINK_END.search(text, start)
        root = _ROOT.search(text, start)
        if close is not None and (root is None or close.start() < root.start()):
            end = close.end()
    return end


def _unstreamed(text: str) -> str:
    """The payload of server-sent events: lines of one event by line feeds, events end to end (WHATWG HTML 9.2.6)."""
    parts: list[str] = []
    for event in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        lines = []
        for line in event.split("\n"):
            if line.startswith("data:"):
                lines.append(line[5:].removeprefix(" "))
            elif not _SSE_FIELD.match(line):
                lines.append(line)
        payload = "\n".join(lines)
        if payload.strip() != "[DONE]":
            parts.append(_delta(payload))
    return "".join(parts)


def _delta(payload: str) -> str:
    """The text of one chunk of a chat completion, or the payload itself."""
    if not payload.lstrip().startswith("{") or '"choices"' not in payload:
        return payload
    try:
        choice = json.loads(payload)["choices"][0]
        content = (choice.get("delta") or choice.get("message") or {}).get("content", choice.get("text"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return payload
    return content if isinstance(content, str) else ""


def roots(text: str, start: int) -> Iterator[int]:
    """Places where an answer may begin, the likeliest first."""
    opening = _OPENING.match(text, start)
    place = start
    if opening is not None:
        yield opening.end()
        place = opening.end() + 1
    for _ in range(ROOTS_TRIED if len(text) < LONG_TEXT else 1):
        found = _ROOT.search(text, place)
        if found is None:
            return
        yield found.start()
        place = found.start() + 1


def headless(text: str, start: int) -> int | None:
    """The place of an answer's first name when its opening bracket is missing."""
    found = _HEADLESS.match(text, start)
    return found.end() if found else None


def outside(text: str, start: int, end: int, code: str, journal: Journal) -> tuple[str, str]:
    """What of text[start:end], beside the answer, is to be shown, and what is left out: (shown, left out).

    Fences and markers go, small talk goes with `code`, anything longer is shown with OUTSIDE_TEXT.
    """
    passage = text[start:end]
    if not passage.strip():
        return "", passage
    bare = _MARKER.sub("", _FENCE.sub("", passage))
    if _FENCE.search(passage):
        journal.note("FENCE", "", start, end, before=passage, after=bare)
    if "data:" in passage or "[DONE]" in passage:
        journal.note("SSE", "", start, end, before=passage, after=bare)
    if not bare.strip():
        return "", passage
    if not _WORD.search(bare) or (len(bare.strip()) <= CHATTER_LIMIT and not _STRUCTURE.search(bare)):
        journal.note(code, "", start, end, before=passage, after="")
        return "", passage
    journal.note("OUTSIDE_TEXT", "", start, end, before=passage, after=bare.strip())
    return bare.strip(), passage
