"""What a cut leaves at the end of a reply that is no content: half a name, half a kind, a block with nothing in it."""

import re
from typing import Any

from chat.guard.draft import block_text

# Members that hold no text of the model's: a kind cut in two says nothing to a reader.
_TAIL = re.compile(
    r'[{,]\s*(?:"(?:type|tone|ordered|language)"\s*:\s*"?[A-Za-z]*"?|"[a-z_]{0,20}(?:"\s*(?::\s*)?)?)\s*\Z'
)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[{}\[\]]', re.S)


def tail_cut(text: str) -> str:
    """`text` without a member's name, or a kind, that breaks off at its end; else as it is."""
    found = _TAIL.search(text, max(len(text) - 80, 0))
    if found is None or not _expects_member(text, found.start()):
        return text
    return text[: found.start() + 1] if text[found.start()] == "{" else text[: found.start()]


def _expects_member(text: str, place: int) -> bool:
    """Whether the bracket or comma at `place` stands in an object, outside any string."""
    opened = []
    for found in _STRUCTURE.finditer(text):
        if found.start() > place:
            break
        mark = found[0]
        if mark in "{[":
            opened.append(mark)
        elif mark in "}]":
            if opened:
                opened.pop()
        elif found.end() > place:
            return False
    return bool(opened) and opened[-1] == "{"


def blank_dropped(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without a last block that was begun and shows nothing, unless it is the only one."""
    blank = not any(character.isalnum() for character in block_text(blocks[-1]))
    return blocks[:-1] if blank and len(blocks) > 1 else blocks
