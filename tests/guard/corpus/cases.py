"""One malformed answer in the making, and the register of faults."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.guard.corpus.draft import Draft, leaves
from tests.guard.corpus.writer import Piece, Writer, joined

STAGES = ("tree", "doc", "raw")


@dataclass
class Case:
    """`tree` is what is written, `answer` what was meant. `must` is None while it is every leaf of the answer."""

    shape: str
    answer: Draft | None
    tree: Any
    rng: Random
    must: list[str] | None = None
    extra: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    raw: str = ""
    stop: str = "stop"
    harmless: bool = True
    cut: bool = False

    @classmethod
    def of(cls, shape: str, answer: Draft, rng: Random) -> "Case":
        return cls(shape, copy.deepcopy(answer), copy.deepcopy(answer), rng)

    def write(self) -> None:
        self.pieces = Writer(indent=self.rng.choice([None, 2, 2, 4]), ascii_only=self.rng.random() < 0.15).write(
            self.tree
        )

    def rewrite(self, *, indent: int | None, ascii_only: bool = False) -> None:
        self.pieces = Writer(indent=indent, ascii_only=ascii_only).write(self.tree)

    def join(self) -> None:
        self.raw = joined(self.pieces)

    def survivors(self) -> list[str]:
        told = self.must if self.must is not None else leaves(self.answer or {"title": "", "summary": "", "blocks": []})
        return [text for text in [*told, *self.extra] if text.strip()]

    def both(self, change: Callable[[Draft], object]) -> None:
        """The same change to what was meant and to what is written."""
        if self.answer is not None:
            change(self.answer)
        change(self.tree)

    def blocks(self, kind: str) -> list[int]:
        return [number for number, block in enumerate(self.tree["blocks"]) if block.get("type") == kind]


Apply = Callable[[Case, str], bool | None]


@dataclass(frozen=True)
class Fault:
    name: str
    group: str
    stage: str
    flavours: tuple[str, ...]
    each: int
    apply: Apply
    only: str = ""


FAULTS: dict[str, Fault] = {}


def fault(group: str, stage: str, *flavours: str, each: int = 2, only: str = "") -> Callable[[Apply], Apply]:
    """Registers a fault. `apply` returns False where there is nothing to break; `each`: variants a flavour."""

    def register(apply: Apply) -> Apply:
        name = getattr(apply, "__name__", "")
        FAULTS[name] = Fault(name, group, stage, flavours or ("",), each, apply, only)
        return apply

    return register
