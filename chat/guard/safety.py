"""Characters that cannot be shown safely, backslashes that JSON swallowed, and links that must not be followed.

Every function takes one text and gives it back unchanged when there is nothing to do; each is idempotent. Rules for
invisible characters follow Unicode TR 36 and TR 39 and the source-code rules of TR 55; what emoji, Indic, Arabic and
Mongolian text needs stays.
"""

import html
import re
from collections.abc import Callable

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# LaTeX commands whose first letter JSON reads as an escape. The lone tails of \tau, \to or \ne are also words or the
# starts of words, so those count only in a text that shows other signs of mathematics.
_TAB_SURE = "imes|heta|frac|extbf|extit|extrm|riangle|ilde|herefore"
_TAB_MATHS = "au|o|op|an|anh|ext|binom|ag|hickspace"
_LINE_SURE = "abla|otin|olimits|subseteq|leftarrow|parallel"
_LINE_MATHS = "eq|e|u|i|ot|eg|mid|geq|leq|cong|exists|sim|earrow|warrow|onumber"
_SWALLOWED = re.compile(
    rf"\x08|\x0c|\r(?=[A-Za-z])|\t(?=(?:{_TAB_SURE})(?![A-Za-z]))|\n(?=(?:{_LINE_SURE})(?![A-Za-z]))"
)
_SWALLOWED_MATHS = re.compile(rf"\t(?=(?:{_TAB_MATHS})(?![A-Za-z]))|\n(?=(?:{_LINE_MATHS})(?![A-Za-z.]))")
_MATHS = re.compile(r"\$|\\[A-Za-z(\[]")
# A Windows path, of a drive or a share, with separators that an escape swallowed. A line's end behind a path is more
# often just that: a line feed counts only before a folder's usual name, or before a step that goes on as paths do.
# In code a path's separators are often doubled, and an escape may have swallowed the second half of one.
_STEP = r"(?:\\{1,2}|\\?[\x08\t\n\x0c\r])(?:Program Files(?: \(x86\))?|[\w.$~%-]+)"
# What must not stand before it is looked at last: at every place of a text it would cost more than all the rest.
_PATH = re.compile(rf"(?:[A-Za-z]:(?<![\w/][A-Za-z]:)|\\\\(?<![\w\\]\\\\)[\w.-]+)(?:{_STEP})+\\?")
_BEGINS_PATH = (":\\", ":\n", ":\t", ":\r", ":\x08", ":\x0c", "\\\\")
_FOLDER = "ew|etwork|odejs|ode_modules|ginx|otes|uget|vidia|etlogon|as"
_SEPARATOR = re.compile(rf"[\x08\t\x0c]|\r(?!\n)|\n(?=(?:{_FOLDER})(?!\w)|[\w.$-]+[\\\t\x08\x0c\r]\w)")
ESCAPE_OF = {"\x08": "\\b", "\t": "\\t", "\n": "\\n", "\x0c": "\\f", "\r": "\\r"}

_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\ufff9-\ufffb"
_BIDI = "\u202a-\u202e\u2066-\u2069\u206a-\u206f"
_MARKS = "\u200e\u200f\u061c"
_HIDDEN = "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u3164\ufeff\uffa0\U0001d173-\U0001d17a"
_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe00-\ufe0f\u180b-\u180d\U000e0100-\U000e01ef"
_TAGS = "\U000e0000-\U000e007f"
_SUSPECT = re.compile(f"[{_CONTROL}{_BIDI}{_MARKS}{_HIDDEN}{_JOINERS}{_SELECTORS}{_TAGS}\u2028\u2029]")
_CONTROLS = re.compile(f"[{_CONTROL}]")
_ASCII_SHOWN = bytes([9, 10, 13, *range(0x20, 0x7F)])
LONG_TEXT = 200
_ASCII_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BIDIS = re.compile(f"[{_BIDI}]")
_RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_LETTER = "[^\\W\\d_a-zA-Z]|["
_LETTER += "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u0e31-\u0e4e\u0f71-\u0fbc\u1000-\u109f\u17b6-\u17d3]"
_SYMBOL = "[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff]"
# What a joiner or selector may stand behind, and what must follow a joiner.
_BEFORE_JOINER = re.compile(f"(?:{_LETTER}|{_SYMBOL}|[\ufe0f\U0001f3fb-\U0001f3ff])\\Z")
_AFTER_JOINER = re.compile(f"(?:{_LETTER}|{_SYMBOL})")
_BEFORE_SELECTOR = re.compile(
    "(?:[#*0-9]|[\u00a9\u00ae\u1800-\u18aa\u2010-\u9fff\uf900-\ufaff\U00010000-\U0003ffff])\\Z"
)
_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{1,6}\U000e007f")

