"""The inside of a string literal, decoded as its writer meant it: JSON's escapes, and those that JSON lacks."""

import re
from collections.abc import Callable

from chat.guard.safety import ESCAPE_OF, REPLACEMENT, in_doubt, literals_mended, restored, softened

_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", '"': '"'}
# Runs of escaped backslashes or quotes are one match: a reply of nothing else must not cost a call for each.
_ESCAPE = re.compile(
    r"""(?P<same>(?:\\\\)+|(?:\\")+|(?:\\n)+)
    |\\u(?P<pair>[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})
    |\\(?:u(?P<unit>[0-9a-fA-F]{4})|u\{(?P<braced>[0-9a-fA-F]{1,6})\}|U(?P<long>[0-9a-fA-F]{8})|x(?P<byte>[0-9a-fA-F]{2}))
    |\\(?P<other>[\s\S]?)""",
    re.VERBOSE,
)
_RAW_CONTROL = re.compile(r"[\x00-\x1f]")
# Characters behind a backslash that need none: the backslash was meant for the quotes around, and goes.
_NEEDLESS = frozenset("'`\u2018\u2019\u201c\u201d")
_PARTIAL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*+(\\(?:u[0-9a-fA-F]{0,3})?)\Z")


# Signs that the writer did not escape backslashes at all: one before a letter or digit that JSON has no escape for.
_UNESCAPED = re.compile(r"(?<!\\)(?:\\\\)*+\\(?:[ac-eg-mo-qsv-zA-Z0-9]|u(?![0-9a-fA-F]{4}|\{)|x(?![0-9a-fA-F]{2}))")
_DOUBLED_LETTER = re.compile(r"\\\\[A-Za-z]")
# A share's path in which only the first backslashes look escaped: \\server\share\new (or three of them).
_SHARE = re.compile(r"(?<![\\\w:])\\{2,3}(?!\\)[\w.-]+(?:\\(?!\\)[\w.$-]+)++")
# Where a backslash before punctuation is not Markdown's: in mathematics, and before brackets in what may be some.
_MATHS = re.compile(r"\$[^$\n]{0,200}(?:\\[A-Za-z]|\^|_\{)[^$\n]{0,200}\$")
_BRACKETED_MATHS = re.compile(r"\\[(\[{][^()\n]{0,80}[=^]")
# A control character right behind a backslash was one as well: the second of two that were to be four.
_BEHIND_BACKSLASH = re.compile(r"(?<=\\)[\n\t\r](?=\w)")
_BACKTICKS = re.compile(r"`+")
_FENCE_LINE = re.compile(r"(?:\A|\n|(?<!\\)(?:\\\\)*+\\n)[ >]{0,12}(?P<mark>`{3,}|~{3,})(?P<rest>[^\n\\]*+)")
BACKTICKS_LIMIT = 200
# Not the pipe: in a table written as text, the one with a backslash is part of a cell.
_MARKDOWN_ESCAPE = frozenset("_.()-#*!+~<>&%:;,?@[]{} ")


def decoded(body: str, *, is_code: bool = False) -> tuple[str, list[str]]:
    """The text that the literal's body stands for, and the codes of what it took. Any input is accepted."""
    codes: list[str] = []
    raw_control = _RAW_CONTROL.search(body) is not None
    # What stands in the body as such was meant so; only what an escape was read as may be a swallowed backslash.
    text = body = softened(body) if raw_control else body
    if "\\" in body:
        text = _unescaped(body, codes, is_code=is_code)
        if is_code and ("BAD_ESCAPE" in codes or "\b" in text or "\f" in text):
            text = literals_mended(text)
    if raw_control:
        codes.append("RAW_CONTROL")
    meant = restored(text)
    if meant != text:
        codes.append("CTRL_RESTORED")
        text = meant
    if codes and _is_ambiguous(body, text, codes, is_code=is_code):
        codes.append("AMBIGUOUS")
    return text, list(dict.fromkeys(codes))


def _is_ambiguous(body: str, text: str, codes: list[str], *, is_code: bool) -> bool:
    """Whether a writer who left some backslashes unescaped may have done so where JSON has an escape for them."""
    careless = _UNESCAPED.search(body) or (is_code and "BAD_ESCAPE" in codes)
    if not careless and "CTRL_RESTORED" not in codes:
        return False
    doubled = careless and "\\\\" in body and not _SHARE.search(body)
    return bool(doubled) or in_doubt(text)


_SWALLOWED_SHARE = re.compile(r"\\\\(?<![\\\w:]\\\\)\\?(?!\\)[\w.-]+(?:\\(?!\\)[\w.$-]+)*?\\[bft](?!\\)[\w.$-]+")


