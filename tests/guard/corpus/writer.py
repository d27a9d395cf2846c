"""Writes a tree as JSON in pieces that faults can alter one by one, and says which text each piece stands for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

FORM_KEYS = {"type", "kind", "block_type", "tone", "level", "severity", "ordered", "numbered", "citations", "id"}


@dataclass(frozen=True)
class Piece:
    """`raw` as written; for a character, `text` is what it decodes to and `leaf` the number of the text it is in."""

    raw: str
    kind: str  # open, close, comma, colon, key, quote, keyquote, char, literal, space
    text: str = ""
    leaf: int = -1
    content: bool = False
    depth: int = 0


class Pairs(list[tuple[str, Any]]):
    """An object that may hold a key twice."""


@dataclass(frozen=True)
class Bare:
    """Written as is, without quotes: a number, NaN, true."""

    raw: str


@cache
def spelled(char: str, ascii_only: bool) -> str:
    return json.dumps(char, ensure_ascii=ascii_only)[1:-1]


class Writer:
    def __init__(self, *, indent: int | None, ascii_only: bool = False) -> None:
        self.indent = indent
        self.ascii_only = ascii_only
        self.leaf = 0

    def write(self, tree: Any) -> list[Piece]:
        return list(self._value(tree, 0, content=True))

    def _space(self, depth: int) -> Piece:
        return Piece("" if self.indent is None else "\n" + " " * (self.indent * depth), "space", depth=depth)

    def _value(self, tree: Any, depth: int, *, content: bool) -> Iterator[Piece]:
        match tree:
            case Bare(raw):
                yield Piece(raw, "literal", text=raw, depth=depth)
            case str():
                yield from self._text(tree, depth, content=content)
            case dict():
                yield from self._object(Pairs(tree.items()), depth, content=content)
            case Pairs():
                yield from self._object(tree, depth, content=content)
            case list():
                yield from self._array(tree, depth, content=content)
            case _:
                yield Piece(json.dumps(tree), "literal", depth=depth)

    def _text(self, text: str, depth: int, *, content: bool) -> Iterator[Piece]:
        self.leaf += 1
        yield Piece('"', "quote", depth=depth)
        for char in text:
            raw = spelled(char, self.ascii_only)
            yield Piece(raw, "char", text=char, leaf=self.leaf, content=content, depth=depth)
        yield Piece('"', "quote", depth=depth)

    def _object(self, pairs: Pairs, depth: int, *, content: bool) -> Iterator[Piece]:
        yield Piece("{", "open", depth=depth)
        for number, (key, value) in enumerate(pairs):
            if number:
                yield Piece("," if self.indent is not None else ", ", "comma", depth=depth + 1)
            yield self._space(depth + 1)
            yield Piece('"', "keyquote", depth=depth + 1)
            yield Piece(json.dumps(key, ensure_ascii=False)[1:-1], "key", text=key, depth=depth + 1)
            yield Piece('"', "keyquote", depth=depth + 1)
            yield Piece(": ", "colon", depth=depth + 1)
            yield from self._value(value, depth + 1, content=content and key not in FORM_KEYS)
        yield self._space(depth)
        yield Piece("}", "close", depth=depth)

    def _array(self, values: list[Any], depth: int, *, content: bool) -> Iterator[Piece]:
        yield Piece("[", "open", depth=depth)
        for number, value in enumerate(values):
            if number:
                yield Piece("," if self.indent is not None else ", ", "comma", depth=depth + 1)
            yield self._space(depth + 1)
            yield from self._value(value, depth + 1, content=content)
        yield self._space(depth)
        yield Piece("]", "close", depth=depth)


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.raw for piece in pieces)


def texts(pieces: list[Piece]) -> list[str]:
    """What the pieces still say: every content text, cut where the pieces are cut; blank ones left out."""
    said: dict[int, str] = {}
    for piece in pieces:
        if piece.kind == "char" and piece.content:
            said[piece.leaf] = said.get(piece.leaf, "") + piece.text
    return [text for text in said.values() if text.strip()]


def cut(pieces: list[Piece], where: int) -> list[Piece]:
    """The pieces up to character `where`; a character cut in two loses its text and keeps its raw start."""
    kept: list[Piece] = []
    for piece in pieces:
        if where <= 0:
            break
        kept.append(piece if len(piece.raw) <= where else replace(piece, raw=piece.raw[:where], text=""))
        where -= len(piece.raw)
    return kept


def some(rng: Random, numbers: list[int], share: float) -> set[int]:
    """A non-empty random part of the numbers, about `share` of them."""
    return {number for number in numbers if rng.random() < share} or ({rng.choice(numbers)} if numbers else set())