_LINK = re.compile(
    r"\](?P<inline>\(\s*+<?)(?=(?P<target>[^\s)>]{0,400}))"
    r"|^(?P<label> {0,3}\[[^\]\n]{1,300}\])(?P<definition>:\s*+<?)(?=(?P<defined>[^\s>]{0,400}))"
    r"|<(?=(?P<auto>[A-Za-z][\w+.\-]{1,31}:))",
    re.MULTILINE,
)
_SCHEME = re.compile(r"[\W_]*([A-Za-z][\w+.\-]*)\s*:")
SCHEMES = frozenset({"http", "https", "mailto"})


def restored(text: str) -> str:
    """Backslashes that a JSON escape swallowed, put back: form feed + "rac" is the "\\frac" that was meant."""
    return _unswallowed(text, lambda found: ESCAPE_OF[found])


def softened(text: str) -> str:
    """For control characters that stand in the raw reply as such: the same words, in a form `restored` leaves alone."""
    return _unswallowed(text, _SOFT.__getitem__)


_SOFT = {"\x08": "", "\t": "  ", "\n": "\n ", "\x0c": "\n ", "\r": "\n "}


# JSON text of which no leaf can change: no escape of a control character but a line feed that begins no command, no
# backslash behind a drive or before a share, and, but for code, no link that is not one of the usual. Any other text
# only costs a closer look.
_PLAIN_ESCAPE = (
    r"(?<![^\w/][A-Za-z]:)(?<!\\n[A-Za-z]:)"
    rf"\\(?:[\"/]|\\(?!\\\\)|n(?!(?:{_LINE_SURE}|{_LINE_MATHS})(?![A-Za-z])))"
)
_NO_LINK = r"<(?![A-Za-z][\w+.\-]{1,31}:)|\](?:(?![(:])|\((?=https?:)|: ?(?=https?:))"
_UNDOUBTED = re.compile(rf"(?:[^\\<\]\x7f]++|{_NO_LINK}|{_PLAIN_ESCAPE})*+\Z")
_UNDOUBTED_CODE = re.compile(rf"(?:[^\\\x7f]++|{_PLAIN_ESCAPE})*+\Z")


def undoubted(raw: str, *, is_code: bool) -> bool:
    """A quick look at a block's JSON text, hidden characters aside: True only when making it safe changes nothing."""
    if "\\" not in raw and "<" not in raw and "](" not in raw and "]:" not in raw and "\x7f" not in raw:
        return True
    return (_UNDOUBTED_CODE if is_code else _UNDOUBTED).match(raw) is not None


def literals_mended(text: str) -> str:
    """In code whose writer left backslashes unescaped: a line break inside a quoted literal is the literal's own."""
    lines = text.split("\n")
    mended = lines[:1]
    for line in lines[1:]:
        before = mended[-1]
        is_open = before.count('"') % 2 == 1 and line.startswith('"') and not line.startswith('"""')
        if is_open:
            mended[-1] = f"{before}\\n{line}"
        else:
            mended.append(line)
    return re.sub(r"([\"'])\t(?=\1)", r"\1\\t", "\n".join(mended))


_IN_DOUBT = re.compile(r"[\w%:\\][\t\n\r][A-Za-z0-9\"']|[\"']\t[\"']")


def in_doubt(text: str) -> bool:
    """For a text whose writer left backslashes unescaped: whether a line break or tab in it may have been one too."""
    return _IN_DOUBT.search(text) is not None