def swallowed_share(text: str) -> bool:
    """Whether JSON that parses spells a share's path without escapes, so that it does not say what is meant."""
    return "\\\\" in text and "$" not in text and _SWALLOWED_SHARE.search(text) is not None


def _unescaped(body: str, codes: list[str], *, is_code: bool) -> str:
    if "$" not in body and _SHARE.search(body):
        codes.append("BAD_ESCAPE")
        body = _SHARE.sub(lambda found: "\\" * 4 + found[0].lstrip("\\").replace("\\", "\\\\"), body)
    raw = bool(_UNESCAPED.search(body))
    literal = raw and not _DOUBLED_LETTER.search(body)
    literary = not (raw or is_code or _MATHS.search(body) or _BRACKETED_MATHS.search(body))
    spans = _code_spans(body) if literary else []
    text = _ESCAPE.sub(_replacer(codes, careless=raw, literal=literal, literary=literary, spans=spans), body)
    if raw or (is_code and "BAD_ESCAPE" in codes):
        text = _BEHIND_BACKSLASH.sub(lambda found: ESCAPE_OF[found[0]], text)
    return text


def _code_spans(body: str) -> list[tuple[int, int]]:
    """Where code stands by CommonMark's rules: fenced blocks first, then spans between runs of equal length."""
    if "`" not in body and "~~~" not in body:
        return []
    fences = list(_FENCE_LINE.finditer(body))
    if len(fences) > BACKTICKS_LIMIT:
        return [(0, len(body))]
    blocks = _fenced(fences, len(body))
    runs = [run for run in _BACKTICKS.finditer(body) if not any(a <= run.start() < b for a, b in blocks)]
    if len(runs) > BACKTICKS_LIMIT:
        return [(0, len(body))]
    spans, index = blocks, 0
    while index < len(runs):
        length = len(runs[index][0])
        close = next((n for n in range(index + 1, len(runs)) if len(runs[n][0]) == length), None)
        if close is None:
            index += 1
            continue
        spans.append((runs[index].start(), runs[close].end()))
        index = close + 1
    return spans


def _fenced(lines: list[re.Match[str]], end: int) -> list[tuple[int, int]]:
    """From an opening fence to the one that closes it, or to the end of the text (CommonMark 0.31 section 4.5)."""
    blocks: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for line in lines:
        mark, rest = line["mark"], line["rest"]
        if opened is None:
            opened = line if mark[0] == "~" or "`" not in rest else None
        elif mark.startswith(opened["mark"]) and not rest.strip():
            blocks.append((opened.start(), line.end()))
            opened = None
    return [*blocks, (opened.start(), end)] if opened is not None else blocks


def _replacer(
    codes: list[str], *, careless: bool, literal: bool, literary: bool, spans: list[tuple[int, int]]
) -> Callable[[re.Match[str]], str]:
    """`careless`: the writer left backslashes unescaped. `literal`: two of them are two. `literary`: one before
    punctuation is Markdown's, and goes, but not in `spans`.
    """

    def in_code(place: int) -> bool:
        return any(start < place < end for start, end in spans)

    def replaced(found: re.Match[str]) -> str:
        same = found["same"]
        if same:
            # An odd run ends in an escape of its own; only a run of pairs can be meant literally.
            alone = literal and same[1] == "\\" and found.string[found.end() : found.end() + 1] != "\\"
            return same if alone else _SIMPLE[same[1]] * (len(same) // 2)
        if found["pair"]:
            high, low = int(found["pair"][:4], 16), int(found["pair"][6:], 16)
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        if found["unit"]:
            return _character(int(found["unit"], 16), codes)
        if found["other"] is not None:
            if careless and found["other"] == "`":
                codes.append("BAD_ESCAPE")
                return found[0]
            return _other(found["other"], codes, literary=literary and not in_code(found.start()))
        codes.append("BAD_ESCAPE")
        return _character(int(found["braced"] or found["long"] or found["byte"], 16), codes)

    return replaced


def _character(point: int, codes: list[str]) -> str:
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        codes.append("SURROGATE")
        return REPLACEMENT
    return chr(point)


def _other(character: str, codes: list[str], *, literary: bool) -> str:
    if character in _SIMPLE:
        return _SIMPLE[character]
    codes.append("BAD_ESCAPE")
    needless = character in _NEEDLESS or (literary and character in _MARKDOWN_ESCAPE)
    return character if needless else "\\" + character


def without_partial_escape(body: str) -> str:
    """For a text that was cut off: an escape at its very end that is not complete stands for nothing yet."""
    found = _PARTIAL_ESCAPE.search(body, max(0, len(body) - 4000))
    return body[: found.start(1)] if found else body
