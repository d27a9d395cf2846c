"""A parser for what models write instead of JSON: iterative, depth-limited, linear, and with a code for each mend."""

import json
import re

from chat.guard.bounds import DEPTH_LIMIT
from chat.guard.escapes import decoded
from chat.guard.events import Journal
from chat.guard.nodes import Array, Literal, Record, Text, as_plain
from chat.guard.reading import ANY_KEY, KNOWN_KEY, LITERAL, QUOTES, Hopeless, Reading, TooMany
from chat.guard.shapes import ROOT_NAMES, normal
from chat.guard.values import COST_CLOSE, COST_REPEATED_KEY, COST_SLIGHT, COST_STRAY, Frame, Parsed, ValueParser

_LAX = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
_KEY_CLOSERS = {
    '"': '"\u201d', "'": "'\u2019", "`": "`", "\u2018": "\u2018\u2019'", "\u2019": "\u2018\u2019'",
    "\u201c": '"\u201c\u201d', "\u201d": '"\u201c\u201d', "\u201e": '"\u201c\u201d',
}  # fmt: skip
_KEY_BODY = {quote: re.compile(rf"(?:[^\\{closers}]|\\.)*+") for quote, closers in _KEY_CLOSERS.items()}
_BRACKET = re.compile(r"[\[\]{}]")


def parse(text: str, at: int, journal: Journal, *, implied: bool = False) -> Parsed | None:
    """The tree at `at`, a bracket (or, when `implied`, a record's first name); None when no reading makes sense of it.

    When quotes are in doubt the text is read in three ways. The reading with the fewest faults is taken; if another is
    as good and says something else, AMBIGUOUS tells so.
    """
    try:
        trusted = _Parser(text, at, Reading.TRUSTED, journal.attributable).run(implied=implied)
    except TooMany:
        return None
    except Hopeless:
        trusted = None
    if trusted is not None and (not trusted.doubtful or _is_json(text, at)):
        trusted.doubtful = False
        journal.absorb(trusted.journal)
        return trusted
    doubted = [_parsed(text, at, reading, journal.attributable, implied) for reading in (Reading.NESTED, Reading.FIRST)]
    readings = sorted((found for found in (*doubted, trusted) if found is not None), key=lambda found: found.cost)
    if not readings:
        return None
    best = readings[0]
    rivals = [other for other in readings[1:] if other.cost - best.cost <= COST_CLOSE]
    journal.absorb(best.journal)
    if any(as_plain(other.root) != as_plain(best.root) for other in rivals):
        journal.note("AMBIGUOUS", "", at, best.end, before=text[at : best.end])
    return best


def _is_json(text: str, at: int) -> bool:
    """Whether the value at `at` is JSON but for raw line breaks: its quotes then are beyond doubt."""
    try:
        _LAX.raw_decode(text, at)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str, at: int, reading: Reading, attributable: bool, implied: bool) -> Parsed | None:
    try:
        return _Parser(text, at, reading, attributable).run(implied=implied)
    except Hopeless:
        return None


