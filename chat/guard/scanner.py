"""Blocks out of a reply while it streams in: each as soon as it is closed and valid, and never taken back.

The work for a chunk is that chunk's own length; a block is parsed once, when its bracket closes. At the first sign that
the whole will not be strictly valid the scanner falls silent: the guard's final answer carries the truth.
"""

import re
from typing import Any

from chat.guard.bounds import DEPTH_LIMIT, RAW_LIMIT_BYTES
from chat.guard.fit import BLOCK_LIMIT
from chat.guard.safe import block_safe
from chat.guard.schema import DRAFT_FIELDS, block_valid, draft_valid
from chat.guard.strict import strict_json

Block = dict[str, Any]

_STRING_STOP = re.compile(r'["\\]')
_STRUCTURE_STOP = re.compile(r'["\[\]{}]')
_HEAD_END = re.compile(r'(?:[{,])\s*"blocks"\s*:\s*\Z')
_FIRST_GAP = re.compile(r"[ \t\n\r]*\Z")
_NEXT_GAP = re.compile(r"[ \t\n\r]*,[ \t\n\r]*\Z")
_FILLER: Block = {"type": "markdown", "text": ""}

# Depths of brackets: 1 inside the root, 2 inside the array of blocks.
_ROOT, _BLOCKS = 1, 2


class Scanner:
    """`emitted` are all blocks given out so far, for the guard's argument of that name."""

    def __init__(self) -> None:
        self.emitted: list[Block] = []
        self._parts: list[str] = []  # the text since the last block, or since the start
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._size = 0
        self._silent = False
        self._last: Block | None = None
        self._held: list[Block] = []

    def feed(self, chunk: str) -> list[tuple[int, Block]]:
        """The blocks that close within `chunk`, with their indexes; chunks may break anywhere."""
        if self._silent or not chunk:
            return []
        self._size += len(chunk) if chunk.isascii() else len(chunk.encode("utf-8", "surrogatepass"))
        if self._size > RAW_LIMIT_BYTES:
            self._silent = True
            return []
        before = len(self.emitted)
        place = start = 0
        if self._escaped:
            self._escaped = False
            place = 1
        while not self._silent:
            found = (_STRING_STOP if self._in_string else _STRUCTURE_STOP).search(chunk, place)
            if found is None:
                self._parts.append(chunk[start:] if start else chunk)
                break
            place = found.end()
            character = found[0]
            if character == "\\":
                self._escaped = place == len(chunk)
                place += 1
            elif character == '"':
                self._in_string = not self._in_string
            elif self._bracket(character, chunk[start:place]):
                start = place
        return list(enumerate(self.emitted[before:], before)) if len(self.emitted) > before else []

    def _bracket(self, character: str, text: str) -> bool:
        """True when `text`, up to and with the bracket, has been dealt with."""
        if character in "{[":
            return self._opened(character, text)
        self._depth -= 1
        if self._depth == _BLOCKS:
            self._parts.append(text)
            self._block("".join(self._parts))
            self._parts = []
            return True
        if self._depth < _BLOCKS:
            self._array_closed(character, text)
            return True
        return False

    def _opened(self, character: str, text: str) -> bool:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            self._silent = True
        elif self._depth == _ROOT:
            self._silent = character != "{" or bool("".join([*self._parts, text])[:-1].strip(" \t\n\r"))
        elif self._depth == _BLOCKS:
            self._parts.append(text)
            self._silent = character != "[" or not _head_sound("".join(self._parts)[:-1])
            self._parts = []
            return True
        elif self._depth == _BLOCKS + 1:
            gap = "".join([*self._parts, text])[:-1]
            follows = _NEXT_GAP if self._last is not None else _FIRST_GAP
            self._silent = character != "{" or not follows.match(gap)
            self._parts = ["{"]
            return True
        return False

    def _block(self, text: str) -> None:
        try:
            block = strict_json(text)
        except (ValueError, RecursionError):
            self._silent = True
            return
        if not block_valid(block):
            self._silent = True
            return
        safe = block_safe(block)
        if safe is not block and not block_valid(safe):
            self._silent = True
            return
        self._last = safe
        # The last block that the bound allows waits for the array's end: behind one more, all would be otherwise.
        if len(self.emitted) < BLOCK_LIMIT - 1:
            self.emitted.append(safe)
        elif len(self.emitted) == BLOCK_LIMIT - 1 and not self._held:
            self._held.append(safe)
        else:
            self._silent = True

    def _array_closed(self, character: str, text: str) -> None:
        gap = "".join([*self._parts, text])[:-1]
        if character == "]" and self._depth == _ROOT and _FIRST_GAP.match(gap):
            self.emitted += self._held
        self._silent = True


def _head_sound(head: str) -> bool:
    """Whether what stands before the array of blocks can begin a strictly valid draft."""
    found = _HEAD_END.search(head)
    if found is None:
        return False
    try:
        members = strict_json(head[: found.start()] + "}" if head[found.start()] == "," else "{}")
    except (ValueError, RecursionError):
        return False
    if not isinstance(members, dict) or not members.keys() <= set(DRAFT_FIELDS) - {"blocks"}:
        return False
    return draft_valid({"title": "-", "summary": "", **members, "blocks": [_FILLER]})
