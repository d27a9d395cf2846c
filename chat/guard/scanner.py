"""Blocks out of a reply while it streams in: each as soon as it is closed and valid, and never taken back.

The work for a chunk is that chunk's own length; a block is parsed once, when its bracket closes. At the first sign that
the whole will not be strictly valid the scanner falls silent: the guard's final answer carries the truth.
"""

import re
from typing import Any

from chat.guard.bounds import DEPTH_LIMIT, RAW_LIMIT_BYTES
from chat.guard.fit import BLOCK_LIMIT
from chat.guard.safe import block_safe
from chat.guard.safety import may_hide, undoubted
from chat.guard.schema import block_valid, head_valid
from chat.guard.strict import strict_object

Block = dict[str, Any]

_string_stop = re.compile(r'["\\]').search
_structure_stop = re.compile(r'["\[\]{}]').search
_SPACE = " \t\n\r"

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
        self._hiding = False  # whether a character since the last block's start may have to go
        self._any = False  # whether a block has come yet
        self._held: list[Block] = []

    def feed(self, chunk: str) -> list[tuple[int, Block]]:
        """The blocks that close within `chunk`, with their indexes; chunks may break anywhere."""
        if self._silent or not chunk:
            return []
        if chunk.isascii():
            hides = False
            self._size += len(chunk)
        else:
            # Looked at piece by piece, so that the chunk that closes a block need not look at all of it.
            hides = may_hide(chunk)
            self._hiding |= hides
            self._size += len(chunk.encode("utf-8", "surrogatepass"))
        if self._size > RAW_LIMIT_BYTES:
            self._silent = True
            return []
        before = len(self.emitted)
        start, place = 0, int(self._escaped)
        self._escaped = False
        in_string = self._in_string
        while not self._silent:
            found = (_string_stop if in_string else _structure_stop)(chunk, place)
            if found is None:
                self._parts.append(chunk[start:] if start else chunk)
                break
            place = found.end()
            character = chunk[place - 1]
            if character == '"':
                in_string = not in_string
            elif character == "\\":
                self._escaped = place == len(chunk)
                place += 1
            elif self._bracket(character, chunk[start:place]):
                start = place
                self._hiding = hides
        self._in_string = in_string
        return [] if len(self.emitted) == before else list(enumerate(self.emitted[before:], before))

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
        if self._depth > _BLOCKS + 1:
            self._silent = self._depth > DEPTH_LIMIT
        elif self._depth > _BLOCKS:
            gap = "".join([*self._parts, text]) if self._parts else text
            self._silent = character != "{" or gap[:-1].strip(_SPACE) != ("," if self._any else "")
            self._parts = ["{"]
            return True
        elif self._depth == _ROOT:
            self._silent = character != "{" or bool("".join([*self._parts, text])[:-1].strip(_SPACE))
        elif self._depth == _BLOCKS:
            self._parts.append(text)
            self._silent = character != "[" or not _head_sound("".join(self._parts)[:-1])
            self._parts = []
            return True
        return False

    def _block(self, text: str) -> None:
        try:
            block = strict_object(text)
        except (ValueError, RecursionError):
            self._silent = True
            return
        if not block_valid(block):
            self._silent = True
            return
        is_safe = not self._hiding and undoubted(text, is_code=block["type"] == "code")
        safe = block if is_safe else block_safe(block)
        if safe is not block and not block_valid(safe):
            self._silent = True
            return
        self._any = True
        # The last block that the bound allows waits for the array's end: behind one more, all would be otherwise.
        if len(self.emitted) < BLOCK_LIMIT - 1:
            self.emitted.append(safe)
        elif len(self.emitted) == BLOCK_LIMIT - 1 and not self._held:
            self._held.append(safe)
        else:
            self._silent = True

    def _array_closed(self, character: str, text: str) -> None:
        gap = "".join([*self._parts, text])[:-1]
        if character == "]" and self._depth == _ROOT and not gap.strip(_SPACE):
            self.emitted += self._held
        self._silent = True


def _head_sound(head: str) -> bool:
    """Whether what stands before the array of blocks can begin a strictly valid draft."""
    named, colon = head.strip(_SPACE)[:-1].rstrip(_SPACE), head.rstrip(_SPACE)[-1:]
    before = named.removesuffix('"blocks"').rstrip(_SPACE)
    if colon != ":" or not named.endswith('"blocks"') or not (before == "{" or before.endswith(",")):
        return False
    try:
        members = strict_object(before[:-1] + "}") if before != "{" else {}
    except (ValueError, RecursionError):
        return False
    return head_valid(members)
