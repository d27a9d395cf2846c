"""A record's members, taken by their agreed names or the aliases that models use, and texts made of any node."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from chat.guard.bounds import DEPTH_LIMIT
from chat.guard.events import Journal
from chat.guard.nodes import Array, Literal, Node, Record, Text, as_plain, nulls
from chat.guard.shapes import normal
from chat.guard.tolerant import parse

EMBEDDED_LIMIT = 3


@dataclass(slots=True)
class Alignment:
    """What align keeps book of: `used` are names and values turned structure, `extras` lines to show at the end."""

    journal: Journal
    used: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    nulls: list[str] = field(default_factory=list)
    embedded: int = 0

    def note(self, code: str, pointer: str, node: Node | Text, after: str | None = None) -> None:
        before = node.text if isinstance(node, Text) else None
        self.journal.note(code, pointer, node.start, node.end, before=before, after=after)

    def set_apart(self, name: str, node: Node, pointer: str, anchor: Node) -> None:
        """A member that was not agreed: shown at the end, unless there is nothing in it to show."""
        self.note("EXTRA_KEYS", f"{pointer}/{name[:60]}", anchor)
        shown = flat(node)
        if shown.strip():
            self.extras.append(f"{name}: {shown}")
        else:
            self.used += [name, *literals(node)]

    def unpacked(self, node: Node, pointer: str, opener: str = "{[") -> Node:
        """The tree inside a text that holds JSON, else the node itself."""
        if not isinstance(node, Text) or self.embedded >= EMBEDDED_LIMIT:
            return node
        text = node.text.strip()
        if text[:1] not in opener or not text or text[-1] not in "]}":
            return node
        inner = Journal(attributable=False)
        parsed = parse(text, 0, inner)
        if parsed is None or parsed.doubtful or parsed.cut or text[parsed.end :].strip():
            return node
        self.embedded += 1
        self.nulls += nulls(parsed.root)
        self.journal.absorb(inner)
        self.note("DOUBLE_ENCODED", pointer, node)
        return parsed.root


class Fields:
    """The members of `record`, each taken at most once."""

    def __init__(self, record: Record, pointer: str, alignment: Alignment) -> None:
        self.record = record
        self.pointer = pointer
        self.alignment = alignment
        self.members: dict[str, list[tuple[Text, Node]]] = {}
        for key, value in record.members:
            self.members.setdefault(normal(key.text) or key.text, []).append((key, value))

    def has(self, names: Sequence[str]) -> bool:
        return any(normal(name) in self.members for name in names)

    def peek(self, names: Sequence[str]) -> Node | None:
        return next((self.members[normal(name)][0][1] for name in names if normal(name) in self.members), None)

    def take(self, names: Sequence[str]) -> Node | None:
        """The member by the first of `names` that is there; the first is the agreed one, any other gives KEY_ALIAS."""
        for name in names:
            members = self.members.pop(normal(name), None)
            if members is None:
                continue
            if members[0][0].text != names[0]:
                self.alignment.note("KEY_ALIAS", f"{self.pointer}/{names[0]}", members[0][0], names[0])
            self.alignment.used += [key.text for key, _ in members]
            return members[0][1] if len(members) == 1 else self._merged(names[0], members)
        return None

    def _merged(self, name: str, members: list[tuple[Text, Node]]) -> Node:
        """One node from several of the same name: equal ones once, lists end to end, texts joined, the rest extra."""
        pointer = f"{self.pointer}/{name}"
        self.alignment.note("DUP_KEY", pointer, members[1][0])
        first, rest = members[0][1], [value for _, value in members[1:]]
        different = []
        for value in rest:
            if as_plain(value) == as_plain(first):
                self.alignment.used.append(flat(value))
            else:
                different.append(value)
        if isinstance(first, Array) and all(isinstance(value, Array) for value in different):
            items = [item for value in (first, *different) if isinstance(value, Array) for item in value.items]
            return Array(first.start, first.end, items)
        if name == "text" and isinstance(first, Text) and all(isinstance(value, Text) for value in different):
            return Text("\n\n".join(flat(value) for value in (first, *different)), first.start, first.end)
        for value in different:
            self.alignment.set_apart(name, value, self.pointer, value)
        return first

    def rest(self) -> None:
        """Whatever nobody took is shown at the end."""
        for members in self.members.values():
            for key, value in members:
                self.alignment.set_apart(key.text, value, self.pointer, key)
        self.members = {}


def literals(node: Node) -> list[str]:
    """All names and literals in a node that has no text to show."""
    if isinstance(node, Literal):
        return [node.lexeme]
    if isinstance(node, Array):
        return [lexeme for item in node.items for lexeme in literals(item)]
    if isinstance(node, Record):
        return [text for key, value in node.members for text in (key.text, *literals(value))]
    return []


def is_empty(node: Node | None) -> bool:
    return node is None or (isinstance(node, Literal) and node.value is None)


def flat(node: Node, depth: int = 0) -> str:
    """Any node as text with all its words, for places that want a text."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Literal):
        return "" if node.value is None else node.lexeme
    if depth > DEPTH_LIMIT:
        return ""
    if isinstance(node, Array):
        parts = [flat(item, depth + 1) for item in node.items]
        return "; ".join(part for part in parts if part)
    return "; ".join(f"{key.text}: {flat(value, depth + 1)}" for key, value in node.members)


_MARK = re.compile(r"\s*(?:[-*+\u2022\u2013\u25cf\u25aa]\s+|(?P<number>\d{1,3})[.)]\s+)")


def list_lines(text: str) -> tuple[list[str], bool]:
    """The items of a list that was written as one text, and whether they were numbered 1, 2, 3.

    Markers go only where every item has one and, for numbers, where they count from 1: else they may mean something.
    """
    lines = [line for line in re.split(r"\n+", text) if line.strip()]
    if len(lines) == 1 and text.count("\u2022") > 1:
        lines = [f"\u2022 {part.strip()}" for part in text.split("\u2022") if part.strip()]
    if len(lines) == 1 and re.search(r";\s", text):
        return [part.strip() for part in re.split(r";\s+", text) if part.strip()], False
    marks = [_MARK.match(line) for line in lines]
    items = [line[mark.end() :] if mark else line for line, mark in zip(lines, marks, strict=True)]
    numbers = [mark["number"] for mark in marks if mark]
    if len(numbers) < len(lines):
        return [line.strip() for line in lines], False
    if all(number is None for number in numbers):
        return items, False
    if numbers == [str(n) for n in range(1, len(lines) + 1)]:
        return items, True
    return [line.strip() for line in lines], False
