"""Where a string ends when quotes may be unescaped: the lexical half of the tolerant parser.

Three readings of the same text. TRUSTED believes every unescaped quote. NESTED pairs quotes inside a text and ends it
only where the structure goes on and no inner quote is open. FIRST ends it at the first place where the structure goes
on with a name that the schema knows. Where no quote is in doubt all three agree.
"""

import re
from collections.abc import Set
from dataclasses import dataclass
from enum import Enum

from chat.guard.shapes import KNOWN

# A text with more unescaped quotes than this is no answer, and looking behind each would cost time for nothing.
DOUBT_LIMIT = 4_000
# How far a comment or the name of a member may reach; both bound the work behind a single quote.
COMMENT_LIMIT = 400

_NAMES = "|".join(KNOWN)
_QUOTE = "\"'\u201c\u201e\u201d\u2018\u2019`"
KNOWN_KEY = re.compile(
    rf"[{_QUOTE}]?(?=[A-Za-z_])(?P<name>{_NAMES})[{_QUOTE}]?\s*+(?::(?![/\\])|=>|=(?!=))", re.IGNORECASE
)
ANY_KEY = re.compile(
    r"(?:\"(?:[^\"\\\n]|\\.){1,60}+\"|'[^'\\\n]{1,60}'|[\u201c\u201d\u201e][^\u201c\u201d\n]{1,60}[\u201c\u201d\"]|[^\W\d][\w-]{0,40})"
    r"\s*+(?::(?![/\\])|=>)"
)
LITERAL = re.compile(
    r"(?:-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|True|False|None|NaN|-?Infinity|undefined)"
    r"(?=\s*+(?:[,\]}/#]|\Z))"
)
_BLANK = re.compile(
    rf"(?:[\s\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]++|//[^\n]{{0,{COMMENT_LIMIT}}}+(?=\n|\Z)|/\*[\s\S]{{0,{COMMENT_LIMIT}}}?\*/"
    rf"|#\s[^\n]{{0,{COMMENT_LIMIT}}}+(?=\n|\Z))*+"
)
_BLANK_STARTS = frozenset(
    " \t\n\r\f\v\xa0\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063"
    "\u2064\u2065\u2066\u2067\u2068\u2069\ufeff/#"
)
_FAMILIES = {
    '"': '"', "'": "'", "`": "`",
    "\u201c": "\u201c\u201d\u201e\"", "\u201d": "\u201c\u201d\u201e\"", "\u201e": "\u201c\u201d\u201e\"",
    "\u2018": "\u2018\u2019", "\u2019": "\u2018\u2019",
}  # fmt: skip
QUOTES = frozenset(_FAMILIES)
# The next quote, escaped or not; escapes of anything else are passed over within the match.
_CANDIDATE = {
    quote: re.compile(rf"(?:[^\\{family}]++|\\[^{family}])*+(?P<escape>\\?)[{family}]")
    for quote, family in _FAMILIES.items()
}
_UNESCAPED = {quote: re.compile(rf"(?:[^\\{family}]++|\\[\s\S])*+[{family}]") for quote, family in _FAMILIES.items()}
_OPENS_BEHIND = frozenset(" \t\n\r\xa0([{<=:,-\u2013\u2014/|>*_")
_NOT_OPENING = frozenset(" \t\n\r.,;:!?)]}")


class Reading(Enum):
    TRUSTED = "trusted"
    NESTED = "nested"
    FIRST = "first"


class Hopeless(Exception):
    """The text is beyond a bound: too deep, or with too many faults for any reading to be worth showing."""


class TooMany(Hopeless):
    """More values than any answer holds, in whatever reading."""


@dataclass(slots=True)
class Span:
    """A string's body is text[start:end]; reading goes on at `after`. `inner` counts unescaped quotes inside."""

    start: int
    end: int
    after: int
    inner: int = 0
    closed: bool = True
    doubtful: bool = False


