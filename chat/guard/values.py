"""Texts and literals as the tolerant parser takes them, each with its codes and its weight against a reading."""

import re
from dataclasses import dataclass, field

from chat.guard.escapes import decoded, without_partial_escape
from chat.guard.events import Journal
from chat.guard.nodes import Array, Literal, Node, Record, Text
from chat.guard.reading import ANY_KEY, KNOWN_KEY, QUOTES, Hopeless, Lexer, Reading, Span, TooMany

STRAY_LIMIT = 200
# More values than a draft can hold in its largest table are no answer.
NODE_LIMIT = 6_000
MEMBER_LIMIT = 1_000
# What a mend says against a reading; only comparisons between readings of one text matter.
COST_STRAY = 10
COST_OPEN_STRING = 8
COST_REPEATED_KEY = 5
COST_SWALLOWED = 6
COST_SLIGHT = 1
# Two readings whose costs lie this close together are both plausible.
COST_CLOSE = 2

_PYTHON = {"True": True, "False": False, "None": None}
_JSON = {"true": True, "false": False, "null": None}
_STRAY = re.compile(r"[^\s,\[\]{}\"]+|[\s\S]")
_BARE_STOP = re.compile(r"[,\]}\n]")
# A member's name within a text: a string that swallowed the structure behind it.
_SWALLOWED = re.compile(
    r"[\"'\u201d]\s{0,80},?\s{0,80}[\"'\u201c](?:title|summary|blocks|type|text|items|rows|columns)[\"'\u201d]\s{0,20}:"
    r"|[\"'\u201d][ \t]{0,9},[ \t]{0,9}\n\s{0,80}[\"'\u201c][^\"\n]{1,60}[\"'\u201d]\s{0,20}:"
)


@dataclass(slots=True)
class Parsed:
    """`end` is where the root ended; `cut` that the text ended first; `dropped` are comments, which nobody shows."""

    root: Node
    end: int
    cut: bool = False
    strays: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    cost: int = 0
    doubtful: bool = False
    journal: Journal = field(default_factory=Journal)


@dataclass(slots=True)
class Frame:
    node: Record | Array
    key: Text | None = None
    names: set[str] = field(default_factory=set)
    is_code: bool = False
    after: str = ""  # what came last: "" nothing, "," or a "value"


class ValueParser(Lexer):
    def __init__(self, text: str, at: int, reading: Reading, attributable: bool) -> None:
        super().__init__(text, reading)
        self.at = at
        self.frames: list[Frame] = []
        self.nodes = 0
        self.found = Parsed(Text("", at, at), at, journal=Journal(attributable=attributable))
        self.journal = self.found.journal

    def pointer(self) -> str:
        steps = []
        for frame in self.frames:
            if isinstance(frame.node, Array):
                steps.append(str(len(frame.node.items)))
            elif frame.key is not None:
                steps.append(frame.key.text.replace("~", "~0").replace("/", "~1")[:60])
        return "".join(f"/{step}" for step in steps)

    def note(self, code: str, start: int, end: int, cost: int = 0, *, after: str | None = None) -> None:
        self.found.cost += cost
        if self.journal.is_full(code):
            self.journal.note(code)
            return
        self.journal.note(code, self.pointer(), start, end, before=self.text[start:end], after=after)

    def _put(self, node: Node) -> None:
        self.nodes += 1
        if self.nodes > NODE_LIMIT:
            raise TooMany("nodes")
        frame = self.frames[-1]
        if isinstance(frame.node, Array):
            frame.node.items.append(node)
        elif frame.key is not None:
            frame.node.members.append((frame.key, node))
            if len(frame.node.members) > MEMBER_LIMIT:
                raise TooMany("members")
            named = frame.key.text == "type" and isinstance(node, Text) and node.text.startswith("code")
            frame.is_code |= named or frame.key.text == "language"
            frame.key = None
        frame.after = "value"

    def _stray(self) -> None:
        found = _STRAY.match(self.text, self.at)
        word = found[0] if found else self.text[self.at]
        self.found.doubtful = True
        self.found.cost += COST_STRAY
        self.found.strays.append(word)
        if len(self.found.strays) > STRAY_LIMIT:
            raise Hopeless("strays")
        self.at += len(word)

    def _string(self) -> None:
        start = self.at
        span = self.string(start, names=self.frames[-1].names)
        body = self.text[span.start : span.end]
        at_end = span.after >= len(self.text) and not span.closed
        text, codes = decoded(without_partial_escape(body) if at_end else body, is_code=self.frames[-1].is_code)
        self._string_notes(start, span, text, codes, at_end)
        self.at = span.after
        self._put(Text(text, start, span.after))

    def _string_notes(self, start: int, span: Span, text: str, codes: list[str], at_end: bool) -> None:
        if self.text[start] != '"' or self.text.startswith('"""', start):
            codes.append("QUOTE_STYLE")
        if span.inner:
            codes.append("UNESCAPED_QUOTE")
        if span.doubtful:
            self.found.doubtful = True
            self.found.cost += COST_STRAY
        if not span.closed:
            self.found.doubtful |= self.reading is Reading.TRUSTED and bool(_SWALLOWED.search(text))
            if at_end:
                self.found.cut = True
            else:
                codes += ["MISSING_QUOTE", "AMBIGUOUS"] if _SWALLOWED.search(text) else ["MISSING_QUOTE"]
            self.found.cost += COST_OPEN_STRING
        self.found.cost += COST_SWALLOWED * min(9, len(_SWALLOWED.findall(text)))
        self.found.cost += span.inner % 2
        for code in codes:
            self.note(code, start, span.after, after=text)

    def _literal(self, lexeme: str) -> None:
        value: bool | float | None
        if lexeme in _JSON:
            value = _JSON[lexeme]
        elif lexeme in _PYTHON:
            value = _PYTHON[lexeme]
            self.note("PY_LITERAL", self.at, self.at + len(lexeme))
        elif lexeme == "undefined":
            value = None
            self.note("PY_LITERAL", self.at, self.at + len(lexeme))
        else:
            value = 0.0
            if lexeme[-1] in "Ny":
                self.note("NAN", self.at, self.at + len(lexeme), after=lexeme)
        self.at += len(lexeme)
        self._put(Literal(lexeme, value, self.at - len(lexeme), self.at))

    def _bare(self) -> None:
        """Words without quotes around them, up to where the structure goes on."""
        start = place = self.at
        record = self.kinds[-1] == "{"
        while True:
            found = _BARE_STOP.search(self.text, place)
            end = found.start() if found else len(self.text)
            if not found or found[0] != "," or not record or self._named(end + 1):
                break
            place = end + 1
        body = self.text[start:end].rstrip()
        if not body:
            self._stray()
            return
        self.at = start + len(body)
        quoted = body[-1] in QUOTES
        body = body[:-1] if quoted else body
        text, codes = decoded(body)
        if '"' in body:
            self.found.doubtful = True
            self.found.cost += COST_STRAY
        for code in (*codes, "MISSING_QUOTE" if quoted else "UNQUOTED_VALUE"):
            self.note(code, start, self.at, COST_SLIGHT, after=text)
        if not found:
            self.found.cut = True
        self._put(Text(text, start, self.at))

    def _named(self, at: int) -> bool:
        return bool(ANY_KEY.match(self.text, self.blank(at)) or KNOWN_KEY.match(self.text, self.blank(at)))
