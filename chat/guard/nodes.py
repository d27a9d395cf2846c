"""The tree that the tolerant parser reads: JSON's kinds, with places in the text and literals as they were written."""

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(slots=True)
class Text:
    text: str
    start: int
    end: int


@dataclass(slots=True)
class Literal:
    """A number, true, false or null; `lexeme` as written, so that 1.50 stays 1.50. `value` is None for null."""

    lexeme: str
    value: bool | float | None
    start: int
    end: int


@dataclass(slots=True)
class Array:
    start: int
    end: int = -1
    items: list["Node"] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """Members in their order, duplicate keys included."""

    start: int
    end: int = -1
    members: list[tuple[Text, "Node"]] = field(default_factory=list)


Node: TypeAlias = Text | Literal | Array | Record


def as_plain(node: Node) -> object:
    """For comparing two readings: members as a list of pairs, literals as their lexeme."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Literal):
        return (node.lexeme,)
    if isinstance(node, Array):
        return [as_plain(item) for item in node.items]
    return {"members": [(key.text, as_plain(value)) for key, value in node.members]}


def nulls(node: Node) -> list[str]:
    """All spellings of null in the tree: words of the reply that nothing shows."""
    if isinstance(node, Literal):
        return [node.lexeme] if node.value is None else []
    if isinstance(node, Array):
        return [lexeme for item in node.items for lexeme in nulls(item)]
    return [lexeme for _, value in node.members for lexeme in nulls(value)] if isinstance(node, Record) else []