class _Parser(ValueParser):
    def run(self, *, implied: bool) -> Parsed:
        if implied:
            self.note("MISSING_OPEN", self.at, self.at, COST_SLIGHT)
        self._open(implied=implied)
        while self.frames:
            self._skip()
            character = self.text[self.at : self.at + 1]
            frame = self.frames[-1]
            if not character:
                self._cut_off()
            elif character in "]}":
                self._close(character)
            elif character == ",":
                self._comma(frame)
            elif isinstance(frame.node, Record):
                self._member(frame)
            else:
                self._item(frame)
        self.found.end = self.at
        return self.found

    # Containers

    def _open(self, *, implied: bool = False) -> None:
        if len(self.frames) >= DEPTH_LIMIT:
            self._too_deep()
            return
        kind = "{" if implied else self.text[self.at]
        node: Record | Array = Record(self.at) if kind == "{" else Array(self.at)
        if self.frames:
            self._put(node)
        else:
            self.found.root = node
        self.frames.append(Frame(node))
        self.kinds.append(kind)
        self.at += 0 if implied else 1

    def _too_deep(self) -> None:
        """What nests beyond the limit is taken as text, from its bracket to the one that closes it."""
        start, depth = self.at, 0
        self.at = len(self.text)
        for found in _BRACKET.finditer(self.text, start):
            depth += 1 if found[0] in "[{" else -1
            if depth == 0:
                self.at = found.end()
                break
        else:
            self.found.cut = True
        self.note("TOO_DEEP", start, self.at, COST_STRAY)
        self._put(Text(self.text[start : self.at], start, self.at))

    def _pop(self) -> None:
        frame = self.frames.pop()
        self.kinds.pop()
        frame.node.end = self.at
        if isinstance(frame.node, Record):
            names = [key.text for key, _ in frame.node.members]
            self.found.cost += COST_REPEATED_KEY * (len(names) - len(set(names)))

    def _close(self, character: str) -> None:
        frame = self.frames[-1]
        if frame.after == ",":
            self.note("TRAILING_COMMA", self.at, self.at + 1, after="")
        if frame.key is not None:
            self._put(Literal("", None, self.at, self.at))
        if self._matches(character, len(self.frames) - 1):
            self._close_matching()
        else:
            self._close_other(character)

    def _matches(self, character: str, depth: int) -> bool:
        return character == ("]" if self.kinds[depth] == "[" else "}")

    def _close_matching(self) -> None:
        """Closes the innermost container, unless it is the root and its members go on behind the bracket."""
        self.at += 1
        if len(self.frames) == 1 and isinstance(self.frames[0].node, Record):
            place = self.blank(self.at)
            if self.text[place : place + 1] == ",":
                found = KNOWN_KEY.match(self.text, self.blank(place + 1))
                names = {normal(key.text) for key, _ in self.frames[0].node.members}
                if found and normal(found["name"]) in ROOT_NAMES - names:
                    self.note("EXTRA_CLOSE", self.at - 1, self.at, COST_SLIGHT)
                    return
        self._pop()

    def _close_other(self, character: str) -> None:
        """A bracket of the wrong kind: a slip for the right one, one or more missing before it, or one too many."""
        start = self.at
        self.at += 1
        depth = len(self.frames) - 1
        matching = next((level for level in range(depth, -1, -1) if self._matches(character, level)), None)
        if self._continues(depth - 1):
            self._pop()
            self.note("WRONG_CLOSE", start, self.at, COST_SLIGHT)
        elif matching is not None and self._continues(matching - 1):
            while len(self.frames) > matching:
                self._pop()
            self.note("MISSING_CLOSE", start, self.at, COST_SLIGHT)
        else:
            self.note("EXTRA_CLOSE", start, self.at, COST_SLIGHT, after="")

    def _continues(self, depth: int) -> bool:
        """Whether what stands at `at` continues the container at `depth` (-1: what follows the root)."""
        place = self.blank(self.at)
        character = self.text[place : place + 1]
        if depth < 0:
            return not character or character not in ',]}:"'
        if character in ("", "]", "}"):
            return not character or self._matches(character, depth)
        comma = character == ","
        place = self.blank(place + 1) if comma else place
        named = KNOWN_KEY.match(self.text, place) or (comma and ANY_KEY.match(self.text, place))
        if self.kinds[depth] == "{":
            return bool(named)
        return not named and self.text[place : place + 1] in ("{", "[", '"', "'")

    def _cut_off(self) -> None:
        """The text ends first. Only closing brackets are missing when every part of the root has been seen."""
        frame = self.frames[-1]
        if frame.key is not None:
            self._put(Literal("", None, self.at, self.at))
        root = self.frames[0].node
        names = {normal(key.text) for key, _ in root.members} if isinstance(root, Record) else set()
        if (
            len(self.frames) == 1
            and frame.after == "value"
            and not self.found.cut
            and names >= {"title", "summary", "blocks"}
        ):
            self.note("MISSING_CLOSE", self.at, self.at, COST_SLIGHT)
        else:
            self.found.cut = True
        while self.frames:
            self._pop()

    # Members and items

    def _skip(self) -> None:
        end = self.blank(self.at)
        passed = self.text[self.at : end]
        if passed and not passed.isspace() and ("/" in passed or "#" in passed):
            self.note("COMMENT", self.at, end, after="")
            # With quotes in it, it may be a part of the answer that a stray sign turned into a comment: it is shown.
            (self.found.strays if '"' in passed else self.found.dropped).append(passed)
        self.at = end

    def _comma(self, frame: Frame) -> None:
        if frame.key is not None:
            self._put(Literal("", None, self.at, self.at))
        elif frame.after != "value":
            self.note("TRAILING_COMMA", self.at, self.at + 1, after="")
        frame.after = ","
        self.at += 1

    def _separated(self, frame: Frame) -> None:
        if frame.after == "value":
            self.note("MISSING_COMMA", self.at, self.at, COST_SLIGHT)

    def _member(self, frame: Frame) -> None:
        if frame.key is not None:
            self._value()
            return
        if self.text[self.at] in "{[" and len(self.kinds) > 1 and self.kinds[-2] == "[":
            self._pop()
            self.note("MISSING_CLOSE", self.at, self.at, COST_SLIGHT)
            return
        key = self._key()
        if key is None:
            self._stray()
            return
        self._separated(frame)
        frame.key = key
        frame.names.add(key.text.lower())
        self._skip()
        for sign in (":", "=>", "="):
            if self.text.startswith(sign, self.at):
                self.at += len(sign)
                return
        self.note("MISSING_COLON", self.at, self.at, COST_SLIGHT)

    def _key(self) -> Text | None:
        """The name at `at`, or None when there is none; with its colon missing only before the start of a value."""
        start = self.at
        quote = self.text[start]
        known = KNOWN_KEY.match(self.text, start)
        if quote in QUOTES and not (known and self.text[known.end("name")] not in QUOTES):
            body_end = self._key_end(start, quote)
            if body_end is None:
                return None
            if quote != '"':
                self.note("QUOTE_STYLE", start, body_end + 1)
            self.at = body_end + 1
            return Text(decoded(self.text[start + 1 : body_end])[0], start, self.at)
        found = known or ANY_KEY.match(self.text, start)
        if found is None:
            return None
        name = found["name"] if known else re.split(r"[\s:=]", found[0], maxsplit=1)[0]
        self.at = start + found[0].index(name) + len(name)
        if self.text[self.at] in QUOTES:
            self.at += 1
        self.note("UNQUOTED_KEY", start, self.at, after=name)
        return Text(name, start, self.at)

    def _key_end(self, start: int, quote: str) -> int | None:
        found = _KEY_BODY[quote].match(self.text, start + 1, start + 400)
        end = found.end() if found else start
        character = self.text[end : end + 1]
        if character not in QUOTES:
            return None
        place = self.blank(end + 1)
        follows = self.text[place : place + 1]
        if follows in (":", "=", ""):
            return end
        if follows in ("{", "[", '"') and place > end + 1 and normal(self.text[start + 1 : end]):
            return end if KNOWN_KEY.match(self.text[start : end + 1] + ":") else None
        return None

    def _item(self, frame: Frame) -> None:
        named = KNOWN_KEY.match(self.text, self.at) if self.text[self.at] in QUOTES else None
        if named and named["name"].lower() in ("type", "title", "summary", "blocks"):
            self._lost_bracket(frame)
            return
        self._separated(frame)
        self._value()

    def _lost_bracket(self, frame: Frame) -> None:
        """A member's name within an array: the array was not closed, or the record around the member not opened."""
        outer = self.frames[-2].node if len(self.frames) > 1 else None
        found = KNOWN_KEY.match(self.text, self.at)
        name = found["name"].lower() if found else ""
        if isinstance(outer, Record) and name not in {key.text.lower() for key, _ in outer.members}:
            self._pop()
            self.frames[-1].after = ","
            self.note("MISSING_CLOSE", self.at, self.at, COST_SLIGHT)
            return
        self._separated(frame)
        self.note("MISSING_OPEN", self.at, self.at, COST_SLIGHT)
        self._open(implied=True)

    def _value(self) -> None:
        character = self.text[self.at]
        if character in "{[":
            self._open()
        elif character in QUOTES:
            self._string()
        elif found := LITERAL.match(self.text, self.at):
            self._literal(found[0])
        else:
            self._bare()