class Lexer:
    """`kinds` is the stack of open containers, "{" or "["; `names` are the keys seen in the innermost record."""

    def __init__(self, text: str, reading: Reading) -> None:
        self.text = text
        self.reading = reading
        self.kinds: list[str] = []
        self.doubts = 0

    def blank(self, at: int) -> int:
        """The first place from `at` that is neither white space nor comment."""
        if self.text[at : at + 1] not in _BLANK_STARTS:
            return at
        found = _BLANK.match(self.text, at)
        return found.end() if found else at

    def string(self, at: int, *, names: Set[str] = frozenset()) -> Span:
        """The string value whose opening quote is at `at`."""
        quote = self.text[at]
        if self.text.startswith(quote * 3, at) and self.text[at + 3 : at + 4] not in (",", "]", "}", ""):
            close = self.text.find(quote * 3, at + 3)
            if close > 0 and self.boundary(close + 3):
                return Span(at + 3, close, close + 3)
        if self.reading is Reading.TRUSTED:
            return self._trusted(at)
        return self._doubted(at, names)

    def _trusted(self, at: int) -> Span:
        found = _UNESCAPED[self.text[at]].match(self.text, at + 1)
        if found is None:
            return self._open_ended(at + 1, 0)
        return Span(at + 1, found.end() - 1, found.end(), doubtful=not self.boundary(found.end()))

    def _doubted(self, at: int, names: Set[str]) -> Span:
        start = place = at + 1
        quote = self.text[at]
        inner = nest = 0
        while found := _CANDIDATE[quote].match(self.text, place):
            here, place = found.end() - 1, found.end()
            if found["escape"]:
                if self._path_end(here, quote):
                    return Span(start, here, place, inner)
                continue
            self._count()
            if self.text.startswith(quote * 3, here):
                here += 2
                place = here + 1
                inner += 2
            strength = self.boundary(place)
            if strength and (nest == 0 or self.reading is Reading.FIRST) and self._ends(strength):
                return Span(start, here, place, inner)
            if self.reading is Reading.FIRST and self._new_member(start, here, names):
                body = self.text[start:here].rstrip()
                end = start + len(body.removesuffix(","))
                return Span(start, end, end, inner, closed=False)
            inner += 1
            nest = self._nested(start, here, nest)
        return self._open_ended(start, inner)

    def _count(self) -> None:
        self.doubts += 1
        if self.doubts > DOUBT_LIMIT:
            raise Hopeless("quotes")

    def _ends(self, strength: int) -> bool:
        return self.reading is Reading.NESTED or strength > 1 or self.kinds[-1:] == ["["]

    def _path_end(self, here: int, quote: str) -> bool:
        """A backslash before the closing quote at `here`: "C:\\temp\\" written without escapes."""
        return self.text[here] == quote and self.text[here - 2].isalnum() and self.boundary(here + 1) > 1

    def _new_member(self, start: int, here: int, names: Set[str]) -> bool:
        """A known name in the place of one, in a text whose closing quote was forgotten."""
        if self.kinds[-1:] != ["{"]:
            return False
        found = KNOWN_KEY.match(self.text, here)
        if found is None or found["name"].lower() in names:
            return False
        before = self.text[max(start, here - 40) : here]
        return before.rstrip().endswith(",") or "\n" in before[len(before.rstrip()) :]

    def _nested(self, start: int, here: int, nest: int) -> int:
        text = self.text
        before = text[here - 1] if here > start else " "
        after = text[here + 1 : here + 2]
        if text[here] in "\u201c\u201e":
            return nest + 1
        if text[here] == "'" and before.isalnum() and after.isalnum():
            return nest
        if before == "n" and text[here - 2] == "\\":
            before = "\n"
        opens = text[here] not in "\u201d" and before in _OPENS_BEHIND and after not in _NOT_OPENING
        return nest + 1 if opens else max(0, nest - 1)

    def _open_ended(self, start: int, inner: int) -> Span:
        """No closing quote to the end. When brackets that close everything stand there, only the quote is missing."""
        body = self.text[start:].rstrip()
        kept = body.rstrip("]} \t\r\n,")
        closers = [character for character in body[len(kept) :] if character in "]}"]
        wanted = ["]" if kind == "[" else "}" for kind in reversed(self.kinds)]
        if closers and closers == wanted:
            return Span(start, start + len(kept), start + len(kept), inner, closed=False)
        return Span(start, len(self.text), len(self.text), inner, closed=False)

    def boundary(self, at: int) -> int:
        """How well a value can end before `at`: 0 not, 1 plausibly, 2 with what only the structure explains."""
        text = self.text
        place = self.blank(at)
        character = text[place : place + 1]
        if not character:
            return 2
        if character == ",":
            return self._after_comma(self.blank(place + 1), self.kinds[-1] if self.kinds else "")
        if character in "]}":
            return self._after_closers(place)
        if not self.kinds:
            return 0
        if self.kinds[-1] == "{":
            return 1 if character == '"' and KNOWN_KEY.match(text, place) else 0
        return self._missing_comma(at, place)

    def _missing_comma(self, at: int, place: int) -> int:
        """In an array: another value right behind, on a new line or, where quotes are paired, after any gap."""
        character = self.text[place]
        if "\n" in self.text[at:place]:
            return int(character in '"{[')
        paired = self.reading is not Reading.FIRST and character == '"'
        return int(paired and (place > at or self.text[place + 1 : place + 2].isalpha()))

    def _after_comma(self, place: int, kind: str) -> int:
        while self.text[place : place + 1] == ",":
            place = self.blank(place + 1)
        character = self.text[place : place + 1]
        if not character:
            return 1
        if character in "]}":
            return 1
        if kind == "{":
            if KNOWN_KEY.match(self.text, place):
                return 2
            return 1 if ANY_KEY.match(self.text, place) else 0
        if character in QUOTES or LITERAL.match(self.text, place):
            return 1
        return 2 if character in "[{" else 0

    def _after_closers(self, place: int) -> int:
        """Whether the brackets at `place` close what is open, and what follows them goes on where they leave off."""
        text = self.text
        depth = len(self.kinds)
        exact = True
        end = place
        while text[place : place + 1] in ("]", "}") and depth >= 0:
            depth -= 1
            exact &= depth >= 0 and text[place] == ("]" if self.kinds[depth] == "[" else "}")
            end = place + 1
            place = self.blank(end)
        follows = text[place : place + 1]
        if not follows:
            return 2 if exact else 1
        if depth <= 0:
            outside = text.startswith(("```", "<", "data:"), place) or "\n" in text[end:place]
            return 2 if outside else int(exact and follows not in '",:]}')
        if follows == ",":
            return self._goes_on(self.blank(place + 1), self.kinds[depth - 1], exact)
        return int(follows == "{" if self.kinds[depth - 1] == "[" else bool(KNOWN_KEY.match(text, place)))

    def _goes_on(self, place: int, kind: str, exact: bool) -> int:
        if exact:
            return self._after_comma(place, kind)
        if self.text[place : place + 1] == "{":
            place = self.blank(place + 1)
        return int(bool(KNOWN_KEY.match(self.text, place)))