def _unswallowed(text: str, put: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    text = _SWALLOWED.sub(lambda found: put(found[0]), text)
    if any(sign in text for sign in _BEGINS_PATH):
        text = _PATH.sub(lambda path: _path(path[0], put), text)
    return _SWALLOWED_MATHS.sub(lambda found: put(found[0]), text) if _MATHS.search(text) else text


def _path(path: str, put: Callable[[str], str]) -> str:
    """The path with its separators put back, as far as it goes: to the first line feed that is just a line's end."""
    end = len(path)
    for found in re.finditer("\n", path):
        if not _SEPARATOR.match(path, found.start()):
            end = found.start()
            break
    return _SEPARATOR.sub(lambda found: put(found[0]), path[:end]) + path[end:]


def may_hide(text: str) -> bool:
    """A quick look: False means that `visible` gives `text` back unchanged."""
    if text.isascii():
        return not text.isprintable() and _ASCII_CONTROLS.search(text) is not None
    if len(text) > LONG_TEXT:
        # Most of it is ASCII, which goes faster as bytes than by an expression.
        text = text.encode("utf-8", "surrogatepass").translate(None, _ASCII_SHOWN).decode("utf-8", "surrogatepass")
    return _SUSPECT.search(text) is not None


def visible(text: str) -> tuple[str, list[str]]:
    """`text` without what cannot be seen or shown, and the codes of what was taken."""
    if not may_hide(text):
        return text, []
    codes = []
    shown = text.replace("\u2028", "\n").replace("\u2029", "\n")
    if _CONTROLS.search(shown):
        shown = _CONTROLS.sub("", shown)
    if shown != text:
        codes.append("CONTROL")
    without = _BIDIS.sub("", shown)
    if not _RTL.search(without):
        without = re.sub(f"[{_MARKS}]", "", without)
    if without != shown:
        codes.append("BIDI")
    sound = _joined(without)
    if sound != without:
        codes.append("INVISIBLE")
    return sound, codes


_KEPT_OR_NOT = re.compile(f"{_FLAG.pattern}|[{_HIDDEN}{_JOINERS}{_SELECTORS}{_TAGS}]")


def _joined(text: str) -> str:
    """Drops hidden characters; joiners, selectors and tags stay only where a script or an emoji can use them."""
    parts: list[str] = []
    done = 0
    last = ""  # the last character that stays, which decides over a joiner behind it
    for found in _KEPT_OR_NOT.finditer(text):
        parts.append(text[done : found.start()])
        last = parts[-1][-1:] or last
        if _stays(found[0], last, text[found.end() : found.end() + 1]):
            parts.append(found[0])
            last = found[0][-1]
        done = found.end()
    return "".join([*parts, text[done:]])


def _stays(mark: str, before: str, after: str) -> bool:
    if len(mark) > 1:
        return True
    if mark in _JOINERS:
        return bool(_BEFORE_JOINER.match(before)) and bool(_AFTER_JOINER.match(after))
    selector = "\ufe00" <= mark <= "\ufe0f" or "\u180b" <= mark <= "\u180d" or "\U000e0100" <= mark <= "\U000e01ef"
    return selector and bool(_BEFORE_SELECTOR.match(before)) and not re.match(f"[{_SELECTORS}{_TAGS}]", before)


def unlinked(text: str) -> str:
    """`text` with a space set into every Markdown link whose scheme is not allowed, so that it shows as plain text.

    Inline links, autolinks and reference definitions (CommonMark 0.31 sections 6.3, 6.5, 4.7). Relative links have no
    scheme and stay.
    """
    return _LINK.sub(_unlink, text) if "](" in text or "]:" in text or "<" in text else text


def _unlink(found: re.Match[str]) -> str:
    target = html.unescape(found["target"] or found["defined"] or found["auto"] or "")
    scheme = _SCHEME.match(re.sub(r"[\\\x00-\x20\x7f]", "", target))
    if scheme is None or scheme[1].lower() in SCHEMES:
        return found[0]
    opener = found["inline"] or found["definition"] or "<"
    # "<" is kept apart from what follows, or it would start an autolink of its own.
    opener += " " if opener.endswith("<") else ""
    return f"{found['label'] or ']'} {opener}" if found["inline"] or found["definition"] else opener
